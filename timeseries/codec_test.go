package timeseries

import (
	"bytes"
	"encoding/hex"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sampleEvent() Event {
	return Event{Series: []byte("ATL"), Time: -7, ID: []byte("1"), Items: []Item{
		{[]byte("a"), Value{Kind: String, Text: []byte("text")}}, {[]byte("b"), Value{Kind: Int, Int: -300}},
		{[]byte("c"), Value{Kind: Double, Double: 2.5}}, {[]byte("d"), Value{Kind: Bytes, Text: []byte{0, 1}}},
	}}
}

func samplePayload() []byte {
	e := sampleEvent()
	return appendEvent(appendWrite(nil, AppendRefusals(nil, []Refusal{{300, TooOld}, {301, Blocked}})), &e)
}

// TestPayloadGoldenBytes holds the format still.
func TestPayloadGoldenBytes(t *testing.T) {
	t.Parallel()
	got := hex.EncodeToString(samplePayload()) + "\n" + hex.EncodeToString(appendDelete(nil, []byte("ATL"))) + "\n"
	const file = "testdata/payload_v1.hex"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("the encoding of a payload has changed:\n got %s\nwant %s", got, want)
	}
	var c Call
	raw, err := hex.DecodeString(strings.Split(got, "\n")[0])
	if err == nil {
		err = DecodePayload(raw, &c)
	}
	if err != nil || len(c.events) != 1 || c.events[0].time != -7 {
		t.Fatalf("golden bytes decode to %+v, %v", c, err)
	}
	items, err := DecodeItems(nil, c.events[0].items)
	if e := sampleEvent(); err != nil || len(items) != 4 || !items[2].Value.Equal(&e.Items[2].Value) {
		t.Errorf("items decode to %+v, %v", items, err)
	}
	rs, err := DecodeRefusals(c.Refused)
	if err != nil || len(rs) != 2 || rs[0] != (Refusal{300, TooOld}) || rs[1] != (Refusal{301, Blocked}) {
		t.Errorf("refusals decode to %v, %v", rs, err)
	}
}

// FuzzDecodePayload: whatever bytes a record has, they are refused or read, and what is
// read is written again as it was.
func FuzzDecodePayload(f *testing.F) {
	f.Add(samplePayload())
	f.Add(appendDelete(nil, []byte("ATL")))
	f.Add([]byte{1, 1, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Call
		if DecodePayload(b, &c) != nil {
			return
		}
		for i := range c.events {
			items, err := DecodeItems(nil, c.events[i].items)
			if err != nil {
				continue
			}
			again := AppendItems(nil, items)
			if back, err := DecodeItems(nil, again); err != nil || len(back) != len(items) {
				t.Fatalf("items %x are written as %x: %v", c.events[i].items, again, err)
			}
			merged, err := MergeItems(nil, again, again)
			if err != nil || !bytes.Equal(merged, again) {
				t.Fatalf("items merged with themselves are %x, not %x: %v", merged, again, err)
			}
		}
		_, _ = DecodeRefusals(c.Refused)
	})
}

func TestNumbersCompareAsNumbers(t *testing.T) {
	t.Parallel()
	i := func(v int64) Value { return Value{Kind: Int, Int: v} }
	d := func(v float64) Value { return Value{Kind: Double, Double: v} }
	s := func(v string) Value { return Value{Kind: String, Text: []byte(v)} }
	for _, c := range []struct {
		a, b Value
		want bool
	}{
		{i(2), d(2), true},
		{d(2.5), i(2), false},
		{i(0), d(math.Copysign(0, -1)), true},
		{i(1<<53 + 1), d(1 << 53), false},
		{i(math.MaxInt64), d(1 << 63), false},
		{i(math.MinInt64), d(-(1 << 63)), true},
		{s("2"), i(2), false},
		{s("x"), Value{Kind: Bytes, Text: []byte("x")}, false},
		{s("x"), s("x"), true},
	} {
		if c.a.Equal(&c.b) != c.want || c.b.Equal(&c.a) != c.want {
			t.Errorf("%+v equals %+v: %v", c.a, c.b, !c.want)
		}
	}
}

// TestSlicesHaveNoGapsThatATimeFallsInto: wherever events fall and whatever the settings
// were, a new slice holds its time and overlaps no other.
func TestSlicesHaveNoGapsThatATimeFallsInto(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all Slices
		for range rapid.IntRange(1, 40).Draw(t, "slices") {
			at := rapid.Int64Range(-1e10, 1e10).Draw(t, "time")
			set := &Settings{Slice: time.Duration(rapid.IntRange(60, 4000).Draw(t, "seconds")) * time.Second}
			if x, found := all.Of(at); found {
				if at < x.Start || at >= x.End {
					t.Fatalf("slice %v is to hold %d", x, at)
				}
				continue
			}
			x := all.New(at, set)
			if at < x.Start || at >= x.End || x.End-x.Start > set.Slice.Microseconds() {
				t.Fatalf("new slice %v is to hold %d and to be %v long", x, at, set.Slice)
			}
			all = all.With(x)
			for i := 1; i < len(all); i++ {
				if all[i-1].End > all[i].Start {
					t.Fatalf("slices overlap: %v", all)
				}
			}
		}
	})
}

func TestWhatIsAccepted(t *testing.T) {
	t.Parallel()
	second := time.Second.Microseconds()
	set := &Settings{AcceptLimit: 10 * time.Second, AcceptFuture: 5 * time.Second, CloseAfter: 30 * time.Second, Blocked: map[string]bool{"b": true}}
	now := 100 * second
	in := Slice{Start: 0, End: 200 * second}
	for _, c := range []struct {
		series string
		t      int64
		in     Slice
		want   Why
	}{
		{"a", now, in, 0},
		{"a", now - 10*second, in, 0},
		{"a", now - 10*second - 1, in, TooOld},
		{"a", now + 5*second, in, 0},
		{"a", now + 5*second + 1, in, TooNew},
		{"b", now, in, Blocked},
		{"a", now, Slice{Start: 0, End: now - 30*second}, SliceClosed},
		{"a", now, Slice{Start: 0, End: now - 30*second + 1}, 0},
	} {
		if got := set.judge([]byte(c.series), c.t, now, now, c.in, 0); got != c.want {
			t.Errorf("%+v is judged %d", c, got)
		}
	}
	if got := set.judge([]byte("a"), now-60*second, now, now, in, time.Minute); got != 0 {
		t.Errorf("within the grace it is judged %d", got)
	}
	day := 86_400 * second // a message waited for so long
	if got := set.judge([]byte("a"), now, now+day, now, Slice{End: now + 2*day}, 0); got != 0 {
		t.Errorf("an event that was sent in time and came late is judged %d", got)
	}
	if got := set.judge([]byte("a"), now, now+day, now, in, 0); got != SliceClosed {
		t.Errorf("an event of a slice that has closed meanwhile is judged %d", got)
	}
}
