package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

func parkedQueues[S comparable, E Entry](s *suite[S, E]) {
	s.open(2)
	long := strings.Repeat("k", 1<<16)
	s.commit(0, func(w changes[E]) {
		for i, key := range []string{"b", "a", "", "\xff\xff", "a\x00"} {
			park(w, key, i+1)
		}
		park(w, long, 100)
	})
	s.commit(1, func(w changes[E]) { park(w, "a", 7) })
	s.checkKept()
	s.parked(7)
	s.commit(0, func(w changes[E]) {
		change := func(op consumers.ParkedOp, key string, r wal.Ref) {
			w.SaveParked(&consumers.ParkedChange{Op: op, Key: []byte(key), Ref: r, Head: headOf(20)})
		}
		change(consumers.ParkedBelow, long, refOf(100, 50))
		change(consumers.ParkedAdd, long, wal.Ref{Offset: 1 << 60, Index: wal.WholeRecord})
		change(consumers.ParkedAdd, long, wal.Ref{Offset: 1<<60 + 1})
		change(consumers.ParkedBelow, "\xff\xff", refOf(4, 3))
		change(consumers.ParkedBelow, "a\x00", refOf(5, 0)) // which is the first
		change(consumers.ParkedAgain, "a", wal.Ref{})
		change(consumers.ParkedGone, "b", wal.Ref{})
		change(consumers.ParkedGone, "never was", wal.Ref{})
		// Within one batch.
		park(w, "c", 3)
		change(consumers.ParkedBelow, "c", refOf(3, 2))
		park(w, "d", 3)
		change(consumers.ParkedGone, "d", wal.Ref{})
		park(w, "e", 3)
		change(consumers.ParkedGone, "e", wal.Ref{})
		park(w, "e", 2)
	})
	s.checkKept()
	s.parked(8)
	s.commit(0, func(w changes[E]) {
		w.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedBelow, Key: []byte(long), Ref: wal.Ref{Offset: 1 << 60, Index: wal.WholeRecord}})
	})
	s.checkKept()
}

func (s *suite[S, E]) parked(want int64) {
	s.Helper()
	if u, err := s.l.Usage(bg); err != nil || u.Parked != want {
		s.Fatalf("%d parked queues in use, %v; want %d", u.Parked, err, want)
	}
}

func exceptions[S comparable, E Entry](s *suite[S, E]) {
	s.open(2)
	last := wal.Offset(1<<62 - 1)
	s.commit(0, func(w changes[E]) {
		for _, o := range []wal.Offset{7, 0, 300, 8, 1 << 40, last} {
			w.SaveException(o, fmt.Append(nil, "row ", o))
		}
		w.SaveException(9, nil)
	})
	s.commit(1, func(w changes[E]) { w.SaveException(8, make([]byte, 100_000)) })
	for range 2 {
		s.check()
		for _, r := range [][2]wal.Offset{
			{0, 0}, {0, 1}, {1, 7}, {7, 9}, {8, 1 << 40}, {300, last}, {9, 8}, {-5, 8}, {wal.NoOffset, last + 1},
		} {
			for p, m := range s.models {
				rows, err := read(s.l, wal.Partition(p), r[0], r[1])
				if want := m.rows(r[0], r[1]); err != nil || !slices.Equal(rows, want) {
					s.Fatalf("exceptions of %v: %v %v, want %v", r, rows, err, want)
				}
			}
		}
		s.reopen()
	}
	s.commit(0, func(w changes[E]) { w.SaveException(8, []byte("another")) })
	s.checkKept()
	for _, before := range []wal.Offset{wal.NoOffset, 0, 1, 1, 8, 9, 10} {
		s.commit(0, func(w changes[E]) { w.TrimExceptions(before) })
		s.checkKept()
	}
	s.commit(0, func(w changes[E]) { // what the same batch saved is trimmed, what comes later is not
		w.SaveException(10, []byte("gone"))
		w.SaveException(11, []byte("gone too"))
		w.SaveException(12, []byte("stays"))
		w.TrimExceptions(12)
		w.SaveException(11, []byte("again"))
	})
	s.checkKept()
	s.commit(0, func(w changes[E]) { w.TrimExceptions(last + 1) })
	s.checkKept()
	b := s.h.Begin(s.l, 0)
	defer b.Abort()
	b.SaveException(wal.NoOffset, nil)
	if err := b.Commit(bg, s.models[0].state); err == nil {
		s.Error("an exception of no record can be saved")
	}
	s.check()
}

func exceptionsCallback[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	for n := range 9 {
		s.commit(0, s.everything(n))
	}
	stop, seen := errors.New("stop"), 0
	err := s.l.Exceptions(bg, 0, 0, 100, func(o wal.Offset, data []byte) error {
		if seen++; seen == 5 {
			return stop
		}
		if _, ok, err := s.l.Token(bg, 0, tokenID(int(o))); err != nil || !ok {
			s.Errorf("token of %d: %v %v", o, ok, err)
		}
		// A commit does not change what the walk shows, and does not wait for it.
		s.commit(0, func(w changes[E]) {
			w.SaveException(o+1, []byte("later"))
			w.TrimExceptions(o + 1)
		})
		if want := fmt.Sprint("exception ", o); string(data) != want {
			s.Errorf("row of %d: %q, want %q", o, data, want)
		}
		return nil
	})
	if !errors.Is(err, stop) || seen != 5 {
		s.Errorf("an error of the callback: %v after %d", err, seen)
	}
	s.check()
}
