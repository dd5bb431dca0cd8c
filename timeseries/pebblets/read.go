package pebblets

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
)

// lookEvery is how many events are looked at between two looks at the clock.
const lookEvery = 256

// Read implements timeseries.Store.
func (s *Store) Read(ctx context.Context, q *timeseries.Query) (page *timeseries.Page, err error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	// The slices are read first: one that is dropped meanwhile has no events then, and one
	// that is made meanwhile has none that the read must see.
	all, err := s.Slices(q.Partition).ReadIn(q.Start, q.End, q.Oldest, q.Open)
	if err != nil {
		return nil, err
	}
	lo, hi := pebblestore.Span(tableEvent, q.Partition)
	it, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, s.DB.ReadError("read events", q.Partition, err)
	}
	r := reading{q: q, where: timeseries.AllOf(q.Filters), it: it, page: &timeseries.Page{}}
	for _, x := range all {
		if done := r.slice(ctx, x); done {
			if r.err == nil { // the slice holds more than the page
				r.page.Wide, r.err = s.wide(q, x)
				r.page.WideBuckets = x.EventBuckets
			}
			break
		}
	}
	if err := errors.Join(r.err, it.Error(), it.Close()); err != nil {
		return nil, s.DB.ReadError("read events", q.Partition, err)
	}
	return r.page, nil
}

// wide reports whether a series has more than q.WideBytes in a slice, as it lies in files:
// what was written last is not counted yet.
func (s *Store) wide(q *timeseries.Query, x timeseries.Slice) (bool, error) {
	lo := appendSeries(nil, q.Partition, x.Start, q.Series)
	n, err := s.DB.EstimateDiskUsage(lo, pebblestore.Successor(lo))
	return n > uint64(q.WideBytes), err
}

// reading is a page on its way.
type reading struct {
	q      *timeseries.Query
	where  *timeseries.Condition // of the filters
	it     *pebble.Iterator
	page   *timeseries.Page
	bytes  int
	looked int
	prev   []byte // key of the last event that was looked at
	err    error
}

// slice reads on in one slice; done: the page is.
func (r *reading) slice(ctx context.Context, x timeseries.Slice) (done bool) {
	q := r.q
	prefix := appendSeries(nil, q.Partition, x.Start, q.Series)
	lo, hi := spanOf(prefix, max(q.Start, x.Start), min(q.End, x.End))
	if q.After != nil {
		mark := eventAt(prefix, q.After.Time, q.After.ID)
		if q.Oldest {
			hi = minKey(hi, mark)
		} else {
			lo = maxKey(lo, append(mark, 0))
		}
	}
	if bytes.Compare(lo, hi) >= 0 {
		return false
	}
	r.it.SetBounds(lo, hi)
	first, next := r.it.First, r.it.Next
	if q.Oldest {
		first, next = r.it.Last, r.it.Prev
	}
	for ok := first(); ok; ok = next() {
		if r.looked++; r.looked%lookEvery == 0 {
			if r.err = ctx.Err(); r.err != nil {
				return true
			}
			if !q.Deadline.IsZero() && !time.Now().Before(q.Deadline) {
				return r.early()
			}
		}
		if r.event() {
			return true
		}
		r.prev = append(r.prev[:0], r.it.Key()...)
	}
	return false
}

// early ends the page behind the last event that was looked at.
func (r *reading) early() bool {
	_, _, t, id, ok := splitEvent(r.prev)
	if ok {
		r.page.Next, r.page.Partial = &timeseries.Mark{Time: t, ID: bytes.Clone(id)}, true
	}
	return ok
}

// event adds the event at hand where the filters let it; done: the page is full.
func (r *reading) event() (done bool) {
	q := r.q
	_, _, t, id, ok := splitEvent(r.it.Key())
	value, err := r.it.ValueAndErr()
	if err == nil && !ok {
		err = errBadKey
	}
	if err != nil {
		r.err = err
		return true
	}
	e := timeseries.Event{Series: q.Series, Time: t, ID: bytes.Clone(id)}
	if e.Items, err = timeseries.DecodeItems(nil, bytes.Clone(value)); err != nil {
		r.err = errors.Join(errBadRow, err)
		return true
	}
	if !r.where.Match(&e) {
		return false
	}
	size := len(value) + len(id) + 16
	n := len(r.page.Events)
	if n > 0 && (n >= q.Limit || r.bytes+size > q.MaxBytes) {
		last := &r.page.Events[n-1]
		r.page.Next = &timeseries.Mark{Time: last.Time, ID: last.ID}
		return true
	}
	r.page.Events, r.bytes = append(r.page.Events, e), r.bytes+size
	return false
}

func minKey(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}

func maxKey(a, b []byte) []byte {
	if bytes.Compare(a, b) > 0 {
		return a
	}
	return b
}

// List implements timeseries.Store.
func (s *Store) List(ctx context.Context, q *timeseries.ListQuery) (list []timeseries.Series, more bool, err error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, false, err
	}
	defer s.Leave()
	all := s.openSlices(q)
	lo := nameKey(q.Partition, q.Prefix)
	hi := pebblestore.Successor(lo)
	if q.Above != nil {
		lo = maxKey(lo, append(nameKey(q.Partition, q.Above), 0))
	}
	if bytes.Compare(lo, hi) >= 0 {
		return nil, false, nil
	}
	names, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, false, s.DB.ReadError("list series", q.Partition, err)
	}
	elo, ehi := pebblestore.Span(tableEvent, q.Partition)
	events, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: elo, UpperBound: ehi})
	if err != nil {
		return nil, false, s.DB.ReadError("list series", q.Partition, errors.Join(err, names.Close()))
	}
	for ok := names.First(); ok; ok = names.Next() {
		if len(list) == q.Limit {
			more = true
			break
		}
		if err = ctx.Err(); err != nil {
			break
		}
		x := timeseries.Series{Name: bytes.Clone(names.Key()[pebblestore.TableLen:])}
		if x.First, x.Last, ok = edges(events, q, all, x.Name); ok {
			list = append(list, x)
		}
	}
	if err = errors.Join(err, names.Error(), events.Error(), names.Close(), events.Close()); err != nil {
		return nil, false, s.DB.ReadError("list series", q.Partition, err)
	}
	return list, more, nil
}

// openSlices are those that a list looks at.
func (s *Store) openSlices(q *timeseries.ListQuery) timeseries.Slices {
	all := s.Slices(q.Partition)
	if q.HasInterval {
		all = all.Overlapping(q.Start, q.End)
	}
	return slices.DeleteFunc(slices.Clone(all), func(x timeseries.Slice) bool { return !q.Open.Has(x) })
}

// edges are the first and last event of a series; false where it has none.
func edges(it *pebble.Iterator, q *timeseries.ListQuery, all timeseries.Slices, series []byte) (first, last int64, ok bool) {
	span := func(x timeseries.Slice) (lo, hi []byte) {
		start, end := x.Start, x.End
		if q.HasInterval {
			start, end = max(start, q.Start), min(end, q.End)
		}
		return spanOf(appendSeries(nil, q.Partition, x.Start, series), start, end)
	}
	for i := len(all) - 1; i >= 0 && !ok; i-- {
		it.SetBounds(span(all[i]))
		if it.First() {
			_, _, last, _, ok = splitEvent(it.Key())
		}
	}
	if !ok {
		return 0, 0, false
	}
	for i := range all {
		it.SetBounds(span(all[i]))
		if it.Last() {
			_, _, first, _, ok = splitEvent(it.Key())
			return first, last, ok
		}
	}
	return last, last, true
}
