package counter

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sampleCalls has every operation, and every field of each.
func sampleCalls() []struct {
	name string
	call Call
} {
	name := []byte("likes/42")
	var adds []byte
	for _, a := range []Add{
		{Counter: name, Delta: 1},
		{Counter: []byte("x"), Delta: -300, EventTime: 1_700_000_000_000_000},
		{Counter: []byte("y"), Delta: math.MinInt64, TTL: 60_000_000},
		{Counter: []byte("z"), Delta: math.MaxInt64, EventTime: -5, TTL: 1, Token: wal.Token{GenerationTime: 7, Nonce: wal.Nonce{1, 15: 2}}, Hash: wal.Hash{3, 15: 4}},
	} {
		adds = AppendAdd(adds, &a)
	}
	return []struct {
		name string
		call Call
	}{
		{"add", Call{Op: OpAdd, Adds: adds}},
		{"add and get", Call{Op: OpAddAndGet, Add: Add{Counter: name, Delta: 5}}},
		{"add and get within bounds", Call{
			Op: OpAddAndGet, Add: Add{Counter: name, Delta: -5, EventTime: 9, TTL: 8},
			Bounds: Bounds{HasFloor: true, Floor: -7, HasCeiling: true, Ceiling: 1 << 40, Saturate: true},
		}},
		{"clear", Call{Op: OpClear, Add: Add{Counter: name}}},
		{"reserve", Call{Op: OpReserve, Add: Add{Counter: name}, Amount: 100, Lease: 30 * time.Second}},
		{"settle", Call{Op: OpSettle, Add: Add{Counter: name}, Reservation: wal.TokenID{5, 15: 6}, Amount: 99}},
		{"settle all", Call{Op: OpSettle, Add: Add{Counter: name}, Reservation: wal.TokenID{5, 15: 6}, All: true}},
		{"cancel", Call{Op: OpCancel, Add: Add{Counter: name}, Reservation: wal.TokenID{5, 15: 6}}},
	}
}

// sampleRow is an event row with every kind of event, and its head.
func sampleRow() (row []byte, head EventRow, events []Event) {
	head = EventRow{Offset: 1000, LogTime: 1_700_000_000_000_000, AcceptedAt: 1_699_999_999_999_000, Nonce: wal.Nonce{9, 15: 8}}
	events = []Event{
		{ID: 1, Prev: wal.NoOffset, Delta: 1, Time: head.AcceptedAt},
		{ID: 2, Prev: 999, Delta: math.MinInt64, Time: -1},
		{ID: 1, Prev: 1000, Kind: EventClear, Time: head.AcceptedAt},
		{ID: 1 << 40, Prev: 0, Kind: EventSettle, Delta: math.MaxInt64, Time: 1 << 60},
	}
	row = appendEventHead(nil, &head)
	for i := range events {
		row = appendEvent(row, &head, &events[i])
	}
	return row, head, events
}

// golden compares lines "name: hex" with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
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
		t.Errorf("the format has changed, %s:\n got\n%s\nwant\n%s", file, got, want)
	}
}

func TestPayloadGoldenBytes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, s := range sampleCalls() {
		fmt.Fprintf(&b, "%s: %s\n", s.name, hex.EncodeToString(AppendPayload(nil, &s.call)))
	}
	golden(t, "testdata/payload_v1.txt", b.String())
}

func TestEventRowGoldenBytes(t *testing.T) {
	t.Parallel()
	row, _, _ := sampleRow()
	golden(t, "testdata/events_v1.txt", hex.EncodeToString(row)+"\n")
}

func TestEventRowRoundTrip(t *testing.T) {
	t.Parallel()
	row, head, events := sampleRow()
	r, err := NewEventReader(head.Offset, row)
	if err != nil || r.Row != head {
		t.Fatalf("head %+v %v, want %+v", r, err, head)
	}
	var e Event
	for _, want := range events {
		if ok, err := r.Next(&e); !ok || err != nil || e != want {
			t.Errorf("%+v %v %v, want %+v", e, ok, err, want)
		}
	}
	if ok, err := r.Next(&e); ok || err != nil {
		t.Errorf("after the last: %v %v", ok, err)
	}
	for n := range len(row) {
		if err := readRow(head.Offset, row[:n]); err != nil && !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := NewEventReader(0, append([]byte{2}, row[1:]...)); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("of another version: %v", err)
	}
}

func readRow(o wal.Offset, row []byte) error {
	r, err := NewEventReader(o, row)
	if err != nil {
		return err
	}
	var e Event
	for {
		if ok, err := r.Next(&e); err != nil || !ok {
			return err
		}
	}
}

// sameCall compares calls; adds are compared as they read.
func sameCall(a, b *Call) bool {
	x, y := *a, *b
	x.Adds, y.Adds = nil, nil
	same := x.Op == y.Op && sameAdd(&x.Add, &y.Add) && x.Bounds == y.Bounds && x.Amount == y.Amount && x.Lease == y.Lease &&
		x.Reservation == y.Reservation && x.All == y.All
	return same && bytes.Equal(a.Adds, b.Adds)
}

func sameAdd(a, b *Add) bool {
	return bytes.Equal(a.Counter, b.Counter) && a.Delta == b.Delta && a.EventTime == b.EventTime && a.TTL == b.TTL && a.Token == b.Token &&
		(a.Hash == b.Hash || a.Token.IsZero())
}

func readAdds(b []byte) (adds []Add, err error) {
	r := NewAddReader(b)
	for {
		var a Add
		ok, err := r.Next(&a)
		if err != nil || !ok {
			return adds, err
		}
		adds = append(adds, a)
	}
}

func genName(t *rapid.T) []byte {
	return []byte(rapid.StringOfN(rapid.RuneFrom([]rune("ab/é")), 0, 200, -1).Draw(t, "name"))
}

func genNonce(t *rapid.T) (n wal.Nonce) {
	copy(n[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))
	return n
}

func genAdd(t *rapid.T) Add {
	a := Add{Counter: genName(t), Delta: rapid.Int64().Draw(t, "delta")}
	if rapid.Bool().Draw(t, "timed") {
		a.EventTime = rapid.Int64().Draw(t, "event time")
	}
	if rapid.Bool().Draw(t, "mortal") {
		a.TTL = rapid.Int64Min(1).Draw(t, "ttl")
	}
	if rapid.Bool().Draw(t, "own") {
		a.Token = wal.Token{GenerationTime: rapid.Int64Min(1).Draw(t, "generated"), Nonce: genNonce(t)}
		a.Hash = wal.Hash(genNonce(t))
	}
	return a
}

func genCall(t *rapid.T) Call {
	c := Call{Op: Op(rapid.IntRange(int(OpAdd), int(OpCancel)).Draw(t, "op"))}
	if c.Op == OpAdd {
		for range rapid.IntRange(0, 5).Draw(t, "adds") {
			a := genAdd(t)
			c.Adds = AppendAdd(c.Adds, &a)
		}
		return c
	}
	c.Add.Counter = genName(t)
	switch c.Op {
	case OpAddAndGet:
		c.Add = genAdd(t)
		c.Bounds.Saturate = rapid.Bool().Draw(t, "saturate")
		if c.Bounds.HasFloor = rapid.Bool().Draw(t, "has floor"); c.Bounds.HasFloor {
			c.Bounds.Floor = rapid.Int64().Draw(t, "floor")
		}
		if c.Bounds.HasCeiling = rapid.Bool().Draw(t, "has ceiling"); c.Bounds.HasCeiling {
			c.Bounds.Ceiling = rapid.Int64().Draw(t, "ceiling")
		}
	case OpReserve:
		c.Amount = rapid.Int64Range(1, math.MaxInt64).Draw(t, "amount")
		c.Lease = time.Duration(rapid.Int64Range(0, MaxLease.Microseconds()).Draw(t, "lease")) * time.Microsecond
	case OpSettle:
		c.Reservation = wal.TokenID(genNonce(t))
		if c.All = rapid.Bool().Draw(t, "all"); !c.All {
			c.Amount = rapid.Int64().Draw(t, "amount")
		}
	case OpCancel:
		c.Reservation = wal.TokenID(genNonce(t))
	}
	return c
}

func TestPayloadRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genCall(t)
		b := AppendPayload(nil, &want)
		var got Call
		if err := DecodePayload(b, &got); err != nil || !sameCall(&got, &want) {
			t.Fatalf("%+v became %+v %v", want, got, err)
		}
		for _, op := range []Op{OpAddAndGet, OpClear, OpReserve, OpSettle, OpCancel} {
			if want.Op != op {
				continue
			}
			if err := DecodePayload(append(b[:len(b):len(b)], 0), &got); !errors.Is(err, wal.ErrMalformed) {
				t.Fatalf("with a byte behind it: %v", err)
			}
			n := rapid.IntRange(2, len(b)-1).Draw(t, "cut")
			if err := DecodePayload(b[:n], &got); !errors.Is(err, wal.ErrMalformed) {
				t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
			}
		}
	})
}

func TestAddsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		want := rapid.SliceOfN(rapid.Custom(genAdd), 0, 8).Draw(t, "adds")
		for i := range want {
			b = AppendAdd(b, &want[i])
		}
		got, err := readAdds(b)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d adds became %d: %v", len(want), len(got), err)
		}
		for i := range want {
			if !sameAdd(&got[i], &want[i]) {
				t.Fatalf("%+v became %+v", want[i], got[i])
			}
		}
	})
}

func TestDecodePayloadRefuses(t *testing.T) {
	t.Parallel()
	name := "\x01a"
	long := AppendPayload(nil, &Call{Op: OpReserve, Add: Add{Counter: []byte("a")}, Lease: MaxLease + time.Microsecond})
	for _, c := range []struct {
		what, bytes string
		want        error
	}{
		{"nothing", "", wal.ErrMalformed},
		{"a version alone", "\x01", wal.ErrMalformed},
		{"version 0", "\x00\x01", wal.ErrUnknownVersion},
		{"version 2", "\x02\x01", wal.ErrUnknownVersion},
		{"operation 0", "\x01\x00", wal.ErrMalformed},
		{"operation 7", "\x01\x07", wal.ErrMalformed},
		{"no add", "\x01\x02", wal.ErrMalformed},
		{"bounds of an unknown kind", "\x01\x02\x02a\x02\x08", wal.ErrMalformed},
		{"a settle of neither kind", "\x01\x05" + name + strings.Repeat("n", 16) + "\x02", wal.ErrMalformed},
		{"a name longer than the payload", "\x01\x03\x05a", wal.ErrMalformed},
		{"a name of 2^63 bytes", "\x01\x03\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01a", wal.ErrMalformed},
		{"a lease above the largest", string(long), wal.ErrMalformed},
		{"a lease below zero", "\x01\x04" + name + "\x02\x01", wal.ErrMalformed},
	} {
		var got Call
		if err := DecodePayload([]byte(c.bytes), &got); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	for _, c := range []struct{ what, bytes string }{
		{"a name cut short", "\x04a"},
		{"no delta", "\x02a"},
		{"more, and nothing", "\x03a\x02"},
		{"flags 0", "\x03a\x02\x00"},
		{"flags of an unknown kind", "\x03a\x02\x08"},
		{"no event time", "\x03a\x02\x01"},
		{"a time to live of 0", "\x03a\x02\x02\x00"},
		{"a time to live above int64", "\x03a\x02\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
		{"a token cut short", "\x03a\x02\x04" + strings.Repeat("n", 39)},
	} {
		if _, err := readAdds([]byte(c.bytes)); !errors.Is(err, wal.ErrMalformed) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// FuzzDecodePayload: no bytes make it panic, and what it reads is written in one
// way, which reads the same.
func FuzzDecodePayload(f *testing.F) {
	for _, s := range sampleCalls() {
		f.Add(AppendPayload(nil, &s.call))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again Call
		if err := DecodePayload(b, &c); err != nil {
			if !errors.Is(err, wal.ErrMalformed) && !errors.Is(err, wal.ErrUnknownVersion) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		out := AppendPayload(nil, &c)
		if err := DecodePayload(out, &again); err != nil || !sameCall(&c, &again) {
			t.Errorf("%x reads %+v, is written %x, and reads %+v %v", b, c, out, again, err)
		}
		if third := AppendPayload(nil, &again); !bytes.Equal(out, third) {
			t.Errorf("written in two ways: %x, %x", out, third)
		}
		if len(out) > len(b) {
			t.Errorf("%d bytes are written as %d: ours are the shortest", len(b), len(out))
		}
	})
}

// FuzzAddReader is FuzzDecodePayload for adds.
func FuzzAddReader(f *testing.F) {
	f.Add(sampleCalls()[0].call.Adds)
	f.Fuzz(func(t *testing.T, b []byte) {
		adds, err := readAdds(b)
		if err != nil {
			if !errors.Is(err, wal.ErrMalformed) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		var out []byte
		for i := range adds {
			out = AppendAdd(out, &adds[i])
		}
		again, err := readAdds(out)
		if err != nil || len(again) != len(adds) {
			t.Fatalf("%d adds are written as %x and read as %d: %v", len(adds), out, len(again), err)
		}
		var third []byte
		for i := range adds {
			if !sameAdd(&adds[i], &again[i]) {
				t.Errorf("%+v became %+v", adds[i], again[i])
			}
			third = AppendAdd(third, &again[i])
		}
		if !bytes.Equal(out, third) {
			t.Errorf("written in two ways: %x, %x", out, third)
		}
	})
}

// FuzzEventReader: no bytes make it panic, and what it reads can be written and
// reads the same.
func FuzzEventReader(f *testing.F) {
	row, head, _ := sampleRow()
	f.Add(int64(head.Offset), row)
	f.Fuzz(func(t *testing.T, offset int64, b []byte) {
		if offset < 0 {
			return
		}
		o := wal.Offset(offset)
		r, err := NewEventReader(o, b)
		if err != nil {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		var events []Event
		for {
			var e Event
			ok, err := r.Next(&e)
			if err != nil && !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("error of no kind: %v", err)
			}
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if e.Prev < wal.NoOffset || e.Prev > o {
				t.Errorf("event of row %d comes after row %d", o, e.Prev)
			}
			events = append(events, e)
		}
		out := appendEventHead(nil, &r.Row)
		for i := range events {
			out = appendEvent(out, &r.Row, &events[i])
		}
		again, err := NewEventReader(o, out)
		if err != nil || again.Row != r.Row {
			t.Fatalf("head %+v became %+v %v", r.Row, again, err)
		}
		for i := range events {
			var e Event
			if ok, err := again.Next(&e); !ok || err != nil || e != events[i] {
				t.Errorf("%+v became %+v %v %v", events[i], e, ok, err)
			}
		}
	})
}

// A reservation of nothing, or of less, would raise what is available.
func TestAReservationOfNothingIsMalformed(t *testing.T) {
	t.Parallel()
	for _, amount := range []int64{0, -1, math.MinInt64} {
		b := AppendPayload(nil, &Call{Op: OpReserve, Add: Add{Counter: []byte("c")}, Amount: amount, Lease: time.Second})
		if err := DecodePayload(b, &Call{}); !errors.Is(err, wal.ErrMalformed) {
			t.Errorf("amount %d: %v", amount, err)
		}
	}
}
