package pebblets

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

var (
	errBadKey = fmt.Errorf("%w: key of an event", wal.ErrCorrupt)
	errBadRow = fmt.Errorf("%w: items of an event", wal.ErrCorrupt)
)

// Sweep implements timeseries.Store. It drops slices whole, and looks at up to Limit
// series for those that have no event left.
func (s *Store) Sweep(ctx context.Context, r *timeseries.SweepRequest) (timeseries.SweepResult, error) {
	drop := func(w *pebble.Batch, x timeseries.Slice) error {
		for _, table := range []byte{tableEvent, tableIndex} {
			lo := appendSlice(nil, table, r.Partition, x.Start)
			if err := w.DeleteRange(lo, pebblestore.Successor(lo), nil); err != nil {
				return err
			}
		}
		return w.Delete(appendSlice(nil, tableStale, r.Partition, x.Start), nil)
	}
	return s.Ledger.Sweep(ctx, r, drop, func(sw *pebblestore.Sweep[consumers.State], kept timeseries.Slices, res *timeseries.SweepResult) error {
		return errors.Join(s.sweepNames(ctx, sw, r, kept, res), s.sweepIndex(ctx, sw, r.Partition, r.Limit))
	})
}

// sweepNames removes the rows of series without events.
func (s *Store) sweepNames(ctx context.Context, sw *pebblestore.Sweep[consumers.State], r *timeseries.SweepRequest, kept timeseries.Slices, res *timeseries.SweepResult) (err error) {
	lo, hi := pebblestore.Span(tableName, r.Partition)
	if r.Cursor != nil {
		lo = append(nameKey(r.Partition, r.Cursor), 0)
	}
	names, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	elo, ehi := pebblestore.Span(tableEvent, r.Partition)
	events, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: elo, UpperBound: ehi})
	if err != nil {
		return errors.Join(err, names.Close())
	}
	q := &timeseries.ListQuery{Partition: r.Partition}
	for ok := names.First(); ok; ok = names.Next() {
		more, lookErr := sw.Look()
		if err = lookErr; err != nil || !more {
			break
		}
		name := names.Key()[pebblestore.TableLen:]
		res.Cursor = bytes.Clone(name)
		if _, _, there := edges(events, q, kept, name); !there {
			if err = sw.W.Delete(bytes.Clone(names.Key()), nil); err != nil {
				break
			}
			res.Series++
		}
	}
	if err == nil && !names.Valid() { // the round is over
		res.Cursor = nil
	}
	return errors.Join(err, names.Error(), events.Error(), names.Close(), events.Close())
}

// sweepIndex removes rows of the index whose events were deleted, of one slice at a time, a
// part of it in each sweep. The mark of the slice says where the next one goes on.
func (s *Store) sweepIndex(ctx context.Context, sw *pebblestore.Sweep[consumers.State], p wal.Partition, limit int) (err error) {
	lo, hi := pebblestore.Span(tableStale, p)
	marks, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	if !marks.First() {
		return errors.Join(marks.Error(), marks.Close())
	}
	mark := bytes.Clone(marks.Key())
	from, err := marks.ValueAndErr()
	start := int64(binary.BigEndian.Uint64(mark[pebblestore.TableLen:]) ^ 1<<63)
	lo = appendSlice(nil, tableIndex, p, start)
	hi = pebblestore.Successor(lo)
	lo = maxKey(lo, bytes.Clone(from))
	if err = errors.Join(err, marks.Close()); err != nil {
		return err
	}
	it, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Error(), it.Close()) }()
	head := pebblestore.TableLen + 8
	looked := 0
	for ok := it.First(); ok; ok = it.Next() {
		if looked++; looked > limit {
			return sw.W.Set(mark, bytes.Clone(it.Key()), nil)
		}
		if looked%lookEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		k := it.Key()
		n := head + 2 + int(binary.BigEndian.Uint16(k[head:]))
		if len(k) < n {
			return errBadKey
		}
		_, t, series, id, good := splitIndexRow(k[n:])
		if !good {
			return errBadKey
		}
		found, err := s.DB.View(eventAt(appendSeries(nil, p, start, series), t, id), func([]byte) error { return nil })
		if err != nil {
			return err
		}
		if !found {
			if err := sw.W.Delete(bytes.Clone(k), nil); err != nil {
				return err
			}
		}
	}
	return sw.W.Delete(mark, nil)
}

// snapshot is a timeseries.Snapshot.
type snapshot struct {
	s      *Store
	p      wal.Partition
	root   *pebble.Snapshot
	state  consumers.State
	slices timeseries.Slices
}

// Snapshot implements timeseries.Store.
func (s *Store) Snapshot(ctx context.Context, p wal.Partition) (timeseries.Snapshot, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	v := &snapshot{s: s, p: p, root: s.DB.NewSnapshot()}
	if err := v.load(); err != nil {
		return nil, s.DB.ReadError("take snapshot", p, errors.Join(err, v.root.Close()))
	}
	s.Keep(v.root)
	return v, nil
}

func (v *snapshot) load() (err error) {
	if v.state, err = v.s.StateIn(v.root, v.p); err != nil {
		return err
	}
	v.slices, err = v.s.SlicesIn(v.root, v.p)
	return err
}

// State implements timeseries.Snapshot.
func (v *snapshot) State() consumers.State { return v.state }

// Scan implements timeseries.Snapshot.
func (v *snapshot) Scan(ctx context.Context, open timeseries.OpenSlices, f func(in timeseries.Slice, e *timeseries.Event) error) error {
	if err := v.s.Enter(ctx, v.p); err != nil {
		return err
	}
	defer v.s.Leave()
	lo, hi := pebblestore.Span(tableEvent, v.p)
	it, err := v.root.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return v.s.DB.ReadError("scan events", v.p, err)
	}
	var e timeseries.Event
	for _, x := range v.slices {
		if !open.Has(x) {
			continue
		}
		lo := appendSlice(nil, tableEvent, v.p, x.Start)
		it.SetBounds(lo, pebblestore.Successor(lo))
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			var good bool
			if _, e.Series, e.Time, e.ID, good = splitEvent(it.Key()); !good {
				err = errBadKey
				break
			}
			if e.Items, err = timeseries.DecodeItems(e.Items[:0], it.Value()); err == nil {
				err = f(x, &e)
			}
		}
		if err != nil {
			break
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return v.s.DB.ReadError("scan events", v.p, err)
	}
	return nil
}

// Close implements timeseries.Snapshot.
func (v *snapshot) Close() error {
	if !v.s.Drop(v.root) {
		return nil
	}
	defer v.s.Leave()
	return v.root.Close()
}
