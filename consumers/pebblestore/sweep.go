package pebblestore

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// checkEvery is how many keys are looked at between two looks at the context.
const checkEvery = 1024

// Sweep is one bounded sweep of a partition.
type Sweep[S any] struct {
	W *pebble.Batch // what it removes
	// State is what the partition's last commit saved; not to be changed.
	State  *S
	Looked int // keys
	ctx    context.Context
	limit  int
}

// Look counts a key that is about to be looked at; false: the sweep has looked at
// enough, and ends in front of it.
func (sw *Sweep[S]) Look() (bool, error) {
	if sw.Looked >= sw.limit {
		return false, nil
	}
	if sw.Looked++; sw.Looked%checkEvery == 0 && sw.ctx.Err() != nil {
		return false, context.Cause(sw.ctx)
	}
	return true, nil
}

// Room is how many more keys the sweep may look at.
func (sw *Sweep[S]) Room() int { return sw.limit - sw.Looked }

// Sweep calls walk, which looks at up to limit keys, one at least. Then it evicts
// the token buckets that lie wholly before horizon, in microseconds of log time,
// and commits all of it. No commit of the partition runs meanwhile. tokens is how
// many entries were evicted, about.
func (s *Store[S, E]) Sweep(
	ctx context.Context, p wal.Partition, horizon int64, limit int, walk func(sw *Sweep[S]) error,
) (tokens int64, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return 0, err
	}
	defer s.Leave()
	if err := s.DB.Err(); err != nil {
		return 0, err
	}
	part := &s.parts[p]
	part.writing.Lock()
	defer part.writing.Unlock()
	sw := &Sweep[S]{W: s.DB.NewBatch(), State: part.state.Load(), ctx: ctx, limit: max(limit, 1)}
	tokens, lost, err := s.sweep(sw, p, horizon, walk)
	if !lost {
		err = errors.Join(err, sw.W.Close())
	}
	if err != nil {
		return 0, s.DB.ReadError("sweep", p, err)
	}
	return tokens, nil
}

func (s *Store[S, E]) sweep(
	sw *Sweep[S], p wal.Partition, horizon int64, walk func(sw *Sweep[S]) error,
) (tokens int64, lost bool, err error) {
	if err := walk(sw); err != nil {
		return 0, false, err
	}
	change := s.parts[p].change
	_, tokens, err = change.Evict(sw.W, horizon)
	if err != nil || sw.W.Empty() {
		change.Discard()
		return 0, false, err
	}
	lost, err = s.commit(p, sw.W, sw.State, true)
	return tokens, lost, err
}
