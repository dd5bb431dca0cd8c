package countertest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var lifeCases = []testCase{
	{"use after close is ErrClosed", afterClose},
	{"readers see whole commits while the applier writes", concurrent},
	{"close waits for nobody who only holds a snapshot", closeWhileRead},
}

func afterClose(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, everything(1))
	snap := p.snapshot(0)
	b := p.s.Begin(0)
	everything(2)(b, new(counter.State))
	if err := p.s.Close(); err != nil {
		t.Fatal(err)
	}
	everything(3)(b, new(counter.State))
	errs := reads(bg, p.s, 0)
	errs["Commit"] = b.Commit(bg, counter.State{State: consumers.State{Applied: 9}})
	b.Abort()
	later := p.s.Begin(0)
	everything(3)(later, new(counter.State))
	errs["Commit of a batch begun later"] = later.Commit(bg, counter.State{State: consumers.State{Applied: 9}})
	later.Abort()
	_, _, errs["Counter of a snapshot"] = snap.Counter([]byte("a"))
	_, errs["Base of a snapshot"] = snap.Base(1)
	_, _, errs["Events of a snapshot"] = snap.Events(1)
	errs["List of a snapshot"] = snap.List(nil, nil, func([]byte, *counter.Row) bool { return true })
	errs["Windows of a snapshot"] = snap.Windows(1, time.Minute, 0, 1, func(int64, counter.Bucket) bool { return true })
	errs["EventsFrom of a snapshot"] = snap.EventsFrom(0, func(wal.Offset, []byte) bool { return true })
	for name, err := range errs {
		if !errors.Is(err, counter.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	p.reopen()
	p.check()
}

// concurrent: each commit writes the same round everywhere, so that a reader
// that sees two rounds, or none, saw half a commit.
func concurrent(t *testing.T, h Harness) {
	const rounds, counters, readers = 300, 8, 4
	p := open(t, h, 2)
	name := func(i int) []byte { return fmt.Append(nil, "counter ", i) }
	write := func(part wal.Partition, round int64) error {
		b := p.s.Begin(part)
		defer b.Abort()
		for i := range counters {
			b.SaveCounter(name(i), &counter.Row{ID: uint64(i), Value: round})
		}
		b.AddWindow(1, time.Minute, 0, bucketOf(1))
		b.AddBase(1, counter.Base{Sum: 1, Events: 1})
		b.SaveEvents(wal.Offset(round), name(int(round)))
		b.DropEvents(wal.Offset(round - 1))
		b.SaveToken(token(int(round), round*minute/100))
		b.SaveReservation(reservation(int(round), counter.Held))
		b.SaveReservation(reservation(int(round-1), counter.Settled))
		return b.Commit(bg, counter.State{State: consumers.State{Applied: wal.Offset(round), LogTime: round * minute / 100}, Folded: wal.Offset(round - 1)})
	}
	done := make(chan struct{})
	var reading, writing sync.WaitGroup
	var keys [][]byte
	for i := range counters {
		keys = append(keys, name(i))
	}
	read := func(part wal.Partition) (round int64, err error) {
		st, err := p.s.State(bg, part)
		if err != nil {
			return 0, err
		}
		// A reader that was held up for a hundred commits may be behind the sweep.
		swept := func() bool {
			now, err := p.s.State(bg, part)
			return err == nil && now.Applied-st.Applied >= 90
		}
		if _, ok, err := p.s.Token(bg, part, tokenID(int(st.Applied))); err != nil || !ok && !swept() {
			return 0, differs(err, "the token of commit %d, which has returned, is not found", st.Applied)
		}
		if _, ok, err := p.s.Reservation(bg, part, tokenID(int(st.Applied))); err != nil || !ok && !swept() {
			return 0, differs(err, "the reservation of commit %d, which has returned, is not found", st.Applied)
		}
		rows, found := make([]counter.Row, counters), make([]bool, counters)
		if err := p.s.Counters(bg, part, keys, rows, found); err != nil {
			return 0, err
		}
		for i := range rows {
			if !found[i] || rows[i].Value != rows[0].Value || rows[i].Value < int64(st.Applied) {
				return 0, fmt.Errorf("after commit %d: %+v", st.Applied, rows)
			}
		}
		held := 0
		err = p.s.HeldReservations(bg, part, func(*counter.Reservation) error { held++; return nil })
		if err != nil || held != 1 {
			return 0, differs(err, "%d are held", held)
		}
		snap, err := p.s.Snapshot(bg, part)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, snap.Close()) }()
		round = int64(snap.State().Applied)
		if round < rows[0].Value {
			return 0, fmt.Errorf("a snapshot of commit %d after a read of %d", round, rows[0].Value)
		}
		if err := errors.Join(snap.List(nil, nil, func(_ []byte, r *counter.Row) bool {
			if r.Value != round {
				t.Errorf("a snapshot of commit %d lists %+v", round, *r)
			}
			return true
		}), snap.Windows(1, time.Minute, math.MinInt64, math.MaxInt64, func(_ int64, b counter.Bucket) bool {
			if b.Adds != round {
				t.Errorf("a snapshot of commit %d has window %+v", round, b)
			}
			return true
		}), snap.EventsFrom(0, func(o wal.Offset, row []byte) bool {
			if int64(o) != round || string(row) != string(name(int(round))) {
				t.Errorf("a snapshot of commit %d has events of %d: %q", round, o, row)
			}
			return true
		})); err != nil {
			return 0, err
		}
		if base, err := snap.Base(1); err != nil || base.Events != round {
			return 0, differs(err, "a snapshot of commit %d has base %+v", round, base)
		}
		return round, nil
	}
	for part := range wal.Partition(2) {
		if err := write(part, 1); err != nil {
			t.Fatal(err)
		}
		writing.Go(func() {
			for round := int64(2); round <= rounds && !t.Failed(); round++ {
				if err := write(part, round); err != nil {
					t.Errorf("commit: %v", err)
				}
				if round%20 == 0 {
					if _, err := p.s.Sweep(bg, &counter.SweepRequest{Partition: part, Horizon: (round - 100) * minute / 100, Limit: 1000}); err != nil {
						t.Errorf("sweep: %v", err)
					}
					if _, err := p.s.Sync(bg); err != nil {
						t.Errorf("sync: %v", err)
					}
				}
			}
		})
	}
	for n := range readers {
		reading.Go(func() {
			var last int64
			for {
				select {
				case <-done:
					return
				default:
				}
				round, err := read(wal.Partition(n % 2))
				if err != nil || round < last {
					t.Errorf("reader %d: commit %d after %d: %v", n, round, last, err)
					return
				}
				last = round
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
}

// closeWhileRead closes the store under readers that hold snapshots and read.
func closeWhileRead(t *testing.T, h Harness) {
	p := open(t, h, 1)
	for n := range 20 {
		p.commit(0, everything(n))
	}
	var wg sync.WaitGroup
	ready := make(chan struct{}, 4)
	for range cap(ready) {
		snap := p.snapshot(0)
		wg.Go(func() {
			ready <- struct{}{}
			for {
				err := snap.List(nil, nil, func(name []byte, _ *counter.Row) bool {
					_, _, err := snap.Counter(name)
					if err != nil && !errors.Is(err, counter.ErrClosed) {
						t.Errorf("read in a callback: %v", err)
					}
					return err == nil
				})
				if errors.Is(err, counter.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("list: %v", err)
					return
				}
			}
		})
	}
	for range cap(ready) {
		<-ready
	}
	if err := p.s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}
