package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/retention"
)

// trim trims the log to the store and the tokens with no window, which a
// namespace cannot have: its shortest is a minute.
func (l *life) trim() {
	l.t.Helper()
	x := l.b.st.x
	durable, err := l.b.pebble.Sync(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range x.log.Info().Partitions {
		p := partition(i)
		b, err := x.log.Bounds(l.t.Context(), p)
		if err != nil {
			l.t.Fatal(err)
		}
		f := retention.Floor{Durable: int64(durable[p] + 1), Parked: retention.Unparked}
		if err := x.trimTo(l.t.Context(), p, b, f, 0, x.ns.Config().Retention, nil); err != nil {
			l.t.Fatal(err)
		}
		if b, err = x.log.Bounds(l.t.Context(), p); err != nil {
			l.t.Fatal(err)
		}
		if b.Start == 0 || b.Start > durable[p]+1 {
			l.t.Fatalf("partition %d begins at %d, its store is durable at %d", p, b.Start, durable[p])
		}
	}
}

// TestATrimmedLogOfCountersLosesNothing: neither counts nor tokens nor holds; and
// a store from before what was trimmed is refused.
func TestATrimmedLogOfCountersLosesNothing(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	l := newLife(t, "log: {partitions: 2, retention: 0s}\n")
	const names = 8
	add := func(token string) reply {
		var adds []string
		for n := range names {
			adds = append(adds, fmt.Sprintf(`{"counter":"c%d","delta":%d,"eventTime":"2026-01-01T00:00:00Z"}`, n, n+1))
		}
		return l.call("AddCounts", `"adds":[`+strings.Join(adds, ",")+`],"token":{"key":"`+token+`"}`)
	}
	is(t, "add", add("1"), "result.duplicate", "NO")
	id := l.call("ReserveCount", `"counter":"c3","amount":2,"lease":"3600s","token":{"key":"hold"}`).field(t, "reservationId").(string)
	l.restart() // flushes
	old := t.TempDir()
	l.close()
	stores := filepath.Join(l.dir, "stores")
	if err := os.CopyFS(old, os.DirFS(stores)); err != nil {
		t.Fatal(err)
	}
	l.restart()
	is(t, "add", add("2"), "result.duplicate", "NO")
	is(t, "add", add("3"), "result.duplicate", "NO")
	l.is("ListCounts", `"pageSize":1`) // flushes
	l.trim()
	is(t, "behind the trimmed part", add("4"), "result.duplicate", "NO")
	check := func(when string) {
		t.Helper()
		for n := range names {
			body, v := fmt.Sprintf(`"counter":"c%d"`, n), strconv.Itoa(4*(n+1))
			is(t, when, l.call("GetCount", body+`,"accuracy":"ACCURATE"`), "count.value", v)
			is(t, when, l.call("VerifyCount", body), "stored.value", v, "recounted", v, "drift", "0")
		}
		for _, token := range []string{"1", "2", "3", "4"} {
			is(t, when+": the token "+token, add(token), "result.duplicate", "YES")
		}
		is(t, when, l.call("ReserveCount", `"counter":"c3","amount":2,"lease":"3600s","token":{"key":"hold"}`), "reservationId", id, "result.duplicate", "YES")
		series := l.call("GetCountSeries", `"counter":"c7","interval":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z"},"granularity":"60s"`)
		if got := fmt.Sprint(series.field(t, "points")); got != "[map[adds:4 start:2026-01-01T00:00:00Z sum:32]]" {
			t.Errorf("%s: series: %s", when, got)
		}
	}
	check("trimmed")
	l.restart()
	check("after a restart")
	l.close()

	// A store that does not reach to where the log begins now.
	now := t.TempDir()
	if err := os.CopyFS(now, os.DirFS(stores)); err != nil {
		t.Fatal(err)
	}
	for what, from := range map[string]string{"an older copy": old, "nothing": t.TempDir()} {
		if err := errors.Join(os.RemoveAll(stores), os.CopyFS(stores, os.DirFS(from))); err != nil {
			t.Fatal(err)
		}
		l.restart()
		if l.b != nil {
			t.Fatalf("%s is served", what)
		}
		if r := l.call("GetCount", `"counter":"c0"`); r.status < 500 {
			t.Errorf("%s: a read: %s", what, r)
		}
		if r := add("5"); r.status < 500 || r.field(t, "outcome") != "NOT_APPLIED" {
			t.Errorf("%s: a write: %s", what, r)
		}
		if st := call(t, l.s, "Admin.Status", `{"namespace":"`+lifeName+`"}`); !strings.Contains(st.body, "the store of namespace "+lifeName) || !strings.Contains(st.body, "in neither") {
			t.Errorf("%s: status: %s", what, st)
		}
		is(t, what+": another namespace", onCounter(t, l.s, "AddAndGetCount", `"counter":"a","delta":1`))
		l.close()
	}
	if err := errors.Join(os.RemoveAll(stores), os.CopyFS(stores, os.DirFS(now))); err != nil {
		t.Fatal(err)
	}
	l.restart()
	check("with its own store again")
}
