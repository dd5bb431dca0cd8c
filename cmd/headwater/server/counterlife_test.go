package server

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// life is a server with a counter namespace that only the test sweeps and trims.
type life struct {
	t   *testing.T
	dir string
	s   *Server
	b   *counterBackend
}

const lifeName = "short"

// newLife makes the namespace with what doc says beyond its name.
func newLife(t *testing.T, doc string) *life {
	t.Helper()
	wholeOnly(t)
	l := &life{t: t, dir: t.TempDir()}
	l.s = open(t, l.dir)
	is(t, "apply", call(t, l.s, "Namespace.ApplyNamespace", fmt.Sprintf(`{"config":%q}`, "namespace: "+lifeName+"\nabstraction: counter\n"+doc)))
	l.adopt()
	t.Cleanup(func() { l.close() })
	return l
}

func (l *life) adopt() {
	l.b = nil
	if x := l.s.spaces.counters()[lifeName]; x != nil {
		l.b = x.primary().backend.(*counterBackend)
	}
	if l.b != nil {
		l.b.st.x.removeTargets()
	}
}

func (l *life) close() {
	l.t.Helper()
	if l.s != nil {
		closeServer(l.t, l.s)
		l.s = nil
	}
}

func (l *life) restart() {
	l.t.Helper()
	l.close()
	l.s = open(l.t, l.dir)
	l.adopt()
}

func (l *life) call(method, body string) reply {
	l.t.Helper()
	return call(l.t, l.s, "Counter."+method, `{"namespace":"`+lifeName+`",`+body+`}`)
}

// is calls, and checks fields of the answer.
func (l *life) is(method, body string, pairs ...string) {
	l.t.Helper()
	is(l.t, method+" "+body, l.call(method, body), pairs...)
}

// sweepUntil does whole rounds of every partition, as if its turn had come, until
// the store is as done says: a flush takes what a round decides there.
func (l *life) sweepUntil(what string, done func() bool) {
	l.t.Helper()
	x := l.b.st.x
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			l.t.Fatalf("after 20 s of sweeping: not %s", what)
		}
		for i := range x.log.Info().Partitions {
			for more := true; more; {
				var err error
				if more, err = x.sweepPartition(l.t.Context(), partition(i), 2); err != nil {
					l.t.Fatal(err)
				}
			}
		}
	}
}

func (l *life) row(name string) (counter.Row, bool) {
	l.t.Helper()
	p := wal.PartitionOf([]byte(name), l.b.st.x.log.Info().Partitions)
	rows, found := make([]counter.Row, 1), make([]bool, 1)
	if err := l.b.pebble.Counters(l.t.Context(), p, [][]byte{[]byte(name)}, rows, found); err != nil {
		l.t.Fatal(err)
	}
	return rows[0], found[0]
}

// kept is what the store has of a partition's events, and of one id.
type kept struct {
	events, windows int
	base            counter.Base
}

func (l *life) kept(p wal.Partition, id uint64) (k kept) {
	l.t.Helper()
	snap, err := l.b.pebble.Snapshot(l.t.Context(), p)
	if err != nil {
		l.t.Fatal(err)
	}
	err = snap.EventsFrom(0, func(wal.Offset, []byte) bool { k.events++; return true })
	for _, size := range l.b.st.x.ns.Config().Counter.Windows {
		err = errors.Join(err, snap.Windows(id, size, 0, math.MaxInt64, func(int64, counter.Bucket) bool { k.windows++; return true }))
	}
	base, berr := snap.Base(id)
	k.base = base
	if err := errors.Join(err, berr, snap.Close()); err != nil {
		l.t.Fatal(err)
	}
	return k
}

// age makes all events older than a millisecond: by log time, which only records
// move, so that the newest events of a partition never are. names have counters
// in every partition.
func (l *life) age(names ...string) {
	l.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for from := l.s.broker.Now(); l.s.broker.Now().Sub(from) < 2*time.Millisecond; {
		<-tick.C
	}
	var adds []string
	for _, n := range names {
		adds = append(adds, `{"counter":"`+n+`","delta":0}`)
	}
	l.is("AddCounts", `"adds":[`+strings.Join(adds, ",")+`]`)
}

// TestAnIdleCounterIsGoneForReadersAndLaterForTheStore: at its time, although
// nobody writes; its row, windows and events by the sweeps after that.
func TestAnIdleCounterIsGoneForReadersAndLaterForTheStore(t *testing.T) {
	t.Parallel()
	l := newLife(t, "log: {partitions: 1}\ncounter: {ttl: 1s, event_retention: 1ms}\n")
	for i := range 5 { // of several windows, so that some are written out
		l.is("AddAndGetCount", fmt.Sprintf(`"counter":"idle","delta":2,"eventTime":"2026-01-01T0%d:00:00Z"`, i))
	}
	l.is("AddAndGetCount", `"counter":"fixed","delta":1,"ttl":"3600s"`)
	l.is("VerifyCount", `"counter":"idle"`, "drift", "0")
	row, ok := l.row("idle")
	if !ok {
		t.Fatal("no row")
	}
	if k := l.kept(0, row.ID); k.windows == 0 || k.events != 6 {
		t.Fatalf("kept at first: %+v", k)
	}
	end := l.b.st.x.ns.Stream.Progress().Applied(0)
	eventually(t, http.StatusOK, func() reply {
		r := l.call("GetCount", `"counter":"idle"`)
		if r.status == http.StatusOK && r.field(t, "count.value") != "0" {
			r.status = http.StatusAccepted
		}
		return r
	})
	gone := func(when string) {
		t.Helper()
		is(t, when, l.call("GetCounts", `"counters":["idle","fixed"],"accuracy":"ACCURATE"`), "counts.idle.value", "0", "counts.fixed.value", "1")
		if r := l.call("ListCounts", `"prefix":""`); strings.Contains(r.body, "idle") || !strings.Contains(r.body, "fixed") {
			t.Errorf("%s: %s", when, r)
		}
		is(t, when, l.call("VerifyCount", `"counter":"idle"`), "stored.value", "0", "recounted", "0", "drift", "0")
		series := l.call("GetCountSeries", `"counter":"idle","interval":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T06:00:00Z"},"granularity":"21600s"`)
		if got := fmt.Sprint(series.field(t, "points")); got != "[map[adds:0 start:2026-01-01T00:00:00Z sum:0]]" {
			t.Errorf("%s: %s", when, got)
		}
	}
	gone("expired")
	if now := l.b.st.x.ns.Stream.Progress().Applied(0); now != end {
		t.Fatalf("the log went from %d to %d meanwhile: it is not shown that readers need no record", end, now)
	}
	if _, ok := l.row("idle"); !ok {
		t.Fatal("the row is gone before a sweep: it is not shown that readers need none")
	}

	// A record moves log time on.
	l.is("AddAndGetCount", `"counter":"fixed","delta":0`)
	l.sweepUntil("free of the row of the idle counter", func() bool {
		_, ok := l.row("idle")
		return !ok
	})
	// Its base waits until all is folded that was decided when it went.
	l.age("fixed")
	l.sweepUntil("free of its windows, events and base", func() bool { return l.kept(0, row.ID) == kept{events: 1} })
	gone("swept")
	l.restart()
	gone("after a restart")
	is(t, "in a new life", l.call("AddAndGetCount", `"counter":"idle","delta":7`), "count.value", "7")
	is(t, "in a new life", l.call("VerifyCount", `"counter":"idle"`), "recounted", "7", "drift", "0")
	if again, ok := l.row("idle"); !ok || again.ID == row.ID {
		t.Errorf("its row is %+v, %v: not another one", again, ok)
	}
}

// TestFoldedEventsStillCount: what is older than the retention is in bases, and a
// recount comes to the same.
func TestFoldedEventsStillCount(t *testing.T) {
	t.Parallel()
	l := newLife(t, "log: {partitions: 2}\ncounter: {event_retention: 1ms}\n")
	const names = 6
	want := [names]int{}
	add := func(rounds int) {
		t.Helper()
		for i := range rounds {
			var adds []string
			for n := range names {
				adds = append(adds, fmt.Sprintf(`{"counter":"c%d","delta":%d,"eventTime":"2026-01-01T00:%02d:00Z"}`, n, n+i-3, i))
				want[n] += n + i - 3
			}
			l.is("AddCounts", `"adds":[`+strings.Join(adds, ",")+`]`)
		}
	}
	check := func(when string) {
		t.Helper()
		for n, v := range want {
			body := fmt.Sprintf(`"counter":"c%d"`, n)
			is(t, when+" "+body, l.call("VerifyCount", body), "stored.value", strconv.Itoa(v), "recounted", strconv.Itoa(v), "drift", "0")
		}
		series := l.call("GetCountSeries", `"counter":"c0","interval":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:02:00Z"},"granularity":"60s"`)
		if got := fmt.Sprint(series.field(t, "points")); got != "[map[adds:2 start:2026-01-01T00:00:00Z sum:-6] map[adds:2 start:2026-01-01T00:01:00Z sum:-4]]" {
			t.Errorf("%s: series: %s", when, got)
		}
	}
	add(10)
	l.is("ClearCount", `"counter":"c1"`)
	want[1] = 0
	add(10)
	held := l.call("ReserveCount", `"counter":"c5","amount":1,"lease":"3600s"`).field(t, "reservationId").(string)
	check("before")
	folded := func() bool {
		for p := range wal.Partition(2) {
			if l.kept(p, 0).events > 1 {
				return false
			}
		}
		return true
	}
	if folded() {
		t.Fatal("the events are gone before a sweep")
	}
	every := []string{"c0", "c1", "c2", "c3", "c4", "c5"}
	l.age(every...)
	l.sweepUntil("all events but the newest folded", folded)
	check("folded")
	l.is("SettleReservation", `"reservationId":"`+held+`"`)
	want[5]--
	is(t, "events on top of a base", l.call("AddAndGetCount", `"counter":"c0","delta":1000`))
	want[0] += 1000
	check("and added to")
	l.age(every...)
	l.sweepUntil("all events but the newest folded", folded)
	l.restart()
	check("after a restart")
	l.close()
	if err := os.RemoveAll(filepath.Join(l.dir, "stores")); err != nil {
		t.Fatal(err)
	}
	l.restart()
	check("after a rebuild")
}
