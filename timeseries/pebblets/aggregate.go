package pebblets

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// Aggregate implements timeseries.Store. It scans the events of the interval, slice by
// slice.
func (s *Store) Aggregate(ctx context.Context, q *timeseries.AggregateQuery, into *timeseries.Groups) error {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return err
	}
	defer s.Leave()
	all, err := s.Slices(q.Partition).ReadIn(q.Start, q.End, true, q.Open)
	if err != nil {
		return err
	}
	lo, hi := pebblestore.Span(tableEvent, q.Partition)
	it, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return s.DB.ReadError("aggregate events", q.Partition, err)
	}
	r := aggregating{s: s, q: q, it: it, into: into}
	for _, x := range all {
		if err = r.look(ctx, x); err != nil {
			break
		}
	}
	if own := errors.Join(it.Error(), it.Close()); own != nil {
		err = errors.Join(err, own)
	}
	if err == nil || errors.Is(err, timeseries.ErrTooManyGroups) || errors.Is(err, timeseries.ErrGroupMemory) {
		return err
	}
	return s.DB.ReadError("aggregate events", q.Partition, err)
}

// aggregating is an Aggregate on its way.
type aggregating struct {
	s       *Store
	q       *timeseries.AggregateQuery
	it      *pebble.Iterator
	into    *timeseries.Groups
	items   []timeseries.Item
	scanned int
}

// look adds the events of a slice that meet the query: by an index where that is cheaper.
func (r *aggregating) look(ctx context.Context, x timeseries.Slice) error {
	q := r.q
	by := q.Where.Indexed(x.Index)
	if by == nil || q.Series != nil {
		return r.slice(ctx, x)
	}
	l := lookupOf(by, q.Partition, x)
	worth, err := r.s.worthIt(&l, q.Partition, x)
	if err != nil {
		return err
	}
	if !worth {
		return r.slice(ctx, x)
	}
	all := func(int64, []byte, []byte) bool { return true }
	return r.s.findIn(ctx, &l, q.Partition, x, by, q.Where, q.Start, q.End, false, all, func(f *finder) (bool, error) {
		return false, r.into.Add(&f.event)
	})
}

func (r *aggregating) slice(ctx context.Context, x timeseries.Slice) error {
	q := r.q
	lo := appendSlice(nil, tableEvent, q.Partition, x.Start)
	hi := pebblestore.Successor(lo)
	if q.Series != nil {
		lo, hi = spanOf(appendSeries(nil, q.Partition, x.Start, q.Series), max(q.Start, x.Start), min(q.End, x.End))
	}
	r.it.SetBounds(lo, hi)
	for ok := r.it.First(); ok; ok = r.it.Next() {
		if r.scanned++; r.scanned%lookEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		_, series, t, id, good := splitEvent(r.it.Key())
		if !good {
			return errBadKey
		}
		if t < q.Start || t >= q.End {
			continue
		}
		value, err := r.it.ValueAndErr()
		if err != nil {
			return err
		}
		if q.Keys != nil {
			r.items, err = timeseries.DecodeKeys(r.items[:0], value, q.Keys)
		} else {
			r.items, err = timeseries.DecodeItems(r.items[:0], value)
		}
		if err != nil {
			return errors.Join(errBadRow, err)
		}
		e := timeseries.Event{Series: series, Time: t, ID: id, Items: r.items}
		if !q.Where.Match(&e) {
			continue
		}
		if err := r.into.Add(&e); err != nil {
			return err
		}
	}
	return nil
}

// Measure implements timeseries.Store.
func (s *Store) Measure(ctx context.Context, p wal.Partition) ([]timeseries.SliceSize, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	lo, hi := pebblestore.Span(tableEvent, p)
	it, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, s.DB.ReadError("measure slices", p, err)
	}
	var out []timeseries.SliceSize
	scanned := 0
	for _, x := range s.Slices(p) {
		size := timeseries.SliceSize{Slice: x}
		lo := appendSlice(nil, tableEvent, p, x.Start)
		it.SetBounds(lo, pebblestore.Successor(lo))
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			size.Events++
			value := it.LazyValue()
			size.Bytes += int64(len(it.Key()) - len(lo) + value.Len())
			if scanned++; scanned%lookEvery == 0 {
				err = ctx.Err()
			}
		}
		out = append(out, size)
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return nil, s.DB.ReadError("measure slices", p, err)
	}
	return out, nil
}
