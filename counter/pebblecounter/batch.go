package pebblecounter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const (
	// keptBatches bounds how many batches are kept for use again: of a commit and
	// of what is filled behind it, for a core or two.
	keptBatches        = 4
	batchInitialBytes  = 64 << 10
	batchRetainedBytes = 16 << 20 // a flush of 100,000 counters
)

var errBatchUsed = errors.New("batch is used up")

// work is the memory of a batch, used again and again.
type work struct {
	w      *pebble.Batch
	buf    []byte // a key and its value
	tokens []savedToken
	values []byte // of the tokens
	order  pebbletokens.Order
}

// savedToken is a token whose entry ends at end of values, and begins where the
// one before it ends.
type savedToken struct {
	nonce   wal.Nonce
	logTime int64
	end     int
}

// batch is a counter.Batch. It writes straight into a Pebble batch, so that a
// row allocates nothing.
type batch struct {
	s *Store // nil when Begin has failed
	p *partition
	*work
	err error // the first; Commit returns it
}

// Begin implements counter.Store. Where the partition does not exist, or the
// store is closed, Commit says so.
func (s *Store) Begin(p wal.Partition) counter.Batch {
	part, err := s.enter(context.Background(), p)
	if err != nil {
		return &batch{err: err}
	}
	defer s.leave()
	b := &batch{s: s, p: part}
	select {
	case b.work = <-s.free:
	default:
		b.work = &work{w: s.db.NewBatch(pebble.WithInitialSizeBytes(batchInitialBytes), pebble.WithMaxRetainedSizeBytes(batchRetainedBytes))}
	}
	return b
}

// closeBatches gives up the ones that wait. Nobody is inside.
func (s *Store) closeBatches() (err error) {
	for {
		select {
		case w := <-s.free:
			err = errors.Join(err, w.w.Close())
		default:
			return err
		}
	}
}

func (b *batch) setErr(err error) {
	if b.err == nil {
		b.err = err
	}
}

// ready reports whether the call may add to the batch.
func (b *batch) ready() bool {
	if b.work == nil {
		b.setErr(errBatchUsed)
	}
	return b.err == nil
}

// finish copies a key and a value that were built in buf.
func (b *batch) finish(op *pebble.DeferredBatchOp, keyLen int) {
	copy(op.Key, b.buf[:keyLen])
	copy(op.Value, b.buf[keyLen:])
	if err := op.Finish(); err != nil {
		b.setErr(err)
	}
}

func (b *batch) set(keyLen int) {
	b.finish(b.w.SetDeferred(keyLen, len(b.buf)-keyLen), keyLen)
}

func (b *batch) merge(keyLen int) {
	b.finish(b.w.MergeDeferred(keyLen, len(b.buf)-keyLen), keyLen)
}

func (b *batch) delete() { b.finish(b.w.DeleteDeferred(len(b.buf)), len(b.buf)) }

// SaveCounter implements counter.Batch.
func (b *batch) SaveCounter(name []byte, r *counter.Row) {
	if !b.ready() {
		return
	}
	b.buf = appendCounterKey(b.buf[:0], b.p.id, name)
	n := len(b.buf)
	b.buf = appendRow(b.buf, r)
	b.set(n)
}

// DropCounter implements counter.Batch.
func (b *batch) DropCounter(name []byte) {
	if !b.ready() {
		return
	}
	b.buf = appendCounterKey(b.buf[:0], b.p.id, name)
	b.delete()
}

// Retire implements counter.Batch.
func (b *batch) Retire(id uint64, o wal.Offset) {
	if !b.ready() {
		return
	}
	b.buf = appendIDKey(b.buf[:0], tableRetired, b.p.id, id)
	b.buf = binary.AppendVarint(append(b.buf, valueVersion), int64(o))
	b.set(idLen)
}

// AddWindow implements counter.Batch. It is a blind write: the merger sums. A
// size that is not a whole number of seconds fails the batch.
func (b *batch) AddWindow(id uint64, size time.Duration, start int64, sum counter.Bucket) {
	if !b.ready() {
		return
	}
	seconds, err := windowSeconds(size)
	if err != nil {
		b.setErr(err)
		return
	}
	b.buf = appendWindowKey(b.buf[:0], b.p.id, id, seconds, start)
	b.buf = appendWindow(b.buf, &sum)
	b.merge(windowLen)
}

// SaveEvents implements counter.Batch.
func (b *batch) SaveEvents(o wal.Offset, row []byte) {
	if !b.ready() {
		return
	}
	if o < 0 {
		b.setErr(fmt.Errorf("events of offset %d", o))
		return
	}
	op := b.w.SetDeferred(offsetLen, len(row))
	appendEventsKey(op.Key[:0], b.p.id, o)
	copy(op.Value, row)
	if err := op.Finish(); err != nil {
		b.setErr(err)
	}
}

// DropEvents implements counter.Batch.
func (b *batch) DropEvents(o wal.Offset) {
	if !b.ready() || o < 0 {
		return
	}
	lo, hi := pebblestore.Span(tableEvents, b.p.id)
	if o < math.MaxInt64 {
		hi = appendEventsKey(hi[:0], b.p.id, o+1)
	}
	if err := b.w.DeleteRange(lo, hi, nil); err != nil {
		b.setErr(err)
	}
}

// AddBase implements counter.Batch. It is a blind write: the merger sums.
func (b *batch) AddBase(id uint64, base counter.Base) {
	if !b.ready() {
		return
	}
	b.buf = appendIDKey(b.buf[:0], tableBase, b.p.id, id)
	b.buf = appendBase(b.buf, &base)
	b.merge(idLen)
}

// SaveReservation implements counter.Batch. What is held and what has ended are
// two tables; of one that stands in both, as a nonce of long ago can when it is
// used again, the held one counts.
func (b *batch) SaveReservation(r *counter.Reservation) {
	if !b.ready() {
		return
	}
	table := byte(tableEnded)
	switch r.State {
	case counter.Held:
		table = tableHeld
	case counter.Settled, counter.Cancelled, counter.Expired:
		b.buf = appendNonceKey(b.buf[:0], tableHeld, b.p.id, &r.ID)
		b.delete()
	default:
		b.setErr(fmt.Errorf("reservation in state %d", r.State))
		return
	}
	b.buf = appendNonceKey(b.buf[:0], table, b.p.id, &r.ID)
	b.buf = appendReservation(b.buf, r)
	b.set(nonceLen)
}

// SaveParked implements counter.Batch.
func (b *batch) SaveParked(q *consumers.ParkedQueue) {
	if !b.ready() {
		return
	}
	if err := b.s.db.SaveParked(b.w, b.p.id, q); err != nil {
		b.setErr(err)
	}
}

// SaveToken implements counter.Batch. Entries are written by Commit, in the order
// of their keys.
func (b *batch) SaveToken(e *counter.TokenEntry) {
	if !b.ready() {
		return
	}
	b.order.Add(&e.Nonce, len(b.tokens))
	b.values = appendToken(b.values, e)
	b.tokens = append(b.tokens, savedToken{e.Nonce, e.LogTime, len(b.values)})
}

func (b *batch) addTokens(c *pebbletokens.Change) error {
	for at := range b.order.Sorted() {
		t, begin := &b.tokens[at], 0
		if at > 0 {
			begin = b.tokens[at-1].end
		}
		op := c.Add(b.w, &t.nonce, t.logTime, t.end-begin)
		copy(op.Value, b.values[begin:t.end])
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// Commit implements counter.Batch. One Pebble batch carries the changes and the
// state.
func (b *batch) Commit(ctx context.Context, st counter.State) error {
	if b.s == nil {
		return fmt.Errorf("commit counter batch: %w", b.err)
	}
	if b.work == nil {
		return b.wrap(errBatchUsed)
	}
	defer b.Abort()
	if err := b.s.gate.enter(ctx); err != nil {
		return b.wrap(err)
	}
	defer b.s.leave()
	if b.err != nil {
		return b.wrap(b.err)
	}
	b.p.writing.Lock()
	defer b.p.writing.Unlock()
	change := b.s.tokens.NewChange(b.p.id)
	if err := b.addTokens(change); err != nil {
		change.Discard()
		return b.wrap(err)
	}
	lost, err := b.s.apply(b.p, b.w, change, &st)
	if lost {
		b.work = nil // Pebble may still be reading it
	}
	if err != nil {
		return b.wrap(err)
	}
	return nil
}

func (b *batch) wrap(err error) error {
	return fmt.Errorf("commit counter batch: partition %d: %w", b.p.id, err)
}

// apply commits w, with the state and the list of token buckets, and ends the
// change. lost: w must not be touched any more. The caller holds the partition's
// writing.
func (s *Store) apply(p *partition, w *pebble.Batch, change *pebbletokens.Change, st *counter.State) (lost bool, err error) {
	value, err := change.AppendState(appendState(nil, st))
	if err == nil {
		err = w.Set(pebblestore.StateKey(p.id), value, nil)
	}
	if err != nil {
		change.Discard()
		return false, err
	}
	if err := s.db.Apply(w); err != nil {
		change.Discard()
		return true, err
	}
	change.Committed()
	p.state.Store(st)
	return false, nil
}

// Abort implements counter.Batch.
func (b *batch) Abort() {
	if b.work == nil {
		return
	}
	k := b.work
	b.work = nil
	if b.s.gate.enter(context.Background()) != nil {
		return // closed: nobody will use it again
	}
	defer b.s.leave()
	k.w.Reset()
	k.order.Reset()
	k.tokens, k.values = k.tokens[:0], k.values[:0]
	select {
	case b.s.free <- k:
	default:
		if err := k.w.Close(); err != nil {
			b.s.db.Fail(fmt.Errorf("close batch: %w", err))
		}
	}
}
