package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// freeBytes is from what size on disk on a deleted span is worth a range deletion
// of Pebble's, which every read of the memtable pays for. Less is left to the
// sweep. The keys are not counted: where they are deleted already, counting would
// step over each.
const freeBytes = 64 << 10

var errBatchOpen = errors.New("another batch of the partition is open")

// batch is a kv.Batch. It writes straight into a Pebble batch, so that a put
// allocates nothing.
type batch struct {
	ledger.Batch
	s *Store
	p *partition
	// tombs holds the tombstones: an indexed batch, because a range tombstone is
	// merged with those that are there, also those of this batch.
	tombs *pebble.Batch
	gone  []*span // of the deletes
}

// Begin implements kv.Store. Where a batch of the partition is open already, or
// the partition does not exist, Commit of the new one says so.
func (s *Store) Begin(p wal.Partition) kv.Batch {
	b := &batch{Batch: s.Ledger.Begin(p), s: s}
	if !b.Ready() {
		return b
	}
	b.p = s.parts[p]
	if b.p.open != nil {
		b.SetErr(errBatchOpen)
		return b
	}
	b.p.open = b
	return b
}

// ready reports whether the call may add to the batch.
func (b *batch) ready(id []byte) bool {
	if len(id) > maxIDLen {
		b.SetErr(fmt.Errorf("id of %d bytes, at most %d", len(id), maxIDLen))
	}
	return b.Ready()
}

// Put implements kv.Batch. It is a blind write: the merger compares.
func (b *batch) Put(id []byte, v wal.Version, it *kv.StoredItem) {
	if !b.ready(id) {
		return
	}
	op := b.W.MergeDeferred(headerLen+len(id)+1+len(it.Key), cellLen(&v, it))
	appendItemKey(op.Key[:0], b.p.id, id, it.Key)
	b.p.gone.note(id, it.Key)
	putCell(op.Value, &v, it)
	b.SetErr(op.Finish())
	if v.Class == wal.Deleted {
		b.Removes = true
	}
}

// SaveUpload implements kv.Batch.
func (b *batch) SaveUpload(u *kv.StoredUpload) {
	if b.ready(u.Record) {
		b.Batch.SaveUpload(u)
	}
}

// SaveChunk implements kv.Batch.
func (b *batch) SaveChunk(id kv.UploadID, index int, data []byte) {
	if !b.ready(nil) {
		return
	}
	if index < 0 || int64(index) > math.MaxUint32 {
		b.SetErr(fmt.Errorf("chunk %d of an upload", index))
		return
	}
	k := chunkKey(b.p.id, id, index)
	op := b.W.SetDeferred(len(k), 4+len(data))
	copy(op.Key, k)
	binary.BigEndian.PutUint32(op.Value, chunkSum(k, data))
	copy(op.Value[4:], data)
	b.SetErr(op.Finish())
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkSum covers the key, so that a chunk in another's place is noticed.
func chunkSum(key, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, data)
}

// DropUpload implements kv.Batch.
func (b *batch) DropUpload(id kv.UploadID) {
	if b.Ready() {
		b.Batch.DropUpload(id)
		b.SetErr(dropChunks(b.W, b.p.id, id))
	}
}

func dropChunks(w *pebble.Batch, p wal.Partition, id kv.UploadID) error {
	lo, hi := chunkSpan(p, id)
	return w.DeleteRange(lo, hi, nil)
}

// Empty implements kv.Batch.
func (b *batch) Empty() bool { return b.Batch.Empty() && b.tombs == nil }

// Commit implements kv.Batch.
func (b *batch) Commit(ctx context.Context, st kv.State) error {
	defer b.Abort()
	if b.tombs != nil && !b.tombs.Empty() && b.Ready() {
		b.SetErr(b.W.Apply(b.tombs, nil))
	}
	if err := b.Batch.Commit(ctx, st); err != nil {
		return err
	}
	b.p.gone.end(b.gone, true)
	b.gone = nil
	return nil
}

// Abort implements kv.Batch.
func (b *batch) Abort() {
	b.Batch.Abort()
	if b.p == nil || b.p.open != b {
		return
	}
	b.p.open = nil
	b.p.gone.end(b.gone, false)
	b.gone = nil
	if b.tombs != nil {
		if err := b.tombs.Close(); err != nil {
			b.s.DB.Fail(fmt.Errorf("close batch: %w", err))
		}
		b.tombs = nil
	}
}
