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
// Errors as of Get, and ErrGranularity, ErrTooManyPoints.
//
// Windows are added up from the largest kept ones that fit into each point, so a
// year of days reads a year of days and not of minutes.
func (db *DB) Series(ctx context.Context, q *SeriesQuery) (points []Point, asOf AsOf, err error) {
	opts := db.cfg.Options()
	edges, err := q.edges(opts.Windows)
	if err != nil {
		return nil, AsOf{}, err
	}
	p := db.Stream.PartitionOf(q.Counter)
	_, barrier, err := db.waitOne(ctx, p, q.Counter, q.Accuracy, q.After)
	if err != nil {
		return nil, AsOf{}, err
	}
	known, now := db.look(p), db.Now().UnixMicro()
	sums, st, err := db.cfg.Owner.Series(ctx, p, q.Counter, edges, now)
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
		if err := db.ParkedErr(p, name); err != nil {
			return 0, 0, err
		}
	}
	return accuracy, barrier, nil
}

// edges are the starts of the points and the end of the last. Points are aligned
// to the granularity, counted from 1970 in UTC; whole days to midnight in the
// location. The first and the last are cut by the interval, on the smallest
// window.
func (q *SeriesQuery) edges(windows []time.Duration) ([]int64, error) {
	if len(windows) == 0 || q.Granularity <= 0 || q.Granularity%windows[0] != 0 {
		return nil, ErrGranularity
	}
	smallest := windows[0].Microseconds()
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

// recount follows the chain of a row's events back to a clear, to the base, or to
// the first.
func recount(ctx context.Context, snap Snapshot, row *Row) (sum, events int64, err error) {
	folded := snap.State().Folded
	for o := row.LastEvent; o > folded; {
		if err := ctx.Err(); err != nil {
			return 0, events, err
		}
		data, ok, err := snap.Events(o)
		if err != nil {
			return 0, events, err
		}
		if !ok {
			return 0, events, &MissingEventsError{Offset: o}
		}
		s, cleared, n, prev, err := sumRow(o, data, row.ID)
		if err != nil {
			return 0, events, err
		}
		sum, events = sum+s, events+n
		if cleared {
			return sum, events, nil
		}
		if n == 0 {
			return 0, events, &MissingEventsError{Offset: o}
		}
		o = prev
	}
	base, err := snap.Base(row.ID)
	return sum + base.Sum, events, err
}

// sumRow sums the events of one counter in a row; after a clear, what follows it.
func sumRow(o wal.Offset, data []byte, id uint64) (sum int64, cleared bool, n int64, prev wal.Offset, err error) {
	rd, err := NewEventReader(o, data)
	if err != nil {
		return 0, false, 0, 0, err
	}
	var e Event
	for {
		ok, err := rd.Next(&e)
		if err != nil || !ok {
			return sum, cleared, n, prev, err
		}
		if e.ID != id {
			continue
		}
		if n++; n == 1 {
			prev = e.Prev
		}
		if e.Kind == EventClear {
			sum, cleared = 0, true
		}
		sum += e.Delta
	}
}
