package pebblets

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
)

// Search implements timeseries.Store. Slice by slice it looks events up by an index, or scans
// every event, and keeps no more than a page. A slice is scanned whole before a page ends in it: within a
// slice events lie by series and not by time.
func (s *Store) Search(ctx context.Context, q *timeseries.SearchQuery) (*timeseries.Found, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	all, err := s.Slices(q.Partition).ReadIn(q.Start, q.End, q.Oldest, q.Open)
	if err != nil {
		return nil, err
	}
	lo, hi := pebblestore.Span(tableEvent, q.Partition)
	it, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, s.DB.ReadError("search events", q.Partition, err)
	}
	r := searching{q: q, it: it, found: &timeseries.Found{}}
	err = r.run(ctx, s, all)
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return nil, s.DB.ReadError("search events", q.Partition, err)
	}
	return r.found, nil
}

// searching is a search on its way.
type searching struct {
	q     *timeseries.SearchQuery
	it    *pebble.Iterator
	found *timeseries.Found
	best  firsts // of the slice in hand
	bytes int
}

func (r *searching) run(ctx context.Context, s *Store, all timeseries.Slices) error {
	q, searched := r.q, 0
	for _, x := range all {
		if r.passed(x) {
			continue
		}
		r.best = firsts{oldest: q.Oldest}
		late, err := r.look(ctx, s, x)
		if err != nil {
			return err
		}
		if late { // what was found of this slice is not all that comes first
			if searched == 0 {
				return context.DeadlineExceeded
			}
			r.found.Partial, r.found.Next = true, edgeOf(x, q.Oldest)
			return nil
		}
		searched++
		if r.take() {
			return nil
		}
	}
	return nil
}

// look finds the events of a slice that come first: by an index, or by a look at every event
// where there is none or that is cheaper; late: the deadline came before its end.
func (r *searching) look(ctx context.Context, s *Store, x timeseries.Slice) (late bool, err error) {
	by := r.q.Where.Indexed(x.Index)
	if by == nil {
		return r.slice(ctx, x)
	}
	l := lookupOf(by, r.q.Partition, x)
	if !l.one { // of one value the rows lie by time, and the search ends with the page
		worth, err := s.worthIt(&l, r.q.Partition, x)
		if err != nil {
			return false, err
		}
		if !worth {
			return r.slice(ctx, x)
		}
	}
	return r.indexed(ctx, s, x, by, &l)
}

// passed reports whether the pages before have seen all of a slice.
func (r *searching) passed(x timeseries.Slice) bool {
	b := r.q.Behind
	if b == nil {
		return false
	}
	if r.q.Oldest { // a place without a series is the edge of a slice
		return x.End <= b.Time || x.End == b.Time+1 && len(b.Series) == 0
	}
	return x.Start > b.Time
}

// edgeOf is a place that everything of a slice comes behind, and nothing of those that
// were searched: no series has an empty name.
func edgeOf(x timeseries.Slice, oldest bool) *timeseries.Place {
	if oldest {
		return &timeseries.Place{Time: x.Start - 1}
	}
	return &timeseries.Place{Time: x.End - 1}
}

// slice looks at every event of a slice; late: the deadline came first.
func (r *searching) slice(ctx context.Context, x timeseries.Slice) (late bool, err error) {
	q := r.q
	r.found.Slices++
	lo := appendSlice(nil, tableEvent, q.Partition, x.Start)
	r.it.SetBounds(lo, pebblestore.Successor(lo))
	var items []timeseries.Item
	for ok := r.it.First(); ok; ok = r.it.Next() {
		if r.found.Scanned++; r.found.Scanned%lookEvery == 0 {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			if !q.Deadline.IsZero() && !time.Now().Before(q.Deadline) {
				return true, nil
			}
		}
		_, series, t, id, good := splitEvent(r.it.Key())
		if !good {
			return false, errBadKey
		}
		if t < q.Start || t >= q.End {
			continue
		}
		place := timeseries.Place{Time: t, Series: series, ID: id}
		if q.Behind != nil && !r.before(q.Behind, &place) || !r.best.wants(&place, q.Limit+1) {
			continue
		}
		value, err := r.it.ValueAndErr()
		if err != nil {
			return false, err
		}
		if items, err = timeseries.DecodeItems(items[:0], value); err != nil {
			return false, errors.Join(errBadRow, err)
		}
		e := timeseries.Event{Series: series, Time: t, ID: id, Items: items}
		if !q.Where.Match(&e) {
			continue
		}
		kept := timeseries.Event{Series: bytes.Clone(series), Time: t, ID: bytes.Clone(id)}
		if kept.Items, err = timeseries.DecodeItems(nil, bytes.Clone(value)); err != nil {
			return false, errors.Join(errBadRow, err)
		}
		r.best.add(kept, len(value)+len(id)+len(series)+16, q.Limit+1)
	}
	return false, nil
}

// indexed finds the events of a slice by an index; late as of slice.
func (r *searching) indexed(ctx context.Context, s *Store, x timeseries.Slice, by *timeseries.Condition, l *lookup) (late bool, err error) {
	q := r.q
	start, end := q.Start, q.End
	if b := q.Behind; b != nil { // what comes before it was read
		if q.Oldest {
			start = max(start, b.Time)
		} else {
			end = min(end, b.Time+1)
		}
	}
	r.found.Indexed(by.Key)
	wants := func(t int64, series, id []byte) bool {
		place := timeseries.Place{Time: t, Series: series, ID: id}
		return (q.Behind == nil || r.before(q.Behind, &place)) && r.best.wants(&place, q.Limit+1)
	}
	n := 0
	err = s.findIn(ctx, l, q.Partition, x, by, q.Where, start, end, q.Oldest, wants, func(f *finder) (stop bool, err error) {
		r.found.Scanned++
		if n++; n%lookEvery == 0 && !q.Deadline.IsZero() && !time.Now().Before(q.Deadline) {
			late = true
			return true, nil
		}
		kept := timeseries.Event{Series: bytes.Clone(f.event.Series), Time: f.event.Time, ID: bytes.Clone(f.event.ID)}
		if kept.Items, err = timeseries.DecodeItems(nil, bytes.Clone(f.value)); err != nil {
			return true, errors.Join(errBadRow, err)
		}
		r.best.add(kept, f.size+len(kept.ID)+len(kept.Series)+16, q.Limit+1)
		return l.one && len(r.best.events) > q.Limit, nil
	})
	return late, err
}

// before reports whether a comes before b in the order of the search.
func (r *searching) before(a, b *timeseries.Place) bool {
	c := a.Compare(b)
	if r.q.Oldest {
		return c > 0
	}
	return c < 0
}

// take adds what was found of a slice to the page, in order; done: the page is full.
func (r *searching) take() (done bool) {
	slices.SortFunc(r.best.events, func(a, b sized) int {
		c := timeseries.PlaceOf(&a.Event).Compare(timeseries.PlaceOf(&b.Event))
		if r.q.Oldest {
			return -c
		}
		return c
	})
	f := r.found
	for _, e := range r.best.events {
		if n := len(f.Events); n > 0 && (n >= r.q.Limit || r.bytes+e.size > r.q.MaxBytes) {
			f.Next = timeseries.PlaceOf(&f.Events[n-1])
			return true
		}
		f.Events, r.bytes = append(f.Events, e.Event), r.bytes+e.size
	}
	return false
}

type sized struct {
	timeseries.Event
	size int
}

// firsts are the events that come first of those that were added: a heap whose top comes
// last.
type firsts struct {
	events []sized
	oldest bool
}

func (f *firsts) Len() int { return len(f.events) }
func (f *firsts) Less(i, j int) bool {
	c := timeseries.PlaceOf(&f.events[i].Event).Compare(timeseries.PlaceOf(&f.events[j].Event))
	if f.oldest {
		return c < 0
	}
	return c > 0
}
func (f *firsts) Swap(i, j int) { f.events[i], f.events[j] = f.events[j], f.events[i] }
func (f *firsts) Push(x any)    { f.events = append(f.events, x.(sized)) }
func (f *firsts) Pop() any {
	last := f.events[len(f.events)-1]
	f.events = f.events[:len(f.events)-1]
	return last
}

// wants reports whether an event at a place would be among the first n.
func (f *firsts) wants(p *timeseries.Place, n int) bool {
	if len(f.events) < n {
		return true
	}
	c := p.Compare(timeseries.PlaceOf(&f.events[0].Event))
	if f.oldest {
		return c > 0
	}
	return c < 0
}

func (f *firsts) add(e timeseries.Event, size, n int) {
	heap.Push(f, sized{e, size})
	if len(f.events) > n {
		heap.Pop(f)
	}
}
