package countertest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// windows is the part of changes that sums.
type windows interface {
	AddWindow(id uint64, size time.Duration, start int64, b counter.Bucket)
}

var sumCases = []testCase{
	{"windows add up over commits and reopens", windowsAddUp},
	{"windows are in order of time, before 1970 too", windowsOrdered},
	{"a window's sum does not overflow", windowsWide},
	{"a base adds up in order, and a cleared one replaces", basesOrdered},
	{"events are read by record and in order, and dropped from below", eventsKept},
}

var eventCases = []testCase{
	{"events of any size are read as they were saved", eventsLarge},
}

func windowsAddUp(t *testing.T, h Harness) {
	p := open(t, h, 1)
	for round := range 30 {
		p.commit(0, func(w changes, _ *counter.State) {
			for id := range uint64(4) {
				for _, size := range []time.Duration{time.Second, time.Minute, time.Hour, 400 * 24 * time.Hour} {
					w.AddWindow(id, size, 7*hour, bucketOf(int64(id), int64(round)))
					w.AddWindow(id, size, 7*hour, bucketOf(-1)) // twice in a commit
					w.AddWindow(id, size, int64(round%3)*hour, bucketOf(1))
				}
			}
		})
		if round%7 == 0 {
			p.reopen()
		}
	}
	p.checkKept()
}

func windowsOrdered(t *testing.T, h Harness) {
	p := open(t, h, 1)
	starts := []int64{math.MinInt64, -1 << 40, -hour, -minute, -1, 0, 1, minute, hour, 1 << 40, math.MaxInt64 - 1, math.MaxInt64}
	p.commit(0, func(w changes, _ *counter.State) {
		for i := range starts {
			start := starts[(i*5)%len(starts)]
			for id := uint64(1); id <= 3; id++ {
				w.AddWindow(id, time.Minute, start, bucketOf(int64(i), int64(id)))
				w.AddWindow(id, 256*time.Minute, start, bucketOf(int64(i)))
			}
			w.AddWindow(math.MaxUint64, time.Minute, start, bucketOf(int64(i)))
		}
	})
	for range 2 {
		snap := p.snapshot(0)
		for _, from := range starts {
			for _, to := range starts {
				for _, id := range []uint64{0, 2, math.MaxUint64} {
					if err := p.models[0].checkWindows(snap, windowKey{id, time.Minute, from}, to); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		n := 0
		err := snap.Windows(2, time.Minute, math.MinInt64, math.MaxInt64, func(int64, counter.Bucket) bool { n++; return n < 4 })
		if err != nil || n != 4 {
			t.Fatalf("windows until the fourth: %d, %v", n, err)
		}
		if err := snap.Close(); err != nil {
			t.Fatal(err)
		}
		p.checkKept()
	}
}

func windowsWide(t *testing.T, h Harness) {
	p := open(t, h, 1)
	for _, b := range []counter.Bucket{
		bucketOf(math.MaxInt64, math.MaxInt64), bucketOf(math.MaxInt64), bucketOf(math.MinInt64, math.MinInt64, math.MinInt64, math.MinInt64),
		{Lo: math.MaxUint64, Hi: math.MaxInt64, Adds: 1}, {Lo: 1, Hi: math.MinInt64, Adds: 1}, {Lo: 1 << 63, Hi: -1, Adds: 3}, {Hi: 1 << 62, Adds: 1 << 62},
	} {
		p.commit(0, func(w changes, _ *counter.State) {
			w.AddWindow(1, time.Minute, 0, b)
			w.AddWindow(2, time.Minute, int64(p.models[0].State().Applied), b)
		})
		p.checkKept()
	}
}

func basesOrdered(t *testing.T, h Harness) {
	p := open(t, h, 1)
	steps := []counter.Base{
		{Sum: 5, Events: 2}, {Sum: -1, Events: 1}, {Cleared: true, Sum: 3, Events: 2}, {Sum: 4, Events: 1},
		{Cleared: true, Events: 1}, {Sum: math.MaxInt64, Events: 1}, {Sum: math.MaxInt64, Events: 1}, {}, {Cleared: true, Sum: math.MinInt64, Events: math.MaxInt64},
	}
	// Every cut of the steps into commits, and one store for all.
	for cut := range uint64(1) << (len(steps) - 1) {
		id := cut + 1
		for from := 0; from < len(steps); {
			to := from + 1
			for to < len(steps) && cut>>(to-1)&1 == 0 {
				to++
			}
			p.commit(0, func(w changes, _ *counter.State) {
				for _, b := range steps[from:to] {
					w.AddBase(id, b)
				}
			})
			from = to
		}
	}
	p.checkKept()
	// An id that is new begins with what follows.
	p.commit(0, func(w changes, _ *counter.State) { w.AddBase(1<<60, counter.Base{Cleared: true, Sum: 1}) })
	p.commit(0, func(w changes, _ *counter.State) { w.AddBase(1<<60, counter.Base{Sum: 1}) })
	p.checkKept()
}

func eventsKept(t *testing.T, h Harness) {
	p := open(t, h, 2)
	write := func(part wal.Partition, offsets ...wal.Offset) {
		p.commit(part, func(w changes, _ *counter.State) {
			for _, o := range offsets {
				w.SaveEvents(o, fmt.Appendf(nil, "events of %d at %d", o, part))
			}
		})
	}
	drop := func(o wal.Offset) {
		p.commit(0, func(w changes, st *counter.State) { w.DropEvents(o); st.Folded = o })
		p.check()
	}
	write(0, 0, 1, 2, 5, 255, 256, 257, 1<<32, math.MaxInt64-1, math.MaxInt64)
	write(1, 0, 256)
	p.checkKept()
	for _, from := range []wal.Offset{wal.NoOffset, 0, 1, 3, 256, 258, 1 << 40, math.MaxInt64} {
		snap := p.snapshot(0)
		var got, want []wal.Offset
		err := snap.EventsFrom(from, func(o wal.Offset, _ []byte) bool { got = append(got, o); return len(got) < 4 })
		for _, o := range []wal.Offset{0, 1, 2, 5, 255, 256, 257, 1 << 32, math.MaxInt64 - 1, math.MaxInt64} {
			if o >= from && len(want) < 4 {
				want = append(want, o)
			}
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("events from %d: %v %v, want %v", from, got, err, want)
		}
	}
	drop(wal.NoOffset)
	drop(0)
	drop(255)
	write(0, 100, 300) // a record of below may still come, and stays
	p.checkKept()
	p.commit(0, func(w changes, _ *counter.State) {
		w.SaveEvents(400, []byte("dropped"))
		w.DropEvents(400)
		w.SaveEvents(350, []byte("saved after it"))
	})
	p.checkKept()
	drop(math.MaxInt64)
	p.checkKept()
	write(0, 7)
	p.checkKept()
}

func eventsLarge(t *testing.T, h Harness) {
	p := open(t, h, 1)
	next := wal.Offset(0)
	for _, size := range []int{0, 1, 100, 4 << 10, 100 << 10, 1 << 20} {
		p.commit(0, func(w changes, _ *counter.State) {
			o := next
			for range 4 {
				row := make([]byte, size)
				for i := range row {
					row[i] = byte(uint64(i+int(o)) * 0x9e3779b97f4a7c15 >> 56)
				}
				w.SaveEvents(o, row)
				o++
			}
		})
		next += 4
	}
	p.checkKept()
	p.commit(0, func(w changes, _ *counter.State) { w.DropEvents(next - 2) })
	p.checkKept()
}
