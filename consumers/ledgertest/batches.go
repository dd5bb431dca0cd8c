package ledgertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

func stateKept[S comparable, E Entry](s *suite[S, E]) {
	s.open(3)
	s.checkKept() // of a new store
	states := []consumers.State{
		{},
		{Applied: 1 << 62, LogTime: -1, MaxTime: 1 << 62, Follows: true, FirstException: 1 << 61},
		{Applied: wal.NoOffset, LogTime: 1, FirstException: 5},
		{Applied: 9, Sources: consumers.Sources("").With(wal.Incarnation{7}, 2, wal.SourcePlace{At: 1 << 50, Offset: 3})},
	}
	for round := range states {
		for p, m := range s.models {
			m.common = states[(p+round)%len(states)]
			m.state = s.h.State(m.common, round+10*p)
			b := s.h.Begin(s.l, wal.Partition(p)) // with nothing else in it
			if err := b.Commit(bg, m.state); err != nil {
				s.Fatal(err)
			}
			s.check()
		}
		s.checkKept()
	}
}

func aborted[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	s.commit(0, s.everything(1))
	for range 3 {
		b := s.h.Begin(s.l, 0)
		if !b.Empty() {
			s.Error("a new batch is not empty")
		}
		s.everything(2)(b)
		b.SaveException(1, []byte("another"))
		b.TrimExceptions(100)
		if b.Empty() {
			s.Error("a batch with changes is empty")
		}
		s.check()
		b.Abort()
		b.Abort()
		s.check()
		if err := b.Commit(bg, s.models[0].state); err == nil {
			s.Fatal("an aborted batch can be committed")
		}
		if n := s.l.LiveTokens(0); n != 1 {
			s.Fatalf("%d live tokens, want 1", n)
		}
	}
	for _, add := range []func(w changes[E]){
		func(w changes[E]) { w.SaveToken(s.token(5, 5, 5)) },
		func(w changes[E]) { w.SaveException(5, nil) },
		func(w changes[E]) { park(w, "k", 1) },
	} {
		b := s.h.Begin(s.l, 0)
		if add(b); b.Empty() {
			s.Error("a batch with one change is empty")
		}
		b.Abort()
	}
	s.checkKept()
	s.commit(0, s.everything(3))
	s.checkKept()
}

func batchUsed[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	m := s.models[0]
	m.common.Applied = 3
	m.state = s.h.State(m.common, 3)
	b := s.h.Begin(s.l, 0)
	s.everything(1)(b)
	s.everything(1)(m)
	if err := b.Commit(bg, m.state); err != nil {
		s.Fatal(err)
	}
	b.Abort()
	s.everything(2)(b)
	if err := b.Commit(bg, m.state); err == nil {
		s.Fatal("a batch can be committed twice")
	}
	s.checkKept()
	s.commit(0, s.everything(3))
	s.check()
}

func batchCopies[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	s.commit(0, func(w changes[E]) {
		var given [][]byte
		for i := range 50 {
			data, key := fmt.Append(nil, "exception ", i), fmt.Append(nil, "key", i)
			c := consumers.ParkedChange{Op: consumers.ParkedBegin, Key: key}
			e := *s.token(i, wal.Offset(i), 5)
			w.SaveException(wal.Offset(i), data)
			w.SaveParked(&c)
			c.Op, c.Ref.Offset = consumers.ParkedAdd, 7
			w.SaveParked(&c)
			w.SaveToken(&e)
			given = append(given, data, key)
			c.Ref.Offset = 99
			e = *s.token(i+1, 0, 0)
		}
		for _, b := range given {
			clear(b)
		}
	})
	s.checkKept()
}

func synced[S comparable, E Entry](s *suite[S, E]) {
	s.open(3)
	for n := range 10 {
		s.commit(wal.Partition(n%2), s.everything(n))
		got, err := s.l.Sync(bg)
		if err != nil || len(got) != 3 {
			s.Fatalf("sync: %v %v", got, err)
		}
		for p, m := range s.models {
			if got[wal.Partition(p)] != m.common.Applied {
				s.Fatalf("partition %d is synced at %d, want %d", p, got[wal.Partition(p)], m.common.Applied)
			}
		}
	}
	s.check()
}

// calls makes each call of a ledger and each commit, and returns their errors.
func (s *suite[S, E]) calls(ctx context.Context, p wal.Partition) map[string]error {
	errs := make(map[string]error)
	_, errs["State"] = s.l.State(ctx, p)
	_, _, errs["Token"] = s.l.Token(ctx, p, tokenID(1))
	_, errs["Parked"] = s.l.Parked(ctx, p)
	errs["Exceptions"] = s.l.Exceptions(ctx, p, 0, 1<<62, func(wal.Offset, []byte) error { return nil })
	b := s.h.Begin(s.l, p)
	s.everything(2)(b)
	b.TrimExceptions(2)
	errs["Commit"] = b.Commit(ctx, s.h.State(consumers.State{Applied: 99}, 99))
	b.Abort()
	return errs
}

func (s *suite[S, E]) all(errs map[string]error, want error) {
	s.Helper()
	for name, err := range errs {
		if !errors.Is(err, want) {
			s.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func afterClose[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	s.commit(0, s.everything(1))
	b := s.h.Begin(s.l, 0)
	s.everything(2)(b)
	if err := s.l.Close(); err != nil {
		s.Fatal(err)
	}
	s.everything(3)(b)
	errs := make(map[string]error)
	errs["Commit of a batch begun before"] = b.Commit(bg, s.models[0].state)
	b.Abort()
	s.all(errs, consumers.ErrClosed)
	errs = s.calls(bg, 0)
	_, errs["Sync"] = s.l.Sync(bg)
	_, errs["Usage"] = s.l.Usage(bg)
	s.all(errs, consumers.ErrClosed)
	s.l.SetTokenWindow(1 << 40)
	if err := s.l.Close(); err != nil {
		s.Errorf("a second close: %v", err)
	}
	s.reopen()
	s.check()
}

func cancelled[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	s.commit(0, s.everything(1))
	why := errors.New("given up")
	ctx, cancel := context.WithCancelCause(bg)
	cancel(why)
	errs := s.calls(ctx, 0)
	_, errs["Sync"] = s.l.Sync(ctx)
	_, errs["Usage"] = s.l.Usage(ctx)
	s.all(errs, why)
	s.checkKept()
	s.commit(0, s.everything(3))
	s.checkKept()
}

func noPartition[S comparable, E Entry](s *suite[S, E]) {
	s.open(2)
	for _, p := range []wal.Partition{2, 1 << 20} {
		s.all(s.calls(bg, p), wal.ErrNoPartition)
		if n := s.l.LiveTokens(p); n != 0 {
			s.Errorf("%d live tokens of partition %d", n, p)
		}
	}
	s.check()
}
