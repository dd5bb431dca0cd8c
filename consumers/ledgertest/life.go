package ledgertest

import (
	"errors"
	"fmt"
	"sync"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// closeWaits closes the store under a call, which makes others.
func closeWaits[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	for n := range 5 {
		s.commit(0, s.everything(n))
	}
	closed := make(chan error, 1)
	var late error
	err := s.l.Exceptions(bg, 0, 0, 100, func(o wal.Offset, _ []byte) error {
		if o == 0 {
			go func() { closed <- s.l.Close() }()
			for late == nil {
				_, late = s.l.State(bg, 0)
			}
		}
		if len(closed) > 0 {
			s.Error("the store is closed under a call")
		}
		return nil
	})
	if err != nil {
		s.Errorf("the call that was under way: %v", err)
	}
	if !errors.Is(late, consumers.ErrClosed) {
		s.Errorf("a call within: %v, want ErrClosed", late)
	}
	if err := <-closed; err != nil {
		s.Errorf("close: %v", err)
	}
	s.reopen()
	s.check()
}

// concurrent: each commit writes the same round everywhere, so that a reader
// that sees two rounds, or none, saw half a commit.
func concurrent[S comparable, E Entry](s *suite[S, E]) {
	const rounds, readers, kept = 300, 4, 20
	s.open(2)
	write := func(p wal.Partition, round int) error {
		b := s.h.Begin(s.l, p)
		defer b.Abort()
		b.SaveToken(s.token(round, wal.Offset(round), int64(round)*minute/100))
		for i := range kept {
			b.SaveException(wal.Offset(round+i), fmt.Append(nil, round))
		}
		b.TrimExceptions(wal.Offset(round))
		for i := range 3 {
			parkAs(b, fmt.Sprint("key ", i), headOf(round), round%7+1)
		}
		st := consumers.State{Applied: wal.Offset(round), LogTime: int64(round) * minute / 100}
		return b.Commit(bg, s.h.State(st, round))
	}
	read := func(p wal.Partition) (round int, err error) {
		st, err := s.l.State(bg, p)
		if err != nil {
			return 0, err
		}
		if _, ok, err := s.l.Token(bg, p, tokenID(int(st.Applied))); err != nil || !ok {
			// A reader that was held up for a hundred commits may be behind the sweep.
			if now, err := s.l.State(bg, p); err != nil || now.Applied-st.Applied < 90 {
				return 0, differs(err, "the token of commit %d, which has returned, is not found", st.Applied)
			}
		}
		queues, err := s.l.Parked(bg, p)
		if err != nil || len(queues) != 3 {
			return 0, differs(err, "parked %d", len(queues))
		}
		for _, q := range queues {
			if q.Attempts != queues[0].Attempts || q.Attempts < int(st.Applied) {
				return 0, fmt.Errorf("queues of rounds %d and %d after commit %d", q.Attempts, queues[0].Attempts, st.Applied)
			}
		}
		rows, err := read(s.l, p, 0, 1<<62)
		if err != nil || len(rows) != kept {
			return 0, differs(err, "%d exceptions", len(rows))
		}
		for i, r := range rows {
			if r.data != rows[0].data || r.o != rows[0].o+wal.Offset(i) || fmt.Sprint(rows[0].o) != r.data {
				return 0, fmt.Errorf("exceptions of two rounds: %v", rows)
			}
		}
		if int(rows[0].o) < queues[0].Attempts {
			return 0, fmt.Errorf("exceptions of round %d after queues of %d", rows[0].o, queues[0].Attempts)
		}
		return int(st.Applied), nil
	}
	done := make(chan struct{})
	var reading, writing sync.WaitGroup
	for p := range wal.Partition(2) {
		if err := write(p, 1); err != nil {
			s.Fatal(err)
		}
		writing.Go(func() {
			for round := 2; round <= rounds && !s.Failed(); round++ {
				if err := write(p, round); err != nil {
					s.Errorf("commit: %v", err)
				}
				if round%20 == 0 {
					if _, err := s.h.Evict(s.l, p, int64(round-100)*minute/100); err != nil {
						s.Errorf("evict: %v", err)
					}
					if _, err := s.l.Sync(bg); err != nil {
						s.Errorf("sync: %v", err)
					}
				}
			}
		})
	}
	for n := range readers {
		reading.Go(func() {
			last := 0
			for {
				select {
				case <-done:
					return
				default:
				}
				round, err := read(wal.Partition(n % 2))
				if err != nil || round < last {
					s.Errorf("reader %d: commit %d after %d: %v", n, round, last, err)
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

// crashes ends a random program in the middle of it, with any part of what was
// not synced lost, again and again.
func crashes[S comparable, E Entry](s *suite[S, E]) {
	if s.h.Crash == nil {
		s.Skip("the power cannot be made to fail")
	}
	rapid.Check(s.T, func(t *rapid.T) {
		c := &suite[S, E]{T: s.T, h: s.h, l: s.h.Open(s, 2)}
		defer func() {
			if err := c.l.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}()
		c.models = []*model[S, E]{newModel(&c.h), newModel(&c.h)}
		history := [][]*model[S, E]{{c.models[0].clone()}, {c.models[1].clone()}}
		synced := []int{0, 0}
		seed := rapid.Uint64().Draw(t, "seed")
		tokens := 0
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			p := rapid.IntRange(0, 1).Draw(t, "partition")
			m := c.models[p]
			switch rapid.SampledFrom([]string{"commit", "commit", "commit", "evict", "sync", "crash"}).Draw(t, "step") {
			case "commit":
				m.common.LogTime += rapid.Int64Range(0, 3*minute/60).Draw(t, "log time passes")
				var do []func(w changes[E])
				next := m.clone() // with the changes so far
				for range rapid.IntRange(0, 5).Draw(t, "changes") {
					tokens++
					do = append(do, c.change(t, next, tokens))
					do[len(do)-1](next)
				}
				c.commit(wal.Partition(p), func(w changes[E]) {
					for _, f := range do {
						f(w)
					}
				})
				history[p] = append(history[p], m.clone())
			case "evict":
				c.evict(wal.Partition(p), m.common.LogTime-2*minute/60)
				for _, old := range history[p] { // a crash may keep the eviction and a later commit
					old.horizon = m.horizon
				}
			case "sync":
				if _, err := c.l.Sync(bg); err != nil {
					t.Fatal(err)
				}
				synced = []int{len(history[0]) - 1, len(history[1]) - 1}
			case "crash":
				c.crash(t, rapid.IntRange(0, 100).Draw(t, "percent kept"), seed, history, synced)
			}
			c.check()
		}
		c.crash(t, 0, seed, history, synced)
	})
}

// change draws one change of a batch.
func (s *suite[S, E]) change(t *rapid.T, m *model[S, E], i int) func(w changes[E]) {
	next := m.common.Applied + 1
	switch rapid.SampledFrom([]string{"token", "token", "exception", "exception", "trim", "park"}).Draw(t, "op") {
	case "token":
		e := s.token(i, next, m.common.LogTime)
		return func(w changes[E]) { w.SaveToken(e) }
	case "exception":
		data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "row")
		return func(w changes[E]) { w.SaveException(next, data) }
	case "trim":
		before := next - wal.Offset(rapid.IntRange(0, 3).Draw(t, "kept"))
		return func(w changes[E]) { w.TrimExceptions(before) }
	default:
		key := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")
		q, there := m.parked[key]
		if !there {
			return func(w changes[E]) { park(w, key, 1) }
		}
		c := consumers.ParkedChange{Key: []byte(key), Head: headOf(q.Attempts + 1), Ref: wal.Ref{Offset: q.Refs[len(q.Refs)-1].Offset + 1}}
		ops := []consumers.ParkedOp{consumers.ParkedAgain, consumers.ParkedAdd, consumers.ParkedAdd, consumers.ParkedBelow, consumers.ParkedGone}
		if c.Op = rapid.SampledFrom(ops).Draw(t, "parked"); c.Op == consumers.ParkedBelow {
			c.Ref = rapid.SampledFrom(q.Refs).Draw(t, "below")
		}
		return func(w changes[E]) { w.SaveParked(&c) }
	}
}

// crash checks what a crash now would leave. It opens it twice: recovery itself
// must lose nothing.
func (s *suite[S, E]) crash(t *rapid.T, percent int, seed uint64, history [][]*model[S, E], synced []int) {
	l := s.h.Crash(s, s.l, percent, seed)
	defer func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	for round := range 2 {
		for p, of := range history {
			st, err := l.State(bg, wal.Partition(p))
			if err != nil {
				t.Fatal(err)
			}
			at := int(st.Applied) + 1
			if at < synced[p] || at >= len(of) {
				t.Fatalf("partition %d is as of commit %d of %d, synced was %d", p, at, len(of)-1, synced[p])
			}
			if err := of[at].compare(l, wal.Partition(p)); err != nil {
				t.Fatalf("partition %d as of commit %d: %v", p, at, err)
			}
		}
		if round == 0 {
			l = s.h.Reopen(s, l)
		}
	}
}
