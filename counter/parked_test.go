package counter_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var errDown = errors.New("down, for now")

// poison makes the next change of a counter panic.
func (r *room) poison(name string) {
	r.t.Helper()
	r.do(func(context.Context) error {
		if !r.applier.Sabotage(0, name) {
			r.t.Errorf("%s is not in memory", name)
		}
		return nil
	})
}

func TestAPoisonousAddParksOnlyItsCounterAndIsRedrivenOnce(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		r := newRoom(t, roomConfig{})
		r.add("a", 1)
		r.add("b", 1)
		r.want("b", 1, 0)
		r.durable() // what follows is read again when the panic has been caught
		r.poison("b")
		tok := r.token()
		batch := []counter.Add{plus("a", 10), plus("b", 20), plus("c", 30), plus("b", 40)}
		if res := r.addAll(tok, batch...); res.Err != nil {
			t.Fatal(res.Err)
		}
		r.want("a", 11, 0)
		r.want("c", 30, 0)
		if !r.parked("b") || r.parked("a") || r.parked("c") {
			t.Fatal("b, and b alone, should be parked")
		}
		var pe *counter.ParkedError
		if _, _, err := r.db.Get(r.ctx(), []string{"b"}, counter.Accurate, wal.Position{}); !errors.As(err, &pe) {
			t.Errorf("accurate read of a parked counter: %v", err)
		}
		if c, _, err := r.db.Get(r.ctx(), []string{"b"}, counter.Eventual, wal.Position{}); err != nil || c[0].Value != 1 {
			t.Errorf("eventual read of a parked counter: %+v %v", c, err)
		}
		for accuracy, parked := range map[counter.Accuracy]bool{counter.Accurate: true, counter.Eventual: false} {
			q := &counter.SeriesQuery{Counter: []byte("b"), To: time.Minute.Microseconds(), Granularity: time.Minute, Accuracy: accuracy}
			if _, _, err := r.db.Series(r.ctx(), q); errors.As(err, &pe) != parked {
				t.Errorf("series of a parked counter, accuracy %d: %v", accuracy, err)
			}
			if _, err := r.db.Verify(r.ctx(), []byte("b"), accuracy, wal.Position{}); errors.As(err, &pe) != parked {
				t.Errorf("recount of a parked counter, accuracy %d: %v", accuracy, err)
			}
			list, seen, more, err := r.db.List(r.ctx(), &counter.ListQuery{Limit: 10, Accuracy: accuracy})
			if err != nil || len(list) != 3 || more || len(seen) != 1 || list[0].Parked || !list[1].Parked || list[2].Parked || list[1].Count.Accuracy != accuracy {
				t.Errorf("list with a parked counter, accuracy %d: %+v, seen %+v, %v", accuracy, list, seen, err)
			}
		}
		if res := r.call(wal.Token{}, addAndGet("b", 1)); !errors.As(res.Err, &pe) {
			t.Errorf("add and get of a parked counter: %+v", res)
		}
		late := own(plus("b", 300), r.token())
		r.addAll(wal.Token{}, late, plus("a", 100))
		r.addAll(wal.Token{}, late) // a copy of the parked one: waits as well, and changes nothing
		r.addAll(tok, batch...)
		r.raw(0, r.addsRecord(tok, batch...)) // the call's token is not the same call's here: a conflict
		r.want("a", 111, 0)
		if restart {
			r.durable()
			r.crash(0)
			if !r.parked("b") {
				t.Error("a restart forgot that b is parked")
			}
		} else {
			r.redrive("b") // this build has seen it panic: it stays parked
			if !r.parked("b") {
				t.Error("b was tried again by the build that panicked")
			}
			r.durable()
			r.crash(100)
		}
		for range 3 {
			r.redrive("b")
		}
		r.want("b", 361, 0)
		r.want("a", 111, 0)
		r.durable()
		r.crash(0)
		r.redrive("b")
		r.want("b", 361, 0)
		if r.parked("b") {
			t.Error("b is still parked")
		}
		// The log read from its start says the same.
		if l := r.lettersOf("poison"); len(l) != 1 || l[0].Disposition != consumers.Redriven {
			t.Errorf("letters %+v", l)
		}
	}
}

// A record whose apply was cut short by what is around it, and is applied again,
// must not queue an add of a parked counter twice: such an add has no token left
// that would tell.
func TestAQueuedAddIsQueuedOnceWhenItsRecordIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("a", 1)
	r.want("a", 1, 0)
	r.durable()
	r.poison("a")
	r.add("a", 1)
	r.tick()
	if !r.parked("a") {
		t.Fatal("a should be parked")
	}
	var failures int
	failing := func(l *consumers.DeadLetter) error {
		if l.Ref.Index == 3 {
			if failures++; failures <= 3 {
				return errDown
			}
		}
		return nil
	}
	r.letters.fail.Store(&failing)
	// The name that is too long parks, behind a letter that fails three times.
	long := make([]byte, counter.MaxNameBytes+1)
	r.raw(0, r.addsRecord(r.token(), plus("a", 10), plus("b", 5), plus("a", 100), plus(string(long), 1)))
	if failures != 4 {
		t.Fatalf("%d letters were tried, want 4", failures)
	}
	r.want("b", 5, 0)
	r.durable()
	r.crash(0)
	r.redrive("a")
	r.want("a", 112, 0)
}

func TestAnUnreadableRecordIsRedrivenOnce(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("a", 1)
	tok := r.token()
	b, err := r.log.Bounds(r.ctx(), 0)
	if err != nil {
		t.Fatal(err)
	}
	rec := r.addsRecord(tok, plus("a", 10), plus("b", 20))
	bad := *rec
	bad.Payload = rec.Payload[:len(rec.Payload)-1]
	r.log.mu.Lock()
	r.log.misread[b.End] = wal.AppendRecord(nil, &bad) // a build that cannot read it
	r.log.mu.Unlock()
	r.raw(0, rec)
	if !r.parked("a") || r.parked("b") {
		t.Fatal("the record should be parked under its routing key")
	}
	r.redrive("a")
	r.want("b", 0, 0)
	r.durable()
	r.crash(0)
	// A copy is read: b counts now, a waits behind the first.
	r.raw(0, rec)
	r.want("b", 20, 0)
	r.log.mu.Lock()
	clear(r.log.misread)
	r.log.mu.Unlock()
	for range 2 {
		r.redrive("a")
	}
	r.want("a", 11, 0)
	r.want("b", 20, 0)
	if r.parked("a") {
		t.Error("still parked")
	}
}

func TestARecordOfUnknownSettingsWaitsWholly(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{hotBytes: 1})
	r.add("a", 10)
	h := r.call(wal.Token{}, reserve("a", 5, time.Second))
	if h.Err != nil {
		t.Fatal(h.Err)
	}
	rec := r.addsRecord(r.token(), plus("a", 1))
	rec.NamespaceVersion = 7
	r.clock.pass(time.Minute)
	o := r.append(0, rec) // its time ends the lease, its settings are not known
	for range 3 {
		r.do(func(ctx context.Context) error { return r.applier.Flush(ctx, 0) })
		if c, _, err := r.db.Get(r.ctx(), []string{"a"}, counter.Eventual, wal.Position{}); err != nil || c[0].Value != 10 || c[0].Held != 0 {
			t.Errorf("while it waits: %+v %v", c, err)
		}
	}
	r.mu.Lock()
	r.settings[7] = counter.Settings{TokenWindow: time.Hour}
	r.mu.Unlock()
	if err := r.stream.WaitApplied(r.ctx(), 0, o); err != nil {
		t.Fatal(err)
	}
	r.want("a", 11, 0)
}

func TestAFailedFlushLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{flushCounters: 4})
	var left atomic.Int64
	left.Store(3)
	failing := func() error {
		if left.Add(-1) >= 0 {
			return errDown
		}
		return nil
	}
	toks := make([]wal.Token, 40)
	name := func(i int) string { return string(rune('a' + i%10)) }
	for i := range toks {
		if i == 5 {
			r.store.commit.Store(&failing)
		}
		toks[i] = r.token()
		for {
			res := r.call(toks[i], addAndGet(name(i), 1))
			if res.Err == nil {
				break
			}
			if !errors.Is(res.Err, counter.ErrReloading) {
				t.Fatal(res.Err)
			}
		}
	}
	for left.Load() > 0 { // what is not flushed on the way is flushed here
		r.tick()
		r.do(func(ctx context.Context) error {
			if err := r.applier.Flush(ctx, 0); err != nil && !errors.Is(err, errDown) {
				return err
			}
			return nil
		})
	}
	r.tick()
	r.tick()
	r.durable()
	r.crash(0)
	for i := range toks {
		if res := r.call(toks[i], addAndGet(name(i), 1)); res.Err != nil || !res.Duplicate || res.Count.Value != int64(i/10+1) {
			t.Errorf("call %d once more: %+v", i, res)
		}
	}
	for i := range 10 {
		r.want(name(i), 4, 0)
	}
}

// The error of a flush is told to whoever asks for the next one, which is not the
// runner: it must not go on, and flush what came later without it.
func TestAFlushThatFailedIsNotLeftOut(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{flushCounters: 6})
	toks := []wal.Token{r.token(), r.token()}
	for _, tok := range toks {
		r.call(tok, addAndGet("a", 1))
	}
	called := make(chan struct{})
	failing := func() error {
		close(called)
		return errDown
	}
	r.store.commit.Store(&failing)
	r.do(func(ctx context.Context) error { return r.applier.Flush(ctx, 0) })
	<-called
	r.store.commit.Store(nil)
	var err error
	for err == nil {
		r.do(func(ctx context.Context) error {
			err = r.applier.Flush(ctx, 0)
			return nil
		})
	}
	if !errors.Is(err, errDown) || !r.due() {
		t.Errorf("the failed flush is told as %v; due %v", err, r.due())
	}
	for i := range 20 {
		r.add(string(rune('b'+i)), 1)
	}
	r.tick()
	r.durable()
	r.crash(0)
	r.want("a", 2, 0)
	for i, tok := range toks {
		if res := r.call(tok, addAndGet("a", 1)); !res.Duplicate || res.Count.Value != int64(i+1) {
			t.Errorf("call %d once more: %+v", i, res)
		}
	}
	r.want("a", 2, 0)
}
