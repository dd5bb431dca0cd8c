package clickhousets

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// order is how a scan of a slice goes.
type order struct {
	by []string // expressions, the last three are the row's timeseries.Order
	// down: the expressions before the last three go down.
	down bool
}

var (
	byKey       = order{by: []string{"length(series)", "series", "age", "id", "decided", "record", "idx"}}
	newestFirst = order{by: []string{"age", "id", "decided", "record", "idx"}}
	oldestFirst = order{by: newestFirst.by, down: true}
	// Of all series, as a timeseries.Place compares.
	placesUp   = order{by: []string{"age", "series", "id", "decided", "record", "idx"}}
	placesDown = order{by: placesUp.by, down: true}
)

func (o *order) goesDown(i int) bool { return o.down && i < len(o.by)-3 }

func (o *order) clause() string { return o.clauseOf(len(o.by)) }

// events is the clause for events, without the order of their rows.
func (o *order) events() string { return o.clauseOf(len(o.by) - 3) }

func (o *order) clauseOf(n int) string {
	var parts []string
	for i, e := range o.by[:n] {
		if o.goesDown(i) {
			e += " DESC"
		}
		parts = append(parts, e)
	}
	return " ORDER BY " + strings.Join(parts, ", ")
}

// behind is the condition that a row comes behind the values of the first expressions.
// It is written out so that ClickHouse finds the place by its index.
func (o *order) behind(values []string) string {
	out := ""
	for i := len(values) - 1; i >= 0; i-- {
		e, v, sign := o.by[i], values[i], " > "
		if o.goesDown(i) {
			sign = " < "
		}
		if out == "" {
			out = e + sign + v
			continue
		}
		out = "(" + e + sign + v + " OR (" + e + " = " + v + " AND " + out + "))"
	}
	return out
}

// scan reads the events of a part of a slice, in an order.
type scan struct {
	s       *Store
	p       wal.Partition
	applied wal.Offset // rows behind it are not seen
	deleted deletions
	in      timeseries.Slice
	order   order
	series  []byte // of it alone; nil: of all
	// start <= time < end
	start, end int64
	// after are the values of the order's first expressions that the scan begins behind.
	after func(q *clickhousestore.Statement) []string
	// keys are the items that are read; nil: all.
	keys [][]byte
	// where narrows the scan down to what may meet it; nil: every event comes.
	where *timeseries.Condition
	// first is how many rows the first query reads; the next ones read more.
	first int
}

// of is the scan of what a slice has of start <= time < end.
func (c scan) of(x timeseries.Slice, start, end int64) scan {
	c.in, c.start, c.end = x, max(start, x.Start), min(end, x.End)
	return c
}

// errStop ends an answer that is not read to its end.
var errStop = errors.New("enough was read")

// mostRows is how many rows a query of a scan reads: an answer is held in memory by those
// in between.
const mostRows = 50_000

// each calls f with each event until it says stop. e is valid until f returns.
func (c *scan) each(ctx context.Context, f func(e *timeseries.Event) (stop bool, err error)) error {
	if c.start >= c.end {
		return nil
	}
	m, behind, narrow := merge{}, c.after, c.where != nil && narrows(c.where)
	for limit := max(min(c.first, mostRows), 16); ; limit = min(4*limit, mostRows) {
		q := c.statement(behind, limit)
		n := 0 // rows, or events where a query has all rows of each
		var last row
		err := c.s.rows.Query(ctx, "read events", q, nil, func(r clickhousestore.RowScanner) error {
			before := last
			if err := last.scan(r); err != nil {
				return err
			}
			if !narrow || n == 0 || !last.same(&before) {
				n++
			}
			if c.deleted.hides(last.series, timeseries.Order{Decided: wal.Offset(last.decided), Record: wal.Offset(last.record), Index: int(last.idx)}) {
				return nil
			}
			stop, err := m.add(&last, f)
			if err == nil && stop {
				err = errStop
			}
			return err
		})
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
		if narrow || n < limit { // the last event is complete
			if stop, err := m.flush(f); stop || err != nil {
				return err
			}
		}
		if n < limit {
			return nil
		}
		behind = last.place(&c.order)
		if narrow { // behind the event, and not in the middle of it
			whole := behind
			behind = func(q *clickhousestore.Statement) []string { v := whole(q); return v[:len(v)-3] }
		}
	}
}

func (c *scan) statement(behind func(q *clickhousestore.Statement) []string, limit int) *clickhousestore.Statement {
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT series, age, id, decided, record, idx")
	keys := ""
	if c.keys != nil {
		var list []string
		for _, k := range c.keys {
			list = append(list, q.Bytes(k))
		}
		keys = strings.Join(list, ", ")
	}
	for _, m := range []string{"ints", "doubles", "strings", "blobs"} {
		switch {
		case c.keys == nil:
			q.WriteString(", " + m)
		case keys == "":
			q.WriteString(", mapFilter((k, v) -> false, " + m + ")")
		default:
			q.WriteString(", mapFilter((k, v) -> k IN (" + keys + "), " + m + ")")
		}
	}
	base := c.base(q)
	q.WriteString(" FROM " + table + base)
	next := ""
	if behind != nil {
		next = " AND " + c.order.behind(behind(q))
	}
	if may := narrowed(q, c.where); may != "" { // the events that come next of those that may meet it, with all rows of each
		q.WriteString(" AND (series, age, id) IN (SELECT DISTINCT series, age, id FROM " + table + base + next + " AND " + may + c.order.events() + " LIMIT " + strconv.Itoa(limit) + ")" + c.order.clause())
		return q
	}
	q.WriteString(next + c.order.clause() + " LIMIT " + strconv.Itoa(limit))
	return q
}

// base is the condition of the rows of the scan.
func (c *scan) base(q *clickhousestore.Statement) string {
	out := c.s.where(q, c.p, c.applied) + " AND slice = " + clickhousestore.Number(c.in.Start)
	if c.series != nil {
		out += " AND length(series) = " + strconv.Itoa(len(c.series)) + " AND series = " + q.Bytes(c.series)
	}
	if c.start > c.in.Start {
		out += " AND age <= " + clickhousestore.Number(-c.start)
	}
	if c.end < c.in.End {
		out += " AND age > " + clickhousestore.Number(-c.end)
	}
	return out
}

// where is the condition that every read has: the rows of the store and partition that
// the ledger's position covers.
func (s *Store) where(q *clickhousestore.Statement, p wal.Partition, applied wal.Offset) string {
	return " WHERE " + s.rows.Of(q, p) + " AND decided <= " + clickhousestore.Number(applied)
}

// row is one row of an answer.
type row struct {
	series, id           string
	age, decided, record int64
	idx                  uint32
	ints                 map[string]int64
	doubles              map[string]float64
	strings, blobs       map[string]string
}

func (r *row) scan(rows clickhousestore.RowScanner) error {
	*r = row{}
	return rows.Scan(&r.series, &r.age, &r.id, &r.decided, &r.record, &r.idx, &r.ints, &r.doubles, &r.strings, &r.blobs)
}

// same reports whether two rows are of one event.
func (r *row) same(o *row) bool { return r.age == o.age && r.id == o.id && r.series == o.series }

// place is what a query that goes on behind the row is told.
func (r *row) place(o *order) func(q *clickhousestore.Statement) []string {
	at := *r
	return func(q *clickhousestore.Statement) (values []string) {
		for _, e := range o.by {
			switch e {
			case "length(series)":
				values = append(values, strconv.Itoa(len(at.series)))
			case "series":
				values = append(values, q.Bytes([]byte(at.series)))
			case "age":
				values = append(values, clickhousestore.Number(at.age))
			case "id":
				values = append(values, q.Bytes([]byte(at.id)))
			case "decided":
				values = append(values, clickhousestore.Number(at.decided))
			case "record":
				values = append(values, clickhousestore.Number(at.record))
			case "idx":
				values = append(values, strconv.FormatUint(uint64(at.idx), 10))
			}
		}
		return values
	}
}

// merge makes one event of the rows of one identity, which come one after the other in log
// order.
type merge struct {
	open bool
	e    timeseries.Event
	have map[string]bool // keys of e, where it is of several rows
}

// add takes a row. Where it begins another event, f is called with the one before.
func (m *merge) add(r *row, f func(e *timeseries.Event) (bool, error)) (stop bool, err error) {
	if m.open && (m.e.Time != -r.age || string(m.e.ID) != r.id || string(m.e.Series) != r.series) {
		if stop, err = m.flush(f); stop || err != nil {
			return stop, err
		}
	}
	if !m.open {
		m.open, m.have = true, nil
		m.e = timeseries.Event{Series: []byte(r.series), Time: -r.age, ID: []byte(r.id)}
	} else if m.have == nil {
		m.have = make(map[string]bool, len(m.e.Items))
		for i := range m.e.Items {
			m.have[string(m.e.Items[i].Key)] = true
		}
	}
	for k, v := range r.ints {
		m.item(k, timeseries.Value{Kind: timeseries.Int, Int: v})
	}
	for k, v := range r.doubles {
		m.item(k, timeseries.Value{Kind: timeseries.Double, Double: v})
	}
	for k, v := range r.strings {
		m.item(k, timeseries.Value{Kind: timeseries.String, Text: []byte(v)})
	}
	for k, v := range r.blobs {
		m.item(k, timeseries.Value{Kind: timeseries.Bytes, Text: []byte(v)})
	}
	return false, nil
}

func (m *merge) item(key string, v timeseries.Value) {
	if m.have != nil {
		if m.have[key] {
			return
		}
		m.have[key] = true
	}
	m.e.Items = append(m.e.Items, timeseries.Item{Key: []byte(key), Value: v})
}

// flush gives f the event at hand.
func (m *merge) flush(f func(e *timeseries.Event) (bool, error)) (stop bool, err error) {
	if !m.open {
		return false, nil
	}
	m.open = false
	if !m.e.SortItems() {
		return true, fmt.Errorf("%w: an event has an item twice", wal.ErrCorrupt)
	}
	return f(&m.e)
}
