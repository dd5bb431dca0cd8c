package counter

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// MaxPoints bounds the windows of one series.
const MaxPoints = 10_000

// Series reads the windows of a counter: one point for each, gaps are zeros. It
// shows what was applied when it was called, and what the accuracy asks for.
// Errors as of Get, and ErrGranularity, ErrTooManyPoints, ErrEventsFolded.
//
// Windows are added up from the largest kept ones that fit into each point, so a
// year of days reads a year of days and not of minutes. Points that no windows make
// up are summed from the events, where the namespace has a store for them.
func (db *DB) Series(ctx context.Context, q *SeriesQuery) (points []Point, asOf AsOf, err error) {
	opts := db.cfg.Options()
	smallest, err := q.smallest(&opts)
	if err != nil {
		return nil, AsOf{}, err
	}
	edges, err := q.edges(smallest)
	if err != nil {
		return nil, AsOf{}, err
	}
	p := db.Stream.PartitionOf(q.Counter)
	_, barrier, err := db.waitOne(ctx, p, q.Counter, q.Accuracy, q.After)
	if err != nil {
		return nil, AsOf{}, err
	}
	known, now := db.look(p), db.Now().UnixMicro()
	series := db.cfg.Owner.Series
	if smallest != opts.Windows[0] {
		series = db.cfg.Owner.FineSeries
	}
	sums, st, err := series(ctx, p, q.Counter, edges, now)
	if err != nil {
		return nil, AsOf{}, err
	}
	points = make([]Point, len(sums))
	for i := range points {
		points[i] = Point{Start: edges[i], Sum: sums[i].Sum(), Adds: sums[i].Adds}
	}
	return points, db.Stream.AsOf(db.seen(p, &st, &known, barrier)), nil
}

// waitOne is waitRead of one counter, which must not be parked.
func (db *DB) waitOne(ctx context.Context, p wal.Partition, name []byte, asked Accuracy, after wal.Position) (accuracy Accuracy, barrier int64, err error) {
	if accuracy, barrier, err = db.waitRead(ctx, []wal.Partition{p}, asked, after); err != nil {
		return 0, 0, err
	}
	if mustBeWhole(accuracy, after) {
		if err := db.ParkedErr(ctx, p, name); err != nil {
			return 0, 0, err
		}
	}
	return accuracy, barrier, nil
}

// FinestPoint is the smallest span of a point that is made of events, and what all of them are
// multiples of.
const FinestPoint = time.Second

// smallest is what points are cut on: the smallest window, or FinestPoint where the points are
// made of events.
func (q *SeriesQuery) smallest(o *Options) (time.Duration, error) {
	switch {
	case len(o.Windows) == 0 || q.Granularity <= 0:
		return 0, ErrGranularity
	case q.Granularity%o.Windows[0] == 0:
		return o.Windows[0], nil
	case o.Events && q.Granularity%FinestPoint == 0:
		return FinestPoint, nil
	}
	return 0, ErrGranularity
}

// edges are the starts of the points and the end of the last. Points are aligned
// to the granularity, counted from 1970 in UTC; whole days to midnight in the
// location. The first and the last are cut by the interval, on the smallest
// span.
func (q *SeriesQuery) edges(span time.Duration) ([]int64, error) {
	smallest := span.Microseconds()
	from, to := floor(q.From, smallest), floor(q.To+smallest-1, smallest)
	next := func(t int64) int64 { return floor(t, q.Granularity.Microseconds()) + q.Granularity.Microseconds() }
	const day = 24 * time.Hour
	if q.Location != nil && q.Granularity%day == 0 {
		days := int(q.Granularity / day)
		next = func(t int64) int64 { return nextMidnight(t, days, q.Location) }
	}
	edges := []int64{from}
	for t := next(from); t < to; t = next(t) {
		if edges = append(edges, t); len(edges) > MaxPoints {
			return nil, ErrTooManyPoints
		}
	}
	return append(edges, to), nil
}

// nextMidnight is the first midnight after t that begins a span of n days,
// counted from 1 January 1970 in the location.
func nextMidnight(t int64, n int, loc *time.Location) int64 {
	y, m, d := time.UnixMicro(t).In(loc).Date()
	number := int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
	if number < 0 { // dates before 1970 are whole days already: no rounding
		number = int(floor(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix(), 86400) / 86400)
	}
	for step := n - int(floorMod(int64(number), int64(n))); ; step += n {
		at := time.Date(y, m, d+step, 0, 0, 0, 0, loc)
		if at.Hour() > 12 { // no midnight: the clock is set forward then, and the day begins after it
			_, at = at.ZoneBounds()
		}
		if u := at.UnixMicro(); u > t {
			return u
		}
	}
}

func floorMod(a, n int64) int64 { return a - floor(a, n) }

// seriesReader sums windows of one counter.
type seriesReader struct {
	snap    Snapshot
	row     *Row
	windows []time.Duration
}

// sum adds what lies in from <= t < to, from window i downwards: the whole ones in
// the middle, and the edges from the next smaller. Edges that no window meets
// lie between two of the smallest: a zone whose midnight is not on one has its
// days cut there.
func (r *seriesReader) sum(b *Bucket, from, to int64, i int) error {
	if from >= to {
		return nil
	}
	size := r.windows[i].Microseconds()
	first, last := floor(from+size-1, size), floor(to, size)
	if i == 0 {
		// Whatever begins in the span is counted in it.
		first, last = floor(from+size-1, size), floor(to+size-1, size)
	}
	if first >= last {
		if i == 0 {
			return nil
		}
		return r.sum(b, from, to, i-1)
	}
	err := r.snap.Windows(r.row.ID, r.windows[i], first, last, func(_ int64, w Bucket) bool {
		b.Merge(w)
		return true
	})
	if err != nil {
		return err
	}
	if i < len(r.row.Open) {
		if o := &r.row.Open[i]; o.Adds != 0 && o.Start >= first && o.Start < last {
			b.Merge(o.Bucket)
		}
	}
	if i == 0 {
		return nil
	}
	if err := r.sum(b, from, first, i-1); err != nil {
		return err
	}
	return r.sum(b, last, to, i-1)
}

// Verify counts a counter again from its events, on top of the base that those
// no longer kept were folded into. It follows the chain of the counter's own
// events, so that its cost is theirs. It reads what the store has; what was
// applied when it was called is in it, and what the accuracy asks for. accuracy 0
// is the namespace's. Errors as of Get.
func (db *DB) Verify(ctx context.Context, name []byte, accuracy Accuracy, after wal.Position) (v Verification, err error) {
	p := db.Stream.PartitionOf(name)
	accuracy, barrier, err := db.waitOne(ctx, p, name, accuracy, after)
	if err != nil {
		return v, err
	}
	known, now := db.look(p), db.Now().UnixMicro()
	c, st, err := db.cfg.Owner.Recount(ctx, p, name, now)
	if err != nil {
		return v, err
	}
	v.Stored = Count{
		Value: c.Stored.Value, Held: c.Stored.Held, Accuracy: accuracy, AsOf: db.Stream.AsOf(db.seen(p, &st, &known, barrier)),
		Pending: known.above(&st, accuracy),
	}
	v.Recounted, v.Events, v.Drift = c.Recounted, c.Events, c.Stored.Value-c.Recounted
	return v, nil
}

// recount follows the chain of the events of a life from the record at last back to a clear, to
// what is folded, or to the first.
func recount(ctx context.Context, snap Snapshot, id uint64, last wal.Offset) (sum Base, err error) {
	err = chain(ctx, snap, last, func(o wal.Offset, data []byte) (n int64, prev wal.Offset, err error) {
		row, n, prev, err := sumRow(o, data, id)
		sum.Sum, sum.Events, sum.Cleared = sum.Sum+row.Sum, sum.Events+row.Events, row.Cleared
		if sum.Cleared {
			prev = wal.NoOffset
		}
		return n, prev, err
	})
	return sum, err
}

// chain calls f with each row that has events of a life, the newest first. f returns how many it has
// and which row is next.
func chain(ctx context.Context, snap Snapshot, last wal.Offset, f func(o wal.Offset, data []byte) (n int64, prev wal.Offset, err error)) error {
	folded := snap.State().Folded
	for o := last; o > folded; {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, ok, err := snap.Events(o)
		if err != nil {
			return err
		}
		if !ok {
			return &MissingEventsError{Offset: o}
		}
		n, prev, err := f(o, data)
		if err != nil {
			return err
		}
		if n == 0 {
			return &MissingEventsError{Offset: o}
		}
		o = prev
	}
	return nil
}

// eachEvent calls f with the events of a row that are in its series.
func eachEvent(ctx context.Context, snap Snapshot, row *Row, f func(e *Event)) error {
	return chain(ctx, snap, row.LastEvent, func(o wal.Offset, data []byte) (n int64, prev wal.Offset, err error) {
		return eventsOf(o, data, row.ID, func(e *Event) {
			if e.Kind != EventClear {
				f(e)
			}
		})
	})
}

// sumRow sums the n events of a life in a row. b.Events are those from the last clear on, where
// there is one. prev is as of eventsOf.
func sumRow(o wal.Offset, data []byte, id uint64) (b Base, n int64, prev wal.Offset, err error) {
	n, prev, err = eventsOf(o, data, id, func(e *Event) {
		if e.Kind == EventClear {
			b = Base{Cleared: true}
		}
		b.Sum, b.Events = b.Sum+e.Delta, b.Events+1
	})
	return b, n, prev, err
}

// eventsOf calls f with the n events of a life in a row, in the order of their decision. prev is the
// row before this one that has events of the life.
func eventsOf(o wal.Offset, data []byte, id uint64, f func(e *Event)) (n int64, prev wal.Offset, err error) {
	rd, err := NewEventReader(o, data)
	if err != nil {
		return 0, 0, err
	}
	var e Event
	for {
		ok, err := rd.Next(&e)
		if err != nil || !ok {
			return n, prev, err
		}
		if e.ID != id {
			continue
		}
		if n++; n == 1 {
			prev = e.Prev
		}
		f(&e)
	}
}
