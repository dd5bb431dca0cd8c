package wal_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// answeringLog answers appends as it is told to, without taking them; nil
// passes them on. The outcomes of buffered ones that it takes itself are the
// test's to tell.
type answeringLog struct {
	wal.Log
	answer func(wal.Durability) error
	told   []func(wal.Result)
}

func (l *answeringLog) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	if l.answer == nil {
		return l.Log.Append(ctx, d, entries)
	}
	res := make([]wal.Result, len(entries))
	for i := range entries {
		res[i] = wal.Result{Offset: wal.NoOffset, Err: l.answer(d)}
		if res[i].Err == nil {
			l.told = append(l.told, entries[i].Settled)
		}
	}
	return res
}

func message() *wal.Record { return &wal.Record{Kind: wal.KindMessage, RoutingKey: []byte("k")} }

func wantPending(t *testing.T, s *wal.Stream, when string, want int64) {
	t.Helper()
	if got := s.Pending(0); got != want {
		t.Errorf("%s: %d pending, want %d", when, got, want)
	}
}

func TestPendingAfterAppendsThatFailed(t *testing.T) {
	t.Parallel()
	l := &answeringLog{Log: newLog(t, 1)}
	s := newStream(t, wal.StreamConfig{Log: l})
	put := func() error {
		_, err := s.Append(t.Context(), 0, message())
		return err
	}
	wantPending(t, s, "at the start", 0)
	l.answer = func(wal.Durability) error { return wal.ErrNotAppended }
	if put() == nil {
		t.Fatal("appended")
	}
	wantPending(t, s, "after one that was not appended", 0)

	doubt := func(wal.Durability) error { return fmt.Errorf("%w: connection reset", wal.ErrUnknown) }
	for _, settle := range []struct {
		by string
		do func() error
	}{
		{"an append that is acknowledged", put},
		{"a barrier", func() error { return s.Barrier(t.Context(), 0) }},
	} {
		l.answer = doubt
		for range 2 {
			if put() == nil {
				t.Fatal("appended")
			}
		}
		wantPending(t, s, "after two of unknown outcome", 2)
		s.Progress().Advance(0, s.Progress().Acked(0)+10, 1) // which says nothing of them
		wantPending(t, s, "applied, but in doubt", 2)
		l.answer = nil
		if err := settle.do(); err != nil {
			t.Fatal(err)
		}
		s.Progress().Advance(0, s.Progress().Acked(0), 1)
		wantPending(t, s, "after "+settle.by, 0)
	}

	if _, err := s.Append(t.Context(), 0, &wal.Record{Payload: make([]byte, wal.MaxRecordBytes)}); !errors.Is(err, wal.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	wantPending(t, s, "after one that is too large", 0)
}

// TestPendingCountsBuffered: from the moment that it is queued until it is
// applied, or known to be lost.
func TestPendingCountsBuffered(t *testing.T) {
	t.Parallel()
	l := &answeringLog{Log: newLog(t, 1), answer: func(wal.Durability) error { return nil }}
	s := newStream(t, wal.StreamConfig{Log: l})
	put := func(n int) {
		t.Helper()
		as := make([]wal.Appending, n)
		for i := range as {
			as[i].Record = message()
		}
		s.AppendBuffered(t.Context(), as)
		for i := range as {
			if as[i].Err != nil || as[i].Offset != wal.NoOffset {
				t.Fatalf("buffered append: offset %d, %v", as[i].Offset, as[i].Err)
			}
		}
	}
	put(3)
	wantPending(t, s, "queued", 3)
	l.told[0](wal.Result{Offset: 0})
	wantPending(t, s, "one is durable", 3)
	l.told[1](wal.Result{Offset: wal.NoOffset, Err: wal.ErrNotAppended})
	wantPending(t, s, "one is lost", 2)
	s.Progress().Advance(0, 0, 1)
	wantPending(t, s, "the durable one is applied", 1)
	l.told[2](wal.Result{Offset: wal.NoOffset, Err: wal.ErrUnknown})
	wantPending(t, s, "the last is unknown", 1)
	put(1)
	l.told[3](wal.Result{Offset: 2})
	wantPending(t, s, "the one behind it is durable", 2) // offsets 1 and 2
	s.Progress().Advance(0, 2, 1)
	wantPending(t, s, "all is applied", 0)

	l.answer = func(wal.Durability) error { return fmt.Errorf("%w: %w", wal.ErrNotAppended, wal.ErrOverloaded) }
	as := []wal.Appending{{Record: message()}}
	s.AppendBuffered(t.Context(), as)
	if !errors.Is(as[0].Err, wal.ErrOverloaded) {
		t.Errorf("refused: %v", as[0].Err)
	}
	wantPending(t, s, "after one that was refused", 0)
}

func TestBufferedAppendIsAdmittedAndSettlesNothing(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{MaxUnapplied: 1})
	r, _, err := s.Reserve(t.Context(), 0, wal.TokenID(wal.NewNonce()), wal.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	s.Progress().Stop(1, wal.ErrCorrupt)
	as := []wal.Appending{{Record: message(), Reservations: []*wal.Reservation{r}}, {Partition: 1, Record: message()}, {Record: message()}}
	s.AppendBuffered(t.Context(), as)
	if !errors.Is(as[0].Err, wal.ErrNotAppended) || r.Done() {
		t.Errorf("with a reservation: %v, settled %v", as[0].Err, r.Done())
	}
	if !errors.Is(as[1].Err, wal.ErrNotAppended) || !errors.Is(as[1].Err, wal.ErrCorrupt) {
		t.Errorf("to a partition that has stopped: %v", as[1].Err)
	}
	if as[2].Err != nil {
		t.Errorf("alone: %v", as[2].Err)
	}
	for s.Progress().Acked(0) < 0 { // until it is durable
		runtime.Gosched()
	}
	s.AppendBuffered(t.Context(), as[2:])
	if !errors.Is(as[2].Err, wal.ErrUnapplied) {
		t.Errorf("while too much is unapplied: %v", as[2].Err)
	}
	s.Release(r, nil)
}

// TestPendingIsNeverTooLow watches it while durable and buffered appends race.
// Nothing is applied meanwhile, so all that was ever answered is pending.
func TestPendingIsNeverTooLow(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{})
	const each = 300
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range each {
				if _, err := s.Append(t.Context(), 0, message()); err != nil {
					t.Errorf("append: %v", err)
				}
				answered.Add(1)
			}
		})
		wg.Go(func() {
			for range each {
				as := []wal.Appending{{Record: message()}}
				if s.AppendBuffered(t.Context(), as); as[0].Err != nil {
					t.Errorf("buffered append: %v", as[0].Err)
				}
				answered.Add(1)
			}
		})
	}
	for answered.Load() < 8*each && !t.Failed() {
		least := answered.Load()
		if got := s.Pending(0); got < least {
			t.Errorf("%d pending, %d were answered and none applied", got, least)
		}
		runtime.Gosched()
	}
	wg.Wait()
	for s.Progress().Acked(0) < 8*each-1 && !t.Failed() { // until the buffered ones are durable
		runtime.Gosched()
	}
	s.Progress().Advance(0, 8*each-1, 1)
	for s.Pending(0) != 0 { // the last may be acknowledged and still counted in flight
		runtime.Gosched()
	}
	if got := s.Pending(1); got != 0 {
		t.Errorf("%d pending in a partition that nothing was appended to", got)
	}
}
