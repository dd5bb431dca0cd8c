package server

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
)

const withEvents = "storage:\n  - {role: PRIMARY, type: pebble}\n  - {role: EVENTS, %s}\n"

// recounted verifies every counter of tally, and returns what each comes to.
func recounted(t *testing.T, s *Server, when string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, x := range call(t, s, "Counter.ListCounts", `{"namespace":"tally","pageSize":1000,"accuracy":"ACCURATE"}`).field(t, "counts").([]any) {
		name := x.(map[string]any)["counter"].(string)
		r := call(t, s, "Counter.VerifyCount", `{"namespace":"tally","counter":"`+name+`"}`)
		is(t, when+", verify "+name, r, "drift", "0", "recounted", fmt.Sprint(r.field(t, "stored.value")))
		out[name] = fmt.Sprint(r.field(t, "recounted"))
	}
	if len(out) < 12 {
		t.Fatalf("%s: %d counters", when, len(out))
	}
	return out
}

// sumOfSeries is what the points of a counter come to over a day around now.
func sumOfSeries(t *testing.T, s *Server, name, granularity string) (sum, adds int64) {
	t.Helper()
	from, to := s.broker.Now().Add(-time.Hour), s.broker.Now().Add(time.Minute)
	r := call(t, s, "Counter.GetCountSeries", fmt.Sprintf(`{"namespace":"tally","counter":"%s","granularity":"%s","interval":{"start":"%s","end":"%s"}}`,
		name, granularity, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)))
	is(t, "series", r)
	for _, x := range r.field(t, "points").([]any) {
		p := x.(map[string]any)
		a, errA := strconv.ParseInt(fmt.Sprint(p["sum"]), 10, 64)
		b, errB := strconv.ParseInt(fmt.Sprint(p["adds"]), 10, 64)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		sum, adds = sum+a, adds+b
	}
	return sum, adds
}

// eventRows is how many rows of events a store has in its own Pebble.
func eventRows(t *testing.T, st *store) (n int) {
	t.Helper()
	for p := range wal.Partition(st.x.log.Info().Partitions) {
		snap, err := st.backend.(*counterBackend).pebble.Snapshot(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		err = snap.EventsFrom(0, func(wal.Offset, []byte) bool { n++; return true })
		if cerr := snap.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
	}
	return n
}

// sweepAll sweeps a namespace to the end of a round, but for stores whose server is away.
func sweepAll(t *testing.T, x *space) {
	t.Helper()
	for p := range wal.Partition(x.log.Info().Partitions) {
		for range 2 {
			for more := true; more; {
				var err error
				if more, err = x.sweepPartition(t.Context(), p, 1000); err != nil && !errors.Is(err, consumers.ErrStoreAway) {
					t.Fatal(err)
				}
			}
		}
	}
}

// trimAll trims the log of a namespace to where its stores are.
func trimAll(t *testing.T, x *space) {
	t.Helper()
	for p := range wal.Partition(x.log.Info().Partitions) {
		if err := x.primary().backend.save(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		b, err := x.log.Bounds(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		floor := retention.Floor{Durable: int64(b.End), Parked: retention.Unparked}
		if err := x.trimTo(t.Context(), p, b, floor, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEventsOfCounters: a store of role EVENTS follows the PRIMARY and recounts are answered from it.
func TestEventsOfCounters(t *testing.T) {
	t.Parallel()
	eventsOfCounters(t, t.TempDir(), "type: pebble", open)
}

// eventsOfCounters writes what does not all do what it says, adds a store of role EVENTS, drops it, and
// adds another, which begins as a copy.
func eventsOfCounters(t *testing.T, dir, kind string, start func(*testing.T, string) *Server) {
	s := start(t, dir)
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc))
	}
	doc := stored["tally"]
	w := &storeWrites{t: t, s: s}
	w.round()
	before := recounted(t, s, "from the PRIMARY")
	refused(t, "a series of no window", call(t, s, "Counter.GetCountSeries", `{"namespace":"tally","counter":"c1","granularity":"7s","interval":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T01:00:00Z"}}`), 400, "HW-1037", "")
	is(t, "add EVENTS", applyDoc(t, s, doc+fmt.Sprintf(withEvents, kind)))
	storeOf(t, s, "tally", "events", "SERVING")
	if after := recounted(t, s, "from EVENTS"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("counted again as %v, and by the PRIMARY as %v", after, before)
	}
	w.round()
	recounted(t, s, "after writes")
	for i := range 6 {
		name := fmt.Sprint("c", i)
		sum, adds := sumOfSeries(t, s, name, "60s")
		if fine, n := sumOfSeries(t, s, name, "7s"); fine != sum || n != adds || n == 0 {
			t.Errorf("%s by 7 s comes to %d in %d, and by its windows to %d in %d", name, fine, n, sum, adds)
		}
	}

	x := spaceOf(t, s, "tally")
	events := x.store("events")
	refused(t, "two EVENTS", applyDoc(t, s, doc+fmt.Sprintf(withEvents, kind)+"  - {role: EVENTS, type: pebble, name: more}\n"), 400, "HW-1019", "NOT_APPLIED")
	for _, method := range []string{"CompareStore", "PromoteStore", "RollbackStore"} {
		refused(t, method, call(t, s, "Admin."+method, `{"namespace":"tally","store":"events"}`), 501, "HW-1107", "")
	}
	sweepAll(t, x)
	if n := eventRows(t, x.primary()); n != 0 {
		t.Errorf("the PRIMARY keeps %d rows of events that EVENTS has", n)
	}
	recounted(t, s, "after a sweep")
	// The PRIMARY has no events: this is what EVENTS has.
	r := call(t, s, "Counter.VerifyCount", `{"namespace":"tally","counter":"x1"}`)
	is(t, "events of x1", r, "recounted", "2")

	closeServer(t, s)
	s = start(t, dir)
	w.s, x = s, spaceOf(t, s, "tally")
	storeOf(t, s, "tally", "events", "SERVING")
	until(t, "EVENTS is open", func() bool { events = x.store("events"); return events != nil })
	recounted(t, s, "after a restart")
	w.again("after a restart")
	w.round()
	recounted(t, s, "after a restart and writes")

	is(t, "drop EVENTS", call(t, s, "Admin.DropStore", `{"namespace":"tally","store":"events","confirm":"events"}`))
	recounted(t, s, "without EVENTS")
	w.round()
	recounted(t, s, "without EVENTS, after writes")
	trimAll(t, x)
	is(t, "add EVENTS again", applyDoc(t, s, doc+strings.Replace(fmt.Sprintf(withEvents, kind), "EVENTS,", "EVENTS, name: late,", 1)))
	storeOf(t, s, "tally", "late", "SERVING")
	recounted(t, s, "from a copy")
	w.round()
	recounted(t, s, "from a copy, after writes")
	if late := x.store("late"); isRemote(late.conf) && eventRows(t, late) != 0 {
		t.Error("events of a store on ClickHouse are on this machine")
	}
	w.again("at the end")
	closeServer(t, s)
}

// TestEventsAreNotFoldedBeforeEventsHasThem: while the store of role EVENTS stands still, the PRIMARY keeps
// what that lacks, whatever its age.
func TestEventsAreNotFoldedBeforeEventsHasThem(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	doc := "namespace: tally\nabstraction: counter\nlog: {partitions: 1}\ncounter: {event_retention: 1ms}\n"
	is(t, "make", applyDoc(t, s, doc+fmt.Sprintf(withEvents, "type: pebble")))
	storeOf(t, s, "tally", "events", "SERVING")
	x := spaceOf(t, s, "tally")
	add := func() {
		t.Helper()
		is(t, "add", send(t, s, "POST", "/v1/counter/tally/c?by=1", ""), "appliedDelta", "1")
	}
	add()
	is(t, "verify", call(t, s, "Counter.VerifyCount", `{"namespace":"tally","counter":"c"}`), "recounted", "1", "drift", "0")
	events := x.store("events")
	held := events.savedOffset(0)
	events.loop.Part(0).Hold(held)
	for range 5 {
		add()
	}
	until(t, "the events are old", func() bool { add(); return s.broker.Now().UnixMicro()-x.progress.LogTime(0) >= 0 })
	if err := x.primary().backend.save(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	sweepAll(t, x)
	if st, err := x.primary().backend.(*counterBackend).pebble.Saved(t.Context(), 0); err != nil || st.Folded > held {
		t.Errorf("folded up to %d, and EVENTS stands at %d: %v", st.Folded, held, err)
	}
	events.loop.Part(0).Release()
	r := call(t, s, "Counter.VerifyCount", `{"namespace":"tally","counter":"c"}`)
	is(t, "verify", r, "drift", "0", "recounted", fmt.Sprint(r.field(t, "stored.value")))
	sweepAll(t, x)
	is(t, "verify what is folded", call(t, s, "Counter.VerifyCount", `{"namespace":"tally","counter":"c"}`), "drift", "0")
	if f := (&counterBackend{st: events}).fold(0); *f != (counter.Fold{Retention: time.Millisecond, UpTo: math.MaxInt64}) {
		t.Errorf("EVENTS folds %+v", f)
	}
	closeServer(t, s)
}

// TestARebuildWithoutWritesEndsEvents: what was left out of the PRIMARY is in EVENTS, which is given up.
func TestARebuildWithoutWritesEndsEvents(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	is(t, "make", applyDoc(t, s, stored["tally"]+fmt.Sprintf(withEvents, "type: pebble")))
	for _, token := range []string{"t1", "t2"} {
		is(t, "add", send(t, s, "POST", "/v1/counter/tally/c?by=5", "", "Idempotency-Key", token), "appliedDelta", "5")
	}
	storeOf(t, s, "tally", "events", "SERVING")
	rebuilt(t, s, "tally", `"omit":[{"key":"t2"}]`, "rebuild")
	m := storeOf(t, s, "tally", "events", "FAILED")
	if msg := fmt.Sprint(m["message"]); !strings.Contains(msg, "built without writes") {
		t.Errorf("EVENTS says %q", msg)
	}
	until(t, "a recount is the PRIMARY's", func() bool {
		r := call(t, s, "Counter.VerifyCount", `{"namespace":"tally","counter":"c"}`)
		return r.status == 200 && r.field(t, "recounted") == "5" && r.field(t, "drift") == "0"
	})
	closeServer(t, s)
}
