package counter_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/countertest"
	"github.com/headwater-db/headwater/wal"
)

// TestMemoryEvents: what the tests of this package stand on keeps the contract.
func TestMemoryEvents(t *testing.T) {
	t.Parallel()
	countertest.RunEvents(t, countertest.EventsHarness{
		Open:   func(testing.TB, int) counter.EventStore { return countertest.NewEvents() },
		Reopen: func(_ testing.TB, s counter.EventStore) counter.EventStore { return s },
	})
}

// verified fails unless a counter counts again to n.
func (r *room) verified(name string, n int64) {
	r.t.Helper()
	v, err := r.db.Verify(r.ctx(), []byte(name), 0, wal.Position{})
	if err != nil || v.Drift != 0 || v.Recounted != n {
		r.t.Fatalf("verify %s: %+v %v, want %d", name, v, err, n)
	}
}

// TestEventsAreThereBeforeThePosition: the store never says that it has a record whose events are not
// where they belong.
func TestEventsAreThereBeforeThePosition(t *testing.T) {
	t.Parallel()
	events := countertest.NewEvents()
	r := newRoom(t, roomConfig{events: events})
	looked := 0
	commit := func() error {
		looked++
		if last := events.Last(0); last < r.progress.Applied(0) {
			t.Errorf("the store is committed, and events are there up to %d of %d", last, r.progress.Applied(0))
		}
		return nil
	}
	r.store.commit.Store(&commit)
	for i := range 5 {
		if res := r.addAll(wal.Token{}, plus("c", int64(i))); res.Err != nil {
			t.Fatal(res.Err)
		}
		r.verified("c", int64(i*(i+1)/2))
	}
	if looked == 0 {
		t.Error("nothing was committed")
	}
}

// TestEventsOfACrash: a crash between the events and the store's commit writes them again, and a recount
// counts them once.
func TestEventsOfACrash(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{events: countertest.NewEvents()})
	for i := range 4 {
		if res := r.addAll(wal.Token{}, plus("c", 3), plus("d", 1)); res.Err != nil {
			t.Fatal(res.Err)
		}
		failing := func() error { return errors.New("the power fails") }
		r.store.commit.Store(&failing)
		if _, _, _, err := r.db.List(r.ctx(), &counter.ListQuery{Limit: 1}); err == nil {
			t.Fatal("a commit that fails is no error")
		}
		r.crash(0)
		r.verified("c", int64(3*i+3))
	}
	r.verified("d", 4)
}

// TestEventsThatAreRefused: whatever keeps events from being saved, as a table that is not there, keeps their
// flush until it is mended.
func TestEventsThatAreRefused(t *testing.T) {
	t.Parallel()
	events, refuse, told := countertest.NewEvents(), atomic.Bool{}, errors.New("no table")
	events.Saved = func(wal.Partition, wal.Offset) error {
		if refuse.Load() {
			return told
		}
		return nil
	}
	r := newRoom(t, roomConfig{events: events})
	for i := range int64(3) {
		refuse.Store(true)
		if res := r.addAll(wal.Token{}, plus("c", 1)); res.Err != nil {
			t.Fatal(res.Err)
		}
		if _, err := r.db.Verify(r.ctx(), []byte("c"), 0, wal.Position{}); !errors.Is(err, consumers.ErrStoreAway) || !errors.Is(err, told) {
			t.Fatalf("verify: %v", err)
		}
		refuse.Store(false)
		r.verified("c", i+1)
	}
}

// TestEventsAway: while the server of the events does not answer, adds are applied and counted; what is
// applied is bounded, and all of it is there once when it answers again.
func TestEventsAway(t *testing.T) {
	t.Parallel()
	events := countertest.NewEvents()
	r := newRoom(t, roomConfig{events: events, flushCounters: 10})
	add := func(n int) {
		t.Helper()
		if res := r.addAll(wal.Token{}, plus(fmt.Sprint("c", n), 1), plus("all", 1)); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	add(0)
	r.verified("all", 1)
	events.SetAway(true)
	for i := range 3 {
		add(i)
	}
	if c := r.get("all"); c[0].Value != 4 {
		t.Fatalf("counted %+v", c[0])
	}
	if _, err := r.db.Verify(r.ctx(), []byte("all"), 0, wal.Position{}); !errors.Is(err, consumers.ErrStoreAway) {
		t.Fatalf("verify: %v", err)
	}
	for i := range 100 { // more than may wait in memory
		add(i)
	}
	for tries := events.Tries(); events.Tries() < tries+5; { // it is asked again and again
		<-time.After(time.Millisecond)
	}
	held := false
	for _, h := range r.runner.Health() {
		held = held || errors.Is(h.Retrying, consumers.ErrStoreAway)
	}
	if !held || r.progress.Applied(0) > 40 {
		t.Errorf("applied up to %d, held %t", r.progress.Applied(0), held)
	}
	events.SetAway(false)
	r.verified("all", 104)
	r.sweep(time.Nanosecond)
	r.verified("all", 104)

	events.SetAway(true) // and an orderly end without it
	add(0)
	if _, err := r.db.Verify(r.ctx(), []byte("all"), 0, wal.Position{}); !errors.Is(err, consumers.ErrStoreAway) {
		t.Fatalf("verify: %v", err)
	}
	r.stop()
	events.SetAway(false)
	r.crash(100)
	r.verified("all", 105)
}
