package ledgertest

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Entry is an abstraction's entry of a token.
type Entry interface {
	wal.Decided
	comparable
}

// Harness is how the suite gets at a store. S is its abstraction's state.
type Harness[S comparable, E Entry] struct {
	// Open returns a new, empty store. The suite closes it.
	Open func(t testing.TB, partitions int) consumers.Ledger[E]
	// Reopen closes the store and returns one over the same data.
	Reopen func(t testing.TB, l consumers.Ledger[E]) consumers.Ledger[E]
	// Crash returns a store over what is left when the power fails now, with so
	// many percent of what was not synced kept. l goes on. The suite closes both.
	// Where the power cannot be made to fail, Crash is nil and its case is skipped.
	Crash func(t testing.TB, l consumers.Ledger[E], percent int, seed uint64) consumers.Ledger[E]
	// Begin begins a batch of the store's.
	Begin func(l consumers.Ledger[E], p wal.Partition) consumers.Batch[S, E]
	// Fresh is the state of a partition that nothing was committed to.
	Fresh S
	// State is a state whose common part is st. What else it has differs with i.
	State func(st consumers.State, i int) S
	// Saved reads all of the state that was saved.
	Saved func(l consumers.Ledger[E], p wal.Partition) (S, error)
	// Entry is an entry of a token. What it says beside differs with i.
	Entry func(n wal.TokenID, o wal.Offset, logTime int64, i int) E
	// Key returns what an entry was made with.
	Key func(e *E) (wal.TokenID, wal.Offset)
	// Evict sweeps a whole round, and returns how many entries were evicted.
	Evict func(l consumers.Ledger[E], p wal.Partition, horizon int64) (int, error)
	// Lacks names the cases that the implementation cannot meet, with the reason.
	Lacks map[string]string
}

// Run runs the contract.
func Run[S comparable, E Entry](t *testing.T, h Harness[S, E]) {
	for _, c := range []struct {
		name string
		run  func(s *suite[S, E])
	}{
		{"the state is what the last commit said", stateKept[S, E]},
		{"a batch shows nothing before its commit, and an aborted one never", aborted[S, E]},
		{"a batch is used up by its commit", batchUsed[S, E]},
		{"a batch keeps nothing that it was given", batchCopies[S, E]},
		{"a synced offset is the last that was committed", synced[S, E]},
		{"use after close is ErrClosed", afterClose[S, E]},
		{"close waits for the calls that are under way", closeWaits[S, E]},
		{"a call that was given up does nothing", cancelled[S, E]},
		{"a partition that there is not is refused", noPartition[S, E]},
		{"a token is found at once, after a reopen, and nowhere else", tokensFound[S, E]},
		{"of two entries of a token the newer is found", tokenTwice[S, E]},
		{"tokens are evicted by log time alone", tokensEvicted[S, E]},
		{"parked queues grow, shrink, go, and are listed by key", parkedQueues[S, E]},
		{"exceptions are replaced, read in order and trimmed", exceptions[S, E]},
		{"a callback of Exceptions may call the store, and ends the walk", exceptionsCallback[S, E]},
		{"readers see whole commits while the applier writes", concurrent[S, E]},
		{"after a crash a partition is as of some commit, and of the last sync at least", crashes[S, E]},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := h.Lacks[c.name]; why != "" {
				t.Skip(why)
			}
			c.run(&suite[S, E]{T: t, h: h})
		})
	}
}

var bg = context.Background()

const minute = 60_000_000 // microseconds

// suite is a store and a model of each partition, written together.
type suite[S comparable, E Entry] struct {
	*testing.T
	h      Harness[S, E]
	l      consumers.Ledger[E]
	models []*model[S, E]
}

// open opens the store of a case.
func (s *suite[S, E]) open(partitions int) {
	s.Helper()
	s.l = s.h.Open(s, partitions)
	for range partitions {
		s.models = append(s.models, newModel(&s.h))
	}
	s.Cleanup(func() {
		if err := s.l.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
	})
}

// changes is what a batch and a model have in common.
type changes[E any] interface {
	SaveToken(e *E)
	SaveException(o wal.Offset, row []byte)
	TrimExceptions(before wal.Offset)
	SaveParked(c *consumers.ParkedChange)
}

// commit writes the next commit of a partition to the store and its model. do is
// called once for each.
func (s *suite[S, E]) commit(p wal.Partition, do func(w changes[E])) {
	s.Helper()
	m := s.models[p]
	m.common.Applied++
	b := s.h.Begin(s.l, p)
	defer b.Abort()
	do(b)
	do(m)
	m.state = s.h.State(m.common, int(m.common.Applied))
	if err := b.Commit(bg, m.state); err != nil {
		s.Fatalf("commit: %v", err)
	}
}

func (s *suite[S, E]) reopen() {
	s.Helper()
	s.l = s.h.Reopen(s, s.l)
}

// check compares everything with the models.
func (s *suite[S, E]) check() {
	s.Helper()
	for p, m := range s.models {
		if err := m.compare(s.l, wal.Partition(p)); err != nil {
			s.Fatalf("partition %d: %v", p, err)
		}
	}
}

// checkKept compares now and after a reopen.
func (s *suite[S, E]) checkKept() {
	s.Helper()
	s.check()
	s.reopen()
	s.check()
}

// token is an entry of token i.
func (s *suite[S, E]) token(i int, o wal.Offset, logTime int64) *E {
	e := s.h.Entry(tokenID(i), o, logTime, i)
	return &e
}

// tokenID is different for every i.
func tokenID(i int) (n wal.TokenID) {
	binary.BigEndian.PutUint64(n[4:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint32(n[12:], uint32(i))
	return n
}

// park replaces the queue of a key by one of n records; 0 removes it.
func park[E any](w changes[E], key string, n int) { parkAs(w, key, headOf(n), n) }

func parkAs[E any](w changes[E], key string, h consumers.ParkedHead, n int) {
	w.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedGone, Key: []byte(key)})
	if n == 0 {
		return
	}
	w.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedBegin, Key: []byte(key), Head: h})
	for i := range n {
		w.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedAdd, Key: []byte(key), Ref: refOf(n, i)})
	}
}

func headOf(n int) consumers.ParkedHead {
	return consumers.ParkedHead{Reason: fmt.Sprintf("poison %d", n), Attempts: n, At: wal.Offset(n) << 34, LogTime: int64(n) << 50}
}

// refOf is record i of a queue of n. Refs name no partition, which is the store's
// to know.
func refOf(n, i int) wal.Ref { return wal.Ref{Offset: wal.Offset(n * i << 20), Index: i} }

// everything writes something of each kind that differs with n.
func (s *suite[S, E]) everything(n int) func(w changes[E]) {
	return func(w changes[E]) {
		w.SaveToken(s.token(n, wal.Offset(n), int64(n)*minute))
		w.SaveException(wal.Offset(n), fmt.Append(nil, "exception ", n))
		park(w, fmt.Sprint("key ", n%3), n%5)
	}
}
