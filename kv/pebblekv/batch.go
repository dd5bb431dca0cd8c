package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const (
	batchInitialBytes  = 64 << 10
	batchRetainedBytes = 4 << 20

	// freeBytes is from what size on disk on a deleted span is worth a range
	// deletion of Pebble's, which every read of the memtable pays for. Less is left
	// to the sweep. The keys are not counted: where they are deleted already,
	// counting would step over each.
	freeBytes = 64 << 10
)

var (
	errBatchUsed = errors.New("batch is used up")
	errBatchOpen = errors.New("another batch of the partition is open")
)

// batch is the kv.Batch of a partition. It writes straight into a Pebble batch,
// so that a put allocates nothing.
type batch struct {
	s *Store
	p *partition

	open bool
	puts *pebble.Batch // everything but tombstones, in order of the calls
	// tombs holds the tombstones: an indexed batch, because a range tombstone is
	// merged with those that are there, also those of this batch.
	tombs   *pebble.Batch
	gone    []*span // of the deletes
	tokens  []kv.TokenEntry
	order   pebbletokens.Order
	change  *pebbletokens.Change // what is done to the token table
	state   []byte               // encoded; kept for its memory
	count   int
	deletes bool
	err     error // the first; Commit returns it
}

// Begin implements kv.Store. Where a batch of the partition is open already, or
// the partition does not exist, Commit of the new one says so.
func (s *Store) Begin(p wal.Partition) kv.Batch {
	part, err := s.partition(p)
	if err != nil {
		return brokenBatch{err}
	}
	b := &part.batch
	if b.open {
		return brokenBatch{errBatchOpen}
	}
	if err := s.enter(context.Background()); err != nil {
		return brokenBatch{err}
	}
	defer s.leave()
	if b.puts == nil {
		opts := []pebble.BatchOption{pebble.WithInitialSizeBytes(batchInitialBytes), pebble.WithMaxRetainedSizeBytes(batchRetainedBytes)}
		b.puts = s.db.NewBatch(opts...)
	}
	b.open, b.count, b.deletes, b.err = true, 0, false, nil
	if !part.marks.asked {
		state, err := s.db.Value(pebblestore.StateKey(p))
		if err != nil {
			b.setErr(err)
			return b
		}
		part.marks.start(state == nil)
	}
	return b
}

func (b *batch) setErr(err error) {
	if b.err == nil {
		b.err = err
	}
}

// ready reports whether the call may add to the batch.
func (b *batch) ready(id []byte) bool {
	if !b.open {
		b.setErr(errBatchUsed)
		return false
	}
	if len(id) > maxIDLen {
		b.setErr(fmt.Errorf("id of %d bytes, at most %d", len(id), maxIDLen))
		return false
	}
	b.count++
	return true
}

// Put implements kv.Batch. It is a blind write: the merger compares.
func (b *batch) Put(id []byte, v wal.Version, it *kv.StoredItem) {
	if !b.ready(id) {
		return
	}
	op := b.puts.MergeDeferred(headerLen+len(id)+1+len(it.Key), cellLen(&v, it))
	appendItemKey(op.Key[:0], b.p.id, id, it.Key)
	b.p.gone.note(id, it.Key)
	putCell(op.Value, &v, it)
	if err := op.Finish(); err != nil {
		b.setErr(err)
	}
	if v.Class == wal.Deleted {
		b.deletes = true
	}
}

// SaveToken implements kv.Batch. Entries are written by Commit, in the order of
// their keys: the memtable takes neighbours at half the cost of strangers.
func (b *batch) SaveToken(e *kv.TokenEntry) {
	if !b.ready(nil) {
		return
	}
	b.order.Add(&e.Nonce, len(b.tokens))
	b.tokens = append(b.tokens, *e)
}

func (b *batch) finishTokens() error {
	for at := range b.order.Sorted() {
		e := &b.tokens[at]
		op := b.change.Add(b.puts, &e.Nonce, e.LogTime, tokenValueLen(e))
		putToken(op.Value, e)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// SaveUpload implements kv.Batch.
func (b *batch) SaveUpload(u *kv.StoredUpload) {
	if !b.ready(u.Record) {
		return
	}
	b.set(uploadKey(b.p.id, u.ID), encodeUpload(u))
}

// SaveChunk implements kv.Batch.
func (b *batch) SaveChunk(id kv.UploadID, index int, data []byte) {
	if !b.ready(nil) {
		return
	}
	if index < 0 || int64(index) > math.MaxUint32 {
		b.setErr(fmt.Errorf("chunk %d of an upload", index))
		return
	}
	k := chunkKey(b.p.id, id, index)
	op := b.puts.SetDeferred(len(k), 4+len(data))
	copy(op.Key, k)
	binary.BigEndian.PutUint32(op.Value, chunkSum(k, data))
	copy(op.Value[4:], data)
	if err := op.Finish(); err != nil {
		b.setErr(err)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkSum covers the key, so that a chunk in another's place is noticed.
func chunkSum(key, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, data)
}

// DropUpload implements kv.Batch.
func (b *batch) DropUpload(id kv.UploadID) {
	if !b.ready(nil) {
		return
	}
	b.deletes = true
	b.setErrIf(dropUpload(b.puts, b.p.id, id))
}

func dropUpload(w *pebble.Batch, p wal.Partition, id kv.UploadID) error {
	lo, hi := chunkSpan(p, id)
	return errors.Join(w.DeleteRange(lo, hi, nil), w.Delete(uploadKey(p, id), nil))
}

// SaveParked implements kv.Batch.
func (b *batch) SaveParked(q *kv.ParkedQueue) {
	if !b.ready(nil) {
		return
	}
	b.setErrIf(b.s.db.SaveParked(b.puts, b.p.id, q))
}

func (b *batch) set(key, value []byte) {
	if err := b.puts.Set(key, value, nil); err != nil {
		b.setErr(err)
	}
}

// Empty implements kv.Batch.
func (b *batch) Empty() bool { return b.count == 0 }

// Commit implements kv.Batch. One Pebble batch carries the changes, the state
// and the token counts.
func (b *batch) Commit(ctx context.Context, st kv.State) error {
	if !b.open {
		return b.wrap(errBatchUsed)
	}
	defer b.Abort()
	if err := b.s.enter(ctx); err != nil {
		return b.wrap(err)
	}
	defer b.s.leave()
	if b.err != nil {
		return b.wrap(b.err)
	}
	if err := b.finish(&st); err != nil {
		return b.wrap(err)
	}
	if err := b.p.apply(b.s, b.puts, b.deletes); err != nil {
		// Pebble may still be reading it.
		b.puts, b.tombs = nil, nil
		return b.wrap(err)
	}
	b.p.gone.end(b.gone, true)
	b.gone = b.gone[:0]
	b.change.Committed()
	b.p.state.Store(&st)
	return nil
}

func (b *batch) wrap(err error) error {
	return fmt.Errorf("commit kv batch: partition %d: %w", b.p.id, err)
}

// finish adds the tokens, the tombstones and the state.
func (b *batch) finish(st *kv.State) error {
	if err := b.finishTokens(); err != nil {
		return err
	}
	if b.tombs != nil && !b.tombs.Empty() {
		if err := b.puts.Apply(b.tombs, nil); err != nil {
			return err
		}
	}
	var err error
	if b.state, err = appendState(b.state[:0], st, b.change); err != nil {
		return err
	}
	return b.puts.Set(pebblestore.StateKey(b.p.id), b.state, nil)
}

// apply commits w. Point reads take the odd number, or a change of it, as a sign
// that what they have read of items and tombstones may not belong together.
func (p *partition) apply(s *Store, w *pebble.Batch, deletes bool) error {
	if !deletes {
		return s.db.Apply(w)
	}
	p.deletes.Add(1)
	if err := s.db.Apply(w); err != nil {
		return err // it may yet happen: the number stays odd
	}
	p.deletes.Add(1)
	return nil
}

// Abort implements kv.Batch.
func (b *batch) Abort() {
	if !b.open {
		return
	}
	b.open = false
	b.p.gone.end(b.gone, false)
	b.gone = b.gone[:0]
	b.tokens = b.tokens[:0]
	b.order.Reset()
	b.change.Discard()
	if b.puts != nil {
		b.puts.Reset()
	}
	if b.tombs != nil {
		b.tombs.Reset()
	}
}

// brokenBatch is the answer to a Begin that could not be.
type brokenBatch struct{ err error }

func (brokenBatch) Put([]byte, wal.Version, *kv.StoredItem)         {}
func (brokenBatch) DeleteRange([]byte, kv.Range, wal.Version, bool) {}
func (brokenBatch) DeleteRecord([]byte, wal.Version, bool)          {}
func (brokenBatch) SaveToken(*kv.TokenEntry)                        {}
func (brokenBatch) SaveUpload(*kv.StoredUpload)                     {}
func (brokenBatch) SaveChunk(kv.UploadID, int, []byte)              {}
func (brokenBatch) DropUpload(kv.UploadID)                          {}
func (brokenBatch) SaveParked(*kv.ParkedQueue)                      {}
func (brokenBatch) Empty() bool                                     { return true }
func (brokenBatch) Abort()                                          {}
func (b brokenBatch) Commit(ctx context.Context, _ kv.State) error {
	return fmt.Errorf("commit kv batch: %w", b.err)
}
