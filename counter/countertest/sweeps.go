package countertest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var sweepCases = []testCase{
	{"a sweep forgets reservations that ended before the horizon", reservationsForgotten},
	{"a sweep frees the windows of retired ids, and bases once they are folded", retiredFreed},
	{"a sweep goes on where it stopped", sweepResumes},
	{"a cursor that was tampered with is refused", sweepCursor},
}

// sweep sweeps a whole round, limit keys at a time.
func (p *pair) sweep(part wal.Partition, horizon int64, limit int) (sum counter.SweepResult) {
	p.t.Helper()
	req := counter.SweepRequest{Partition: part, Horizon: horizon, Limit: limit}
	p.models[part].Swept(horizon)
	for range 1 << 20 {
		r, err := p.s.Sweep(bg, &req)
		if err != nil {
			p.t.Fatalf("sweep: %v", err)
		}
		if r.Looked > limit {
			p.t.Fatalf("a sweep looked at %d keys, at most %d", r.Looked, limit)
		}
		sum.Looked += r.Looked
		sum.Tokens += r.Tokens
		sum.Reservations += r.Reservations
		sum.Retired += r.Retired
		if req.Cursor = r.Cursor; req.Cursor == nil {
			return sum
		}
	}
	p.t.Fatal("a sweep without end")
	return sum
}

func reservationsForgotten(t *testing.T, h Harness) {
	for _, limit := range []int{1, 7, 1000} {
		p := open(t, h, 2)
		states := []counter.ReservationState{counter.Held, counter.Settled, counter.Cancelled, counter.Expired}
		const n = 40
		for part := range wal.Partition(2) {
			p.commit(part, func(w changes, _ *counter.State) {
				for i := range n {
					w.SaveReservation(reservation(i, states[i%4]))
				}
			})
		}
		const horizon = 2 * 20 * second // when 20 would have ended
		if r := p.sweep(0, horizon, limit); r.Reservations != 15 {
			t.Fatalf("%d reservations were forgotten, want 15", r.Reservations)
		}
		p.checkKept()
		for i := range n {
			_, ok, err := p.s.Reservation(bg, 0, tokenID(i))
			if want := i%4 == 0 || i >= 20; err != nil || ok != want {
				t.Fatalf("reservation %d after the sweep: %v %v, want %v", i, ok, err, want)
			}
		}
		if r := p.sweep(0, horizon, limit); r.Reservations != 0 {
			t.Fatalf("%d more", r.Reservations)
		}
		// An identity that was forgotten may be used again, and one that is not yet.
		p.commit(0, func(w changes, _ *counter.State) {
			w.SaveReservation(reservation(1, counter.Held))
			w.SaveReservation(reservation(30, counter.Held))
		})
		p.sweep(0, math.MaxInt64, limit)
		p.checkKept()
		p.commit(0, func(w changes, _ *counter.State) { w.SaveReservation(reservation(30, counter.Settled)) })
		p.checkKept()
	}
}

// history writes windows and a base for an id.
func history(w changes, id uint64, n int) {
	for i := range n {
		w.AddWindow(id, time.Minute, int64(i)*minute, bucketOf(1))
		w.AddWindow(id, time.Hour, int64(i-n/2)*hour, bucketOf(1))
	}
	w.AddBase(id, counter.Base{Sum: int64(id), Events: 1})
}

// kept counts the windows and bases of ids 1 to n.
func (p *pair) kept(part wal.Partition, n uint64) (windows, bases int) {
	p.t.Helper()
	snap := p.snapshot(part)
	for id := uint64(1); id <= n; id++ {
		for _, size := range []time.Duration{time.Minute, time.Hour} {
			err := snap.Windows(id, size, math.MinInt64, math.MaxInt64, func(int64, counter.Bucket) bool { windows++; return true })
			if err != nil {
				p.t.Fatal(err)
			}
		}
		base, err := snap.Base(id)
		if err != nil {
			p.t.Fatal(err)
		}
		if base != (counter.Base{}) {
			bases++
		}
	}
	if err := snap.Close(); err != nil {
		p.t.Fatal(err)
	}
	return windows, bases
}

func retiredFreed(t *testing.T, h Harness) {
	for _, limit := range []int{1, 10, 100_000} {
		p := open(t, h, 2)
		for part := range wal.Partition(2) {
			p.commit(part, func(w changes, _ *counter.State) {
				for id := uint64(1); id <= 10; id++ {
					history(w, id, []int{0, 3, 100}[id%3])
				}
			})
		}
		allWindows, _ := p.kept(0, 10)
		p.commit(0, func(w changes, st *counter.State) {
			w.Retire(2, 100)
			w.Retire(3, 200)
			w.Retire(4, 200)
			w.Retire(5, 300)
			st.Folded = 99
		})
		p.checkKept()
		if windows, bases := p.kept(0, 10); windows != allWindows || bases != 10 {
			t.Fatalf("%d windows of %d, %d bases before the sweep", windows, allWindows, bases)
		}
		want := allWindows - 2*(100+0+3+100)
		for _, c := range []struct {
			folded wal.Offset
			bases  int
		}{{99, 10}, {100, 9}, {199, 9}, {200, 7}, {1000, 6}} {
			p.commit(0, func(_ changes, st *counter.State) { st.Folded = c.folded })
			for range 2 {
				p.sweep(0, 0, limit)
				if windows, bases := p.kept(0, 10); windows != want || bases != c.bases {
					t.Fatalf("folded %d, limit %d: %d windows and %d bases, want %d and %d", c.folded, limit, windows, bases, want, c.bases)
				}
				p.checkKept()
			}
		}
		if r := p.sweep(0, 0, limit); r.Looked != 0 {
			t.Fatalf("limit %d: another sweep finds something: %+v", limit, r)
		}
		if windows, bases := p.kept(1, 10); windows != allWindows || bases != 10 {
			t.Fatalf("%d windows of %d, %d bases of another partition", windows, allWindows, bases)
		}
		// Retired below what is folded: at once.
		p.commit(0, func(w changes, _ *counter.State) { w.Retire(6, 5); w.Retire(7, 1000); w.Retire(8, 1001) })
		if r := p.sweep(0, 0, limit); r.Retired != 2 {
			t.Fatalf("limit %d: %+v, want 2 ids freed", limit, r)
		}
		p.checkKept()
	}
}

// sweepResumes stops a sweep at every key and changes what is there in between.
func sweepResumes(t *testing.T, h Harness) {
	for stop := 1; stop < 40; stop += 3 {
		p := open(t, h, 1)
		p.commit(0, func(w changes, st *counter.State) {
			for id := uint64(1); id <= 10; id++ {
				history(w, id, 1)
				w.Retire(id, wal.Offset(id))
				w.SaveReservation(reservation(int(id), counter.Settled))
			}
			st.Folded = 5
		})
		p.models[0].Swept(math.MaxInt64)
		r, err := p.s.Sweep(bg, &counter.SweepRequest{Horizon: math.MaxInt64, Limit: stop})
		if err != nil || r.Looked > stop {
			t.Fatalf("%+v %v", r, err)
		}
		p.check()
		p.commit(0, func(w changes, st *counter.State) {
			for id := uint64(11); id <= 20; id++ {
				history(w, id, 1)
				w.Retire(id, wal.Offset(id))
				w.SaveReservation(reservation(int(id), counter.Expired))
			}
			st.Folded = 15
		})
		p.reopen()
		for r.Cursor != nil {
			if r, err = p.s.Sweep(bg, &counter.SweepRequest{Horizon: math.MaxInt64, Limit: stop, Cursor: r.Cursor}); err != nil {
				t.Fatal(err)
			}
			p.check()
		}
		p.sweep(0, math.MaxInt64, stop)
		if windows, bases := p.kept(0, 20); windows != 0 || bases != 5 {
			t.Fatalf("stop %d: %d windows and %d bases, want none and 5", stop, windows, bases)
		}
		p.checkKept()
	}
}

func sweepCursor(t *testing.T, h Harness) {
	p := open(t, h, 2)
	for n := range 20 {
		p.commit(0, everything(n))
	}
	r, err := p.s.Sweep(bg, &counter.SweepRequest{Limit: 3})
	if err != nil || r.Cursor == nil {
		t.Fatalf("sweep: %+v, %v", r, err)
	}
	for _, c := range [][]byte{{}, {1}, []byte("x nonsense that is long enough to be one"), fmt.Append(nil, "c\x00\x00counter")} {
		if _, err := p.s.Sweep(bg, &counter.SweepRequest{Limit: 3, Cursor: c}); err == nil {
			t.Errorf("cursor %q: no error", c)
		}
	}
	if _, err := p.s.Sweep(bg, &counter.SweepRequest{Partition: 1, Limit: 3, Cursor: r.Cursor}); err == nil {
		t.Error("the cursor of another partition: no error")
	}
	p.check()
}
