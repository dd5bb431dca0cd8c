package pebblets

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// batch is a timeseries.Batch. It writes straight into a Pebble batch.
type batch struct {
	changes
	s      *Store
	p      wal.Partition
	slices timeseries.Slices // nil: as the store has them
	// names are the series that have their row in this batch; last is the newest of them.
	names map[string]struct{}
	last  string
	key   []byte
}

type changes = pebblestore.Batch[consumers.State, timeseries.TokenEntry]

// Begin implements timeseries.Store.
func (s *Store) Begin(p wal.Partition) timeseries.Batch {
	return &batch{changes: s.ledger.Begin(p), s: s, p: p, names: make(map[string]struct{})}
}

// AddSlice implements timeseries.Batch.
func (b *batch) AddSlice(x timeseries.Slice) {
	if !b.Ready() {
		return
	}
	if b.slices == nil {
		b.slices = b.s.Slices(b.p)
	}
	b.slices = b.slices.With(x)
	b.SetErr(b.W.Set(appendSlice(nil, tableSlice, b.p, x.Start), appendSliceRow(nil, x), nil))
}

// AddEvent implements timeseries.Batch.
func (b *batch) AddEvent(in timeseries.Slice, series []byte, t int64, id, items []byte) {
	if !b.Ready() {
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
	b.SetErr(b.W.Merge(eventAt(b.key, t, id), items, nil))
}

// DeleteSeries implements timeseries.Batch.
func (b *batch) DeleteSeries(in timeseries.Slice, series []byte) {
	if !b.Ready() {
		return
	}
	b.Removes = true
	lo := appendSeries(nil, b.p, in.Start, series)
	b.SetErr(b.W.DeleteRange(lo, pebblestore.Successor(lo), nil))
	b.SetErr(b.W.Delete(nameKey(b.p, series), nil))
	delete(b.names, string(series))
	b.last = ""
}

// Commit implements timeseries.Batch.
func (b *batch) Commit(ctx context.Context, st consumers.State) error {
	if err := b.changes.Commit(ctx, st); err != nil {
		return err
	}
	if b.slices != nil {
		b.s.slices[b.p].Store(&b.slices)
	}
	return nil
}
