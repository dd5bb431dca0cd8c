package pebblestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const batchInitialBytes = 64 << 10

var errBatchUsed = errors.New("batch is used up")

// work is the memory of a batch, used again and again.
type work struct {
	// W is what Commit applies, in the order of the calls.
	W *pebble.Batch
	// Buf is for the batch's store to build a key and its value in.
	Buf    []byte
	tokens []savedToken
	values []byte // of the tokens
	order  pebbletokens.Order
}

// savedToken is a token whose entry ends at end of values, and begins where the
// one before it ends.
type savedToken struct {
	id      wal.TokenID
	logTime int64
	end     int
}

// Batch is the part of a batch that every store has: it implements
// consumers.Batch, and the batch of a store embeds it. Any number may be open at
// a time; commits of a partition are one at a time.
type Batch[S any, E wal.Decided] struct {
	// Removes says that what is in W removes something, for Removals.
	Removes bool

	*work // nil when it is used up, or has not begun
	s     *Store[S, E]
	p     wal.Partition
	// excepts: an exception was saved.
	excepts bool
	err     error // the first; Commit returns it
}

// Begin starts a batch. Where the partition does not exist, or the store is
// closed, Commit says so.
func (s *Store[S, E]) Begin(p wal.Partition) Batch[S, E] {
	b := Batch[S, E]{s: s, p: p}
	if b.err = s.Enter(context.Background(), p); b.err != nil {
		return b
	}
	defer s.Leave()
	b.work = s.works.Get().(*work)
	return b
}

// Ready reports whether a call may add to the batch: W is there.
func (b *Batch[S, E]) Ready() bool {
	if b.work == nil {
		b.SetErr(errBatchUsed)
	}
	return b.err == nil
}

// SetErr fails the batch: Commit returns the first error that is not nil.
func (b *Batch[S, E]) SetErr(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Finish copies a key and a value that were built in Buf. The key ends at keyLen.
func (b *Batch[S, E]) Finish(op *pebble.DeferredBatchOp, keyLen int) {
	copy(op.Key, b.Buf[:keyLen])
	copy(op.Value, b.Buf[keyLen:])
	b.SetErr(op.Finish())
}

// SaveToken implements consumers.Batch. Entries are written by Commit, in the
// order of their keys: the memtable takes neighbours at half the cost of strangers.
func (b *Batch[S, E]) SaveToken(e *E) {
	if !b.Ready() {
		return
	}
	t := b.s.layout.TokenOf(e)
	b.order.Add(&t.ID, len(b.tokens))
	b.values = b.s.layout.AppendToken(b.values, e)
	b.tokens = append(b.tokens, savedToken{t.ID, t.LogTime, len(b.values)})
}

func (b *Batch[S, E]) addTokens(c *pebbletokens.Change) error {
	for at := range b.order.Sorted() {
		t, begin := &b.tokens[at], 0
		if at > 0 {
			begin = b.tokens[at-1].end
		}
		op := c.Add(b.W, &t.id, t.logTime, t.end-begin)
		copy(op.Value, b.values[begin:t.end])
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// SaveParked implements consumers.Batch.
func (b *Batch[S, E]) SaveParked(c *consumers.ParkedChange) {
	if b.Ready() {
		b.SetErr(b.s.DB.SaveParked(b.W, b.p, c))
	}
}

// Empty implements consumers.Batch.
func (b *Batch[S, E]) Empty() bool { return b.work == nil || b.W.Empty() && len(b.tokens) == 0 }

// Commit implements consumers.Batch. One Pebble batch carries the changes, the
// state and the list of token buckets.
func (b *Batch[S, E]) Commit(ctx context.Context, st S) error {
	err := b.commit(ctx, &st)
	b.Abort()
	if err != nil {
		return fmt.Errorf("commit %s: partition %d: %w", b.s.layout.Name, b.p, err)
	}
	return nil
}

func (b *Batch[S, E]) commit(ctx context.Context, st *S) error {
	if !b.Ready() {
		return b.err
	}
	if err := b.s.Enter(ctx, b.p); err != nil {
		return err
	}
	defer b.s.Leave()
	part := &b.s.parts[b.p]
	part.writing.Lock()
	defer part.writing.Unlock()
	if err := b.addTokens(part.change); err != nil {
		part.change.Discard()
		return err
	}
	lost, err := b.s.commit(b.p, b.W, st, b.Removes)
	if lost {
		b.work = nil // Pebble may still be reading it
	}
	return err
}

// Abort implements consumers.Batch.
func (b *Batch[S, E]) Abort() {
	k := b.work
	if k == nil {
		return
	}
	b.work = nil
	k.W.Reset()
	k.order.Reset()
	k.tokens, k.values = k.tokens[:0], k.values[:0]
	b.s.works.Put(k)
}
