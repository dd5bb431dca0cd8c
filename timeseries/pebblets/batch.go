package pebblets

import (
	"fmt"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/ledger"
	"github.com/headwater-db/headwater/wal"
)

// batch is a timeseries.Batch. It writes straight into a Pebble batch.
type batch struct {
	ledger.Batch
	p wal.Partition
	// names are the series that have their row in this batch; last is the newest of them.
	names map[string]struct{}
	last  string
	key   []byte
	// scratch of the index
	items       []timeseries.Item
	prefix, row []byte
}

// Begin implements timeseries.Store.
func (s *Store) Begin(p wal.Partition) timeseries.Batch {
	return &batch{Batch: s.Ledger.Begin(p), p: p, names: make(map[string]struct{})}
}

// AddEvent implements timeseries.Batch.
func (b *batch) AddEvent(_ timeseries.Order, in timeseries.Slice, series []byte, t int64, id, items []byte) {
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
	lo := appendSeries(nil, b.p, in.Start, series)
	b.SetErr(b.W.DeleteRange(lo, pebblestore.Successor(lo), nil))
	b.SetErr(b.W.Delete(nameKey(b.p, series), nil))
	if in.Index != "" { // its rows go in a sweep
		b.SetErr(b.W.Set(appendSlice(nil, tableStale, b.p, in.Start), nil, nil))
	}
	delete(b.names, string(series))
	b.last = ""
}
