package pebblets

import (
	"bytes"
	"context"
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
func (s *Store) Sweep(ctx context.Context, r *timeseries.SweepRequest) (res timeseries.SweepResult, err error) {
	kept := s.Slices(r.Partition)
	tokens, err := s.ledger.Sweep(ctx, r.Partition, r.Horizon, r.Limit, func(sw *pebblestore.Sweep[consumers.State]) error {
		for _, x := range s.Slices(r.Partition) {
			if !r.Drop(x) {
				continue
			}
			lo := appendSlice(nil, tableEvent, r.Partition, x.Start)
			if err := errors.Join(sw.W.DeleteRange(lo, pebblestore.Successor(lo), nil), sw.W.Delete(appendSlice(nil, tableSlice, r.Partition, x.Start), nil)); err != nil {
				return err
			}
			kept = kept.Without(x.Start)
			res.Slices++
		}
		return s.sweepNames(ctx, sw, r, kept, &res)
	})
	if err != nil {
		return timeseries.SweepResult{}, err
	}
	if res.Slices > 0 {
		s.slices[r.Partition].Store(&kept)
	}
	res.Tokens = int(tokens)
	return res, nil
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
	row, c, err := v.root.Get(pebblestore.StateKey(v.p))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		v.state, err = v.s.DecodeState(nil)
	case err == nil:
		v.state, err = v.s.DecodeState(row)
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return err
	}
	lo, hi := pebblestore.Span(tableSlice, v.p)
	it, err := v.root.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var x timeseries.Slice
		x, err = decodeSlice(it.Key(), it.Value())
		v.slices = append(v.slices, x)
	}
	return errors.Join(err, it.Error(), it.Close())
}

// State implements timeseries.Snapshot.
func (v *snapshot) State() consumers.State { return v.state }

// Scan implements timeseries.Snapshot.
func (v *snapshot) Scan(ctx context.Context, open func(timeseries.Slice) bool, f func(in timeseries.Slice, e *timeseries.Event) error) error {
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
		if !open(x) {
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
