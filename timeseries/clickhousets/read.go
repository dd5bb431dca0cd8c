package clickhousets

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// begin is what a read of a partition begins with: its slices, in its order, and a scan that lacks
// the slice and what of it.
func (s *Store) begin(ctx context.Context, p wal.Partition, start, end int64, oldest bool, open timeseries.OpenSlices) (scan, timeseries.Slices, error) {
	all, err := s.Slices(p).ReadIn(start, end, oldest, open)
	if err != nil {
		return scan{}, nil, err
	}
	applied, err := s.applied(ctx, p)
	return scan{s: s, p: p, applied: applied, deleted: *s.deleted[p].Load()}, all, err
}

// applied is what a read sees: what the ledger's position covers as it begins.
func (s *Store) applied(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	st, err := s.State(ctx, p)
	return st.Applied, err
}

// Read implements timeseries.Store.
func (s *Store) Read(ctx context.Context, q *timeseries.Query) (*timeseries.Page, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	base, all, err := s.begin(ctx, q.Partition, q.Start, q.End, q.Oldest, q.Open)
	if err != nil {
		return nil, err
	}
	r := reading{q: q, where: timeseries.AllOf(q.Filters), page: &timeseries.Page{}}
	for _, x := range all {
		c := base.of(x, q.Start, q.End)
		c.order, c.series, c.where, c.first = newestFirst, q.Series, r.where, q.Limit-len(r.page.Events)+2
		if q.Oldest {
			c.order = oldestFirst
		}
		if m := q.After; m != nil {
			if !q.Oldest && x.Start > m.Time || q.Oldest && x.End <= m.Time {
				continue // the pages before have seen it
			}
			c.after = func(q *clickhousestore.Statement) []string {
				return []string{clickhousestore.Number(-m.Time), q.Bytes(m.ID)}
			}
		}
		done := false
		err := c.each(ctx, func(e *timeseries.Event) (bool, error) {
			done = r.event(e)
			return done, nil
		})
		if err != nil {
			return nil, err
		}
		if done {
			if !r.page.Partial {
				r.page.Wide, err = s.wide(ctx, q, x)
				r.page.WideBuckets = x.EventBuckets
			}
			return r.page, err
		}
	}
	return r.page, nil
}

// reading is a page on its way.
type reading struct {
	q      *timeseries.Query
	where  *timeseries.Condition // of the filters
	page   *timeseries.Page
	bytes  int
	looked int
}

// lookEvery is how many events are looked at between two looks at the clock.
const lookEvery = 256

// event adds an event where the filters let it; done: the page is.
func (r *reading) event(e *timeseries.Event) (done bool) {
	q := r.q
	if r.looked++; r.looked%lookEvery == 0 && !q.Deadline.IsZero() && !time.Now().Before(q.Deadline) {
		r.page.Next, r.page.Partial = &timeseries.Mark{Time: e.Time, ID: e.ID}, true
		if n := len(r.page.Events); r.where.Match(e) && n < q.Limit && (n == 0 || r.bytes+sizeOf(e) <= q.MaxBytes) {
			r.page.Events = append(r.page.Events, *e)
		} else if n > 0 {
			r.page.Next = &timeseries.Mark{Time: r.page.Events[n-1].Time, ID: r.page.Events[n-1].ID}
		}
		return true
	}
	if !r.where.Match(e) {
		return false
	}
	size, n := sizeOf(e), len(r.page.Events)
	if n > 0 && (n >= q.Limit || r.bytes+size > q.MaxBytes) {
		last := &r.page.Events[n-1]
		r.page.Next = &timeseries.Mark{Time: last.Time, ID: last.ID}
		return true
	}
	r.page.Events, r.bytes = append(r.page.Events, *e), r.bytes+size
	return false
}

func sizeOf(e *timeseries.Event) int {
	return len(timeseries.AppendItems(nil, e.Items)) + len(e.ID) + 16
}

// wide reports whether the rows of a series in a slice have more than q.WideBytes.
func (s *Store) wide(ctx context.Context, q *timeseries.Query, x timeseries.Slice) (wide bool, err error) {
	if q.WideBytes == 0 {
		return false, nil
	}
	st := &clickhousestore.Statement{}
	st.Addf("SELECT toInt64(sum(bytes)) FROM %s%s AND slice = %d AND length(series) = %d AND series = %s",
		table, s.where(st, q.Partition, math.MaxInt64), x.Start, len(q.Series), st.Bytes(q.Series))
	var n int64
	err = s.rows.Query(ctx, "measure a series", st, nil, func(r clickhousestore.RowScanner) error { return r.Scan(&n) })
	return n > q.WideBytes, err
}

// Search implements timeseries.Store. ClickHouse puts the events of a slice into the order of
// the search; those that meet the query are picked out here.
func (s *Store) Search(ctx context.Context, q *timeseries.SearchQuery) (*timeseries.Found, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	base, all, err := s.begin(ctx, q.Partition, q.Start, q.End, q.Oldest, q.Open)
	if err != nil {
		return nil, err
	}
	found, size := &timeseries.Found{}, 0
	for _, x := range all {
		c := base.of(x, q.Start, q.End)
		c.order, c.where, c.first = placesUp, q.Where, 4*(q.Limit+1)
		if q.Oldest {
			c.order = placesDown
		}
		if b := q.Behind; b != nil {
			if !q.Oldest && x.Start > b.Time || q.Oldest && x.End <= b.Time {
				continue // the pages before have seen it
			}
			c.after = func(q *clickhousestore.Statement) []string {
				return []string{clickhousestore.Number(-b.Time), q.Bytes(b.Series), q.Bytes(b.ID)}
			}
		}
		done := false
		err := c.each(ctx, func(e *timeseries.Event) (bool, error) {
			found.Scanned++
			if q.Where.Match(e) {
				own := sizeOf(e) + len(e.Series)
				if n := len(found.Events); n > 0 && (n >= q.Limit || size+own > q.MaxBytes) {
					done, found.Next = true, timeseries.PlaceOf(&found.Events[n-1])
					return true, nil
				}
				found.Events, size = append(found.Events, *e), size+own
			}
			if found.Scanned%lookEvery == 0 && !q.Deadline.IsZero() && !time.Now().Before(q.Deadline) {
				done, found.Partial, found.Next = true, true, timeseries.PlaceOf(e)
			}
			return done, nil
		})
		if err != nil {
			return nil, err
		}
		if done {
			return found, nil
		}
		found.Slices++
	}
	return found, nil
}

// Aggregate implements timeseries.Store. Rows are merged and judged here, as by the store on
// Pebble; ClickHouse narrows them down to the interval and the items that are needed.
func (s *Store) Aggregate(ctx context.Context, q *timeseries.AggregateQuery, into *timeseries.Groups) error {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return err
	}
	defer s.Leave()
	base, all, err := s.begin(ctx, q.Partition, q.Start, q.End, true, q.Open)
	if err != nil {
		return err
	}
	for _, x := range all {
		c := base.of(x, q.Start, q.End)
		c.order, c.series, c.keys, c.where, c.first = byKey, q.Series, q.Keys, q.Where, mostRows
		err := c.each(ctx, func(e *timeseries.Event) (bool, error) {
			if !q.Where.Match(e) {
				return false, nil
			}
			return false, into.Add(e)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shown is the condition that rows are not deleted.
func (s *Store) shown(q *clickhousestore.Statement, p wal.Partition) (where string) {
	for _, d := range s.deleted[p].Load().parts() {
		where += " AND NOT " + d.condition(q)
	}
	return where
}

// Measure implements timeseries.Store.
func (s *Store) Measure(ctx context.Context, p wal.Partition) ([]timeseries.SliceSize, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	applied, err := s.applied(ctx, p)
	if err != nil {
		return nil, err
	}
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT slice, toInt64(count()), toInt64(sum(size)) FROM (SELECT slice, length(series) AS l, series, age, id, min(bytes) + l + length(id) + 8 AS size FROM " + table +
		s.where(q, p, applied) + s.shown(q, p) + " GROUP BY slice, length(series), series, age, id) GROUP BY slice")
	sizes := make(map[int64]timeseries.SliceSize)
	err = s.rows.Query(ctx, "measure slices", q, clickhouse.Settings{"optimize_aggregation_in_order": 1}, func(r clickhousestore.RowScanner) error {
		var x timeseries.SliceSize
		err := r.Scan(&x.Start, &x.Events, &x.Bytes)
		sizes[x.Start] = x
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []timeseries.SliceSize
	for _, x := range s.Slices(p) {
		size := sizes[x.Start]
		size.Slice = x
		out = append(out, size)
	}
	return out, nil
}

// List implements timeseries.Store.
func (s *Store) List(ctx context.Context, l *timeseries.ListQuery) (list []timeseries.Series, more bool, err error) {
	if err := s.Enter(ctx, l.Partition); err != nil {
		return nil, false, err
	}
	defer s.Leave()
	all := s.Slices(l.Partition)
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if l.HasInterval {
		start, end = l.Start, l.End
	}
	var in []string
	for _, x := range all.Overlapping(start, end) {
		if l.Open.Has(x) {
			in = append(in, clickhousestore.Number(x.Start))
		}
	}
	applied, err := s.applied(ctx, l.Partition)
	if err != nil || len(in) == 0 {
		return nil, false, err
	}
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT series, min(-age), max(-age) FROM " + table + s.where(q, l.Partition, applied) + s.shown(q, l.Partition) + " AND slice IN (" + strings.Join(in, ", ") + ")")
	if len(l.Prefix) > 0 {
		q.WriteString(" AND startsWith(series, " + q.Bytes(l.Prefix) + ")")
	}
	if l.Above != nil {
		q.WriteString(" AND series > " + q.Bytes(l.Above))
	}
	if l.HasInterval {
		q.WriteString(" AND -age >= " + clickhousestore.Number(start) + " AND -age < " + clickhousestore.Number(end))
	}
	q.Addf(" GROUP BY series ORDER BY series LIMIT %d", l.Limit+1)
	err = s.rows.Query(ctx, "list series", q, nil, func(r clickhousestore.RowScanner) error {
		var name string
		var x timeseries.Series
		err := r.Scan(&name, &x.First, &x.Last)
		x.Name = []byte(name)
		list = append(list, x)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if len(list) > l.Limit {
		return list[:l.Limit], true, nil
	}
	return list, false, nil
}
