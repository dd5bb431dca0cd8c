package pebblets

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/ledger"
	"github.com/headwater-db/headwater/wal"
)

// batch is a timeseries.Batch. It writes straight into a Pebble batch.
type batch struct {
	ledger.Batch
	s *Store
	p wal.Partition
	// names are the series that have their row in this batch; last is the newest of them.
	names map[string]struct{}
	last  string
	key   []byte
	// scratch of the index
	items       []timeseries.Item
	others      []timeseries.Item
	prefix, row []byte

	added *added
	// deleted are series that were deleted in this batch: how many events were added before.
	deleted   map[string]int
	conflicts int64
}

// Begin implements timeseries.Store.
func (s *Store) Begin(p wal.Partition) timeseries.Batch {
	return &batch{Batch: s.Ledger.Begin(p), s: s, p: p, added: s.pool.Get().(*added), names: make(map[string]struct{})}
}

// AddEvent implements timeseries.Batch.
func (b *batch) AddEvent(_ timeseries.Order, in timeseries.Slice, series []byte, t int64, id, items []byte) {
	if !b.Ready() || b.added == nil {
		return
	}
	if len(series) > timeseries.MaxSeriesBytes || t < in.Start || t >= in.End {
		b.SetErr(fmt.Errorf("an event at %d of a series of %d bytes, in a slice from %d to %d", t, len(series), in.Start, in.End))
		return
	}
	if b.last != string(series) {
		if _, there := b.names[string(series)]; !there {
			b.names[string(series)] = struct{}{}
			b.SetErr(b.W.Set(nameKey(b.p, series), nil, nil))
		}
		b.last = string(series)
	}
	b.key = appendSeries(b.key[:0], b.p, in.Start, series)
	key := eventAt(b.key, t, id)
	b.look(in, series, t, key, items)
	b.SetErr(b.W.Merge(key, items, nil))
	if in.Index != "" {
		b.addIndexed(in, series, t, id, items)
	}
}

// DeleteSeries implements timeseries.Batch.
func (b *batch) DeleteSeries(_ timeseries.Order, in timeseries.Slice, series []byte) {
	if !b.Ready() {
		return
	}
	b.Removes = true
	if b.deleted == nil {
		b.deleted = make(map[string]int)
	}
	if b.added != nil {
		b.deleted[string(series)] = len(b.added.ends)
	}
	lo := appendSeries(nil, b.p, in.Start, series)
	b.SetErr(b.W.DeleteRange(lo, pebblestore.Successor(lo), nil))
	b.SetErr(b.W.Delete(nameKey(b.p, series), nil))
	if in.Index != "" { // its rows go in a sweep
		b.SetErr(b.W.Set(appendSlice(nil, tableStale, b.p, in.Start), nil, nil))
	}
	delete(b.names, string(series))
	b.last = ""
}

// Commit implements timeseries.Batch.
func (b *batch) Commit(ctx context.Context, st consumers.State) error {
	err := b.Batch.Commit(ctx, st)
	if err == nil {
		b.s.conflicts.Add(b.conflicts)
	}
	b.done()
	return err
}

// Abort implements consumers.Batch.
func (b *batch) Abort() {
	b.Batch.Abort()
	b.done()
}

// done gives the memory of the batch back.
func (b *batch) done() {
	if b.added != nil {
		b.added.reset()
		b.s.pool.Put(b.added)
		b.added = nil
	}
}
