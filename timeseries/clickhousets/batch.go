package clickhousets

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/cespare/xxhash/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/ledger"
	"github.com/headwater-db/headwater/wal"
)

// batch is a timeseries.Batch. Rows are kept until Commit.
type batch struct {
	ledger.Batch
	s       *Store
	p       wal.Partition
	block   block
	deleted deletions
	kept    deletions         // of those before it; nil: all
	items   []timeseries.Item // scratch
}

// Begin implements timeseries.Store.
func (s *Store) Begin(p wal.Partition) timeseries.Batch {
	return &batch{Batch: s.Ledger.Begin(p), s: s, p: p}
}

// AddEvent implements timeseries.Batch.
func (b *batch) AddEvent(at timeseries.Order, in timeseries.Slice, series []byte, t int64, id, items []byte) {
	if !b.Ready() {
		return
	}
	if len(series) > timeseries.MaxSeriesBytes || t < in.Start || t >= in.End {
		b.SetErr(fmt.Errorf("an event at %d of a series of %d bytes, in a slice from %d to %d", t, len(series), in.Start, in.End))
		return
	}
	var err error
	if b.items, err = timeseries.DecodeItems(b.items[:0], items); err != nil {
		b.SetErr(err)
		return
	}
	b.block.add(at, in.Start, series, t, id, b.items, len(items))
}

// DeleteSeries implements timeseries.Batch. One deletion is of all slices: what is added to a
// series later stands behind it, in whatever slice.
func (b *batch) DeleteSeries(at timeseries.Order, _ timeseries.Slice, series []byte) {
	if !b.Ready() {
		return
	}
	if b.deleted == nil {
		b.deleted = make(deletions)
	}
	b.Removes = true
	b.deleted[string(series)] = at
	b.SetErr(b.W.Set(deletionKey(b.p, series), appendDeletion(nil, at), nil))
}

// Commit implements timeseries.Batch. ClickHouse has the rows, and has synced them, before
// the ledger has the position.
func (b *batch) Commit(ctx context.Context, st consumers.State) error {
	defer b.Abort()
	if !b.Ready() {
		return b.Batch.Commit(ctx, st)
	}
	if err := b.s.insert(ctx, b.p, &b.block); err != nil {
		return err
	}
	if err := b.s.makeRoom(ctx, b); err != nil {
		return err
	}
	if err := b.Batch.Commit(ctx, st); err != nil {
		return err
	}
	if b.deleted != nil {
		if b.kept == nil {
			b.kept = *b.s.deleted[b.p].Load()
		}
		all := b.kept.with(b.deleted)
		b.s.deleted[b.p].Store(&all)
	}
	return nil
}

// makeRoom removes what was deleted before, where a batch would make it too much. Its error
// passes: the batch is tried again until ClickHouse has removed it.
func (s *Store) makeRoom(ctx context.Context, b *batch) error {
	if b.deleted == nil || len(*s.deleted[b.p].Load())+len(b.deleted) <= mostDeletions {
		return nil
	}
	gone, err := s.remove(ctx, b.p)
	if err != nil {
		return err
	}
	if len(gone) == 0 {
		return fmt.Errorf("%w: %d series of partition %d are deleted, and are to be removed before more are", consumers.ErrStoreAway, mostDeletions, b.p)
	}
	gone = maps.Clone(gone)
	for name := range b.deleted { // its row is the new one
		delete(gone, name)
	}
	b.kept, err = s.forget(b.W, b.p, gone)
	return err
}

// Abort implements consumers.Batch.
func (b *batch) Abort() {
	b.block, b.deleted, b.kept = block{}, nil, nil
	b.Batch.Abort()
}

// block is rows, column by column.
type block struct {
	slice, age, decided, record []int64
	series, id                  []string
	idx, bytes                  []uint32
	items                       []rowItems
	digest                      xxhash.Digest
	begun                       bool
}

// rowItems are the items of a row.
type rowItems []timeseries.Item

func (b *block) add(at timeseries.Order, slice int64, series []byte, t int64, id []byte, items []timeseries.Item, size int) {
	if !b.begun {
		b.begun = true
		b.digest.Reset()
	}
	own := make(rowItems, len(items))
	for i, it := range items {
		own[i] = timeseries.Item{Key: append([]byte(nil), it.Key...), Value: it.Value}
		own[i].Value.Text = append([]byte(nil), it.Value.Text...)
	}
	b.slice, b.age = append(b.slice, slice), append(b.age, -t)
	b.decided, b.record, b.idx = append(b.decided, int64(at.Decided)), append(b.record, int64(at.Record)), append(b.idx, uint32(at.Index))
	b.series, b.id = append(b.series, string(series)), append(b.id, string(id))
	b.items, b.bytes = append(b.items, own), append(b.bytes, uint32(size))
	var place [36]byte
	binary.BigEndian.PutUint64(place[:], uint64(slice))
	binary.BigEndian.PutUint64(place[8:], uint64(at.Decided))
	binary.BigEndian.PutUint64(place[16:], uint64(at.Record))
	binary.BigEndian.PutUint32(place[24:], uint32(at.Index))
	binary.BigEndian.PutUint64(place[28:], uint64(t))
	// A digest takes everything.
	_, _ = b.digest.Write(place[:])
	_, _ = b.digest.Write(series)
	_, _ = b.digest.Write(id)
}

// name is of the rows of a block. What they hold follows from where in the log they stand.
func (b *block) name(p wal.Partition) string {
	return fmt.Sprintf("%d-%d-%d-%d-%016x", p, len(b.slice), b.decided[0], b.decided[len(b.decided)-1], b.digest.Sum64())
}

// insert writes a block. A block that is there already is left out by ClickHouse.
func (s *Store) insert(ctx context.Context, p wal.Partition, b *block) error {
	if len(b.slice) == 0 {
		return nil
	}
	err := s.rows.Insert(ctx, p, b.name(p), b.slice, b.series, b.age, b.id, b.decided, b.record, b.idx,
		mapped(b.items, timeseries.Int), mapped(b.items, timeseries.Double), mapped(b.items, timeseries.String), mapped(b.items, timeseries.Bytes), b.bytes)
	if err != nil {
		return err
	}
	s.blocks.Add(1)
	return nil
}
