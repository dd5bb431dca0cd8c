package consumers

import (
	"context"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// Replica is a store of a namespace with the applier that writes it, as a Local
// asks it; E is what the abstraction keeps of a token.
type Replica[E wal.Decided] interface {
	Token(ctx context.Context, p wal.Partition, id wal.TokenID) (E, bool, error)
	Parked(p wal.Partition, key []byte) (ParkedQueue, bool)
	ParkedKeys(p wal.Partition) (n int, lowest wal.Offset)
	ParkedVersion(p wal.Partition) uint64
	ParkedHeads(p wal.Partition, do func(*ParkedQueue))
}

// Local is the Owner of partitions whose appliers are in this process: it asks the
// store that answers for each. An abstraction adds its reads. Safe for concurrent
// use.
type Local[E wal.Decided, R Replica[E]] struct {
	Progress *wal.Progress // of what answers
	parts    []atomic.Pointer[R]
}

// NewLocal returns an owner of partitions that nothing answers for yet.
func NewLocal[E wal.Decided, R Replica[E]](progress *wal.Progress) *Local[E, R] {
	return &Local[E, R]{Progress: progress, parts: make([]atomic.Pointer[R], progress.Partitions())}
}

// Set makes r answer for p from the next call on.
func (l *Local[E, R]) Set(p wal.Partition, r R) { l.parts[p].Store(&r) }

// SetAll is Set for every partition.
func (l *Local[E, R]) SetAll(r R) {
	for p := range l.parts {
		l.parts[p].Store(&r)
	}
}

// Clear has nothing answer for p any more.
func (l *Local[E, R]) Clear(p wal.Partition) { l.parts[p].Store(nil) }

// Of returns what answers for p. ErrNotAssigned where nothing does.
func (l *Local[E, R]) Of(p wal.Partition) (r R, err error) {
	if at := l.parts[p].Load(); at != nil {
		return *at, nil
	}
	return r, ErrNotAssigned
}

// Wait implements Owner.
func (l *Local[E, R]) Wait(ctx context.Context, p wal.Partition, o wal.Offset) error {
	return l.Progress.Wait(ctx, p, o)
}

// Token implements Owner.
func (l *Local[E, R]) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (e E, known bool, err error) {
	r, err := l.Of(p)
	if err != nil {
		return e, false, err
	}
	return r.Token(ctx, p, id)
}

// Tokens implements Owner.
func (l *Local[E, R]) Tokens(ctx context.Context, tokens []TokenAt) []Found[E] {
	out := make([]Found[E], len(tokens))
	for i, t := range tokens {
		out[i].Entry, out[i].Known, out[i].Err = l.Token(ctx, t.Partition, t.ID)
	}
	return out
}

// Parked implements Owner. Nothing is parked where nothing answers.
func (l *Local[E, R]) Parked(_ context.Context, p wal.Partition, key []byte) (q ParkedQueue, ok bool, err error) {
	if r, err := l.Of(p); err == nil {
		q, ok = r.Parked(p, key)
	}
	return q, ok, nil
}

// ParkedKeys implements Owner.
func (l *Local[E, R]) ParkedKeys(p wal.Partition) (int, wal.Offset) {
	r, err := l.Of(p)
	if err != nil {
		return 0, wal.NoOffset
	}
	return r.ParkedKeys(p)
}

// ParkedVersion is another number whenever other keys of a partition are parked.
func (l *Local[E, R]) ParkedVersion(p wal.Partition) uint64 {
	r, err := l.Of(p)
	if err != nil {
		return 0
	}
	return r.ParkedVersion(p)
}

// ParkedHeads calls do with the queue of each parked key of a partition; see
// Parking.Heads. The error is always nil.
func (l *Local[E, R]) ParkedHeads(_ context.Context, p wal.Partition, do func(*ParkedQueue)) error {
	if r, err := l.Of(p); err == nil {
		r.ParkedHeads(p, do)
	}
	return nil
}
