package pebblecounter

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// batch is a counter.Batch. It writes straight into a Pebble batch, so that a
// row allocates nothing.
type batch struct {
	changes
	p wal.Partition
}

// changes is what every batch of a store on Pebble has.
type changes = pebblestore.Batch[counter.State, counter.TokenEntry]

// Begin implements counter.Store. Where the partition does not exist, or the
// store is closed, Commit says so.
func (s *Store) Begin(p wal.Partition) counter.Batch { return &batch{s.ledger.Begin(p), p} }

func (b *batch) set(keyLen int) { b.Finish(b.W.SetDeferred(keyLen, len(b.Buf)-keyLen), keyLen) }

func (b *batch) merge(keyLen int) { b.Finish(b.W.MergeDeferred(keyLen, len(b.Buf)-keyLen), keyLen) }

func (b *batch) delete() { b.Finish(b.W.DeleteDeferred(len(b.Buf)), len(b.Buf)) }

// SaveCounter implements counter.Batch.
func (b *batch) SaveCounter(name []byte, r *counter.Row) {
	if !b.Ready() {
		return
	}
	b.Buf = appendCounterKey(b.Buf[:0], b.p, name)
	n := len(b.Buf)
	b.Buf = rowcodec.AppendRow(b.Buf, r)
	b.set(n)
}

// DropCounter implements counter.Batch.
func (b *batch) DropCounter(name []byte) {
	if !b.Ready() {
		return
	}
	b.Buf = appendCounterKey(b.Buf[:0], b.p, name)
	b.delete()
}

// Retire implements counter.Batch.
func (b *batch) Retire(id uint64, o wal.Offset) {
	if !b.Ready() {
		return
	}
	b.Buf = appendIDKey(b.Buf[:0], tableRetired, b.p, id)
	b.Buf = binary.AppendVarint(pebblestore.AppendVersion(b.Buf), int64(o))
	b.set(idLen)
}

// AddWindow implements counter.Batch. It is a blind write: the merger sums. A
// size that is not a whole number of seconds fails the batch.
func (b *batch) AddWindow(id uint64, size time.Duration, start int64, sum counter.Bucket) {
	if !b.Ready() {
		return
	}
	seconds, err := windowSeconds(size)
	if err != nil {
		b.SetErr(err)
		return
	}
	b.Buf = appendWindowKey(b.Buf[:0], b.p, id, seconds, start)
	b.Buf = rowcodec.AppendWindow(b.Buf, &sum)
	b.merge(windowLen)
}

// SaveEvents implements counter.Batch.
func (b *batch) SaveEvents(o wal.Offset, row []byte) {
	if !b.Ready() {
		return
	}
	if o < 0 {
		b.SetErr(fmt.Errorf("events of offset %d", o))
		return
	}
	op := b.W.SetDeferred(offsetLen, len(row))
	appendEventsKey(op.Key[:0], b.p, o)
	copy(op.Value, row)
	b.SetErr(op.Finish())
}

// DropEvents implements counter.Batch.
func (b *batch) DropEvents(o wal.Offset) {
	if !b.Ready() || o < 0 {
		return
	}
	lo, hi := pebblestore.Span(tableEvents, b.p)
	if o < math.MaxInt64 {
		hi = appendEventsKey(hi[:0], b.p, o+1)
	}
	b.SetErr(b.W.DeleteRange(lo, hi, nil))
}

// AddBase implements counter.Batch. It is a blind write: the merger sums.
func (b *batch) AddBase(id uint64, base counter.Base) {
	if !b.Ready() {
		return
	}
	b.Buf = appendIDKey(b.Buf[:0], tableBase, b.p, id)
	b.Buf = appendBase(b.Buf, &base)
	b.merge(idLen)
}

// SaveReservation implements counter.Batch. What is held and what has ended are
// two tables; of one that stands in both, as an identity of long ago can when it is
// used again, the held one counts.
func (b *batch) SaveReservation(r *counter.Reservation) {
	if !b.Ready() {
		return
	}
	table := byte(tableEnded)
	switch r.State {
	case counter.Held:
		table = tableHeld
	case counter.Settled, counter.Cancelled, counter.Expired:
		b.Buf = appendTokenKey(b.Buf[:0], tableHeld, b.p, &r.ID)
		b.delete()
	default:
		b.SetErr(fmt.Errorf("reservation in state %d", r.State))
		return
	}
	b.Buf = appendTokenKey(b.Buf[:0], table, b.p, &r.ID)
	b.Buf = rowcodec.AppendReservation(b.Buf, r)
	b.set(tokenIDLen)
}
