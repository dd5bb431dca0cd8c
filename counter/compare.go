package counter

import (
	"bytes"
	"context"
	"math"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Compare finds where two snapshots of a partition, as of one position, are not
// alike: the value, what is held, the life, the windows and the events of each
// counter that exists at now (microseconds since 1970). looked is told how many
// counters were compared since the last call.
func Compare(ctx context.Context, p wal.Partition, a, b Snapshot, windows []time.Duration, now int64, r *consumers.Report, looked func(n int64)) error {
	c := comparison{p: p, a: a, b: b, windows: windows, now: now, r: r}
	var after []byte
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, moreX, err := c.page(a, after)
		if err != nil {
			return err
		}
		y, moreY, err := c.page(b, after)
		if err != nil {
			return err
		}
		if after, err = c.pages(x, y, moreX, moreY); err != nil {
			return err
		}
		looked(int64(max(len(x), len(y))))
		if after == nil {
			return c.events()
		}
	}
}

type comparison struct {
	p       wal.Partition
	a, b    Snapshot
	windows []time.Duration
	now     int64
	r       *consumers.Report
}

// comparedAtOnce is how many counters of each store a comparison holds.
const comparedAtOnce = 4096

type namedRow struct {
	name []byte
	row  Row
}

func (c *comparison) page(s Snapshot, after []byte) (rows []namedRow, more bool, err error) {
	n := 0
	err = s.List(nil, after, func(name []byte, r *Row) bool {
		if n++; n > comparedAtOnce {
			more = true
			return false
		}
		row := *r
		row.Open = append([]OpenBucket(nil), r.Open...)
		rows = append(rows, namedRow{append([]byte(nil), name...), row})
		return true
	})
	return rows, more, err
}

// pages compares two pages that begin behind one name, and returns behind which
// name the next begin; nil at the end.
func (c *comparison) pages(x, y []namedRow, moreX, moreY bool) ([]byte, error) {
	var upTo []byte // what is above it may be on the next page of the other
	if moreX {
		upTo = x[len(x)-1].name
	}
	if last := len(y) - 1; moreY && (upTo == nil || bytes.Compare(y[last].name, upTo) < 0) {
		upTo = y[last].name
	}
	within := func(n []byte) bool { return upTo == nil || bytes.Compare(n, upTo) <= 0 }
	for len(x) > 0 && within(x[0].name) || len(y) > 0 && within(y[0].name) {
		order := 0
		switch {
		case len(x) == 0 || !within(x[0].name):
			order = 1
		case len(y) == 0 || !within(y[0].name):
			order = -1
		default:
			order = bytes.Compare(x[0].name, y[0].name)
		}
		switch {
		case order < 0:
			c.missing(&x[0], "the PRIMARY counts %d, the other store does not have it")
			x = x[1:]
		case order > 0:
			c.missing(&y[0], "the PRIMARY does not have it, the other store counts %d")
			y = y[1:]
		default:
			if err := c.rows(&x[0], &y[0]); err != nil {
				return nil, err
			}
			x, y = x[1:], y[1:]
		}
	}
	return upTo, nil
}

// alive reports whether a reader sees a row.
func (c *comparison) alive(r *Row) bool {
	return r.alive(max(c.now, c.a.State().LogTime)) || r.Held != 0
}

// missing notes a counter that one store has not. One that has expired may have
// been freed in either.
func (c *comparison) missing(n *namedRow, format string) {
	c.r.Items++
	if c.alive(&n.row) {
		c.r.Differ(c.p, string(n.name), format, n.row.Value)
	}
}

func (c *comparison) rows(x, y *namedRow) error {
	c.r.Items++
	a, b := &x.row, &y.row
	aliveA, aliveB := c.alive(a), c.alive(b)
	switch {
	case !aliveA && !aliveB:
		return nil
	case aliveA != aliveB:
		c.r.Differ(c.p, string(x.name), "it exists in one store only: %t in the PRIMARY", aliveA)
	case a.ID != b.ID || a.Value != b.Value || a.Held != b.Held || a.ExpiresAt != b.ExpiresAt || a.LastEvent != b.LastEvent:
		c.r.Differ(c.p, string(x.name), "value, held, life, expiry, last event: %d %d %d %d %d in the PRIMARY, %d %d %d %d %d in the other store",
			a.Value, a.Held, a.ID, a.ExpiresAt, a.LastEvent, b.Value, b.Held, b.ID, b.ExpiresAt, b.LastEvent)
	default:
		return c.series(x.name, a, b)
	}
	return nil
}

// series compares the windows of a counter: those that are finished and the ones
// that are open come to the same sums, wherever they stand.
func (c *comparison) series(name []byte, a, b *Row) error {
	for i, w := range c.windows {
		x, err := c.sums(c.a, a, i, w)
		if err != nil {
			return err
		}
		y, err := c.sums(c.b, b, i, w)
		if err != nil {
			return err
		}
		if len(x) != len(y) {
			c.r.Differ(c.p, string(name), "%d windows of %v in the PRIMARY, %d in the other store", len(x), w, len(y))
			return nil
		}
		for start, sum := range x {
			if y[start] != sum {
				c.r.Differ(c.p, string(name), "the window of %v from %s", w, time.UnixMicro(start).UTC())
				return nil
			}
		}
	}
	return nil
}

func (c *comparison) sums(s Snapshot, row *Row, i int, size time.Duration) (map[int64]Bucket, error) {
	out := make(map[int64]Bucket)
	err := s.Windows(row.ID, size, math.MinInt64, math.MaxInt64, func(start int64, b Bucket) bool {
		out[start] = b
		return true
	})
	if i < len(row.Open) && row.Open[i].Adds != 0 {
		sum := out[row.Open[i].Start]
		sum.Merge(row.Open[i].Bucket)
		out[row.Open[i].Start] = sum
	}
	return out, err
}

// events compares the event rows that both stores keep: each folds old ones in its
// own time.
func (c *comparison) events() error {
	from := max(c.a.State().Folded, c.b.State().Folded) + 1
	next := from
	const atOnce = 1024
	for {
		var offsets []wal.Offset
		var rows [][]byte
		err := c.a.EventsFrom(next, func(o wal.Offset, row []byte) bool {
			offsets, rows = append(offsets, o), append(rows, bytes.Clone(row))
			return len(rows) < atOnce
		})
		if err != nil {
			return err
		}
		i, upTo := 0, wal.Offset(math.MaxInt64)
		if len(rows) == atOnce {
			upTo = offsets[atOnce-1]
		}
		err = c.b.EventsFrom(next, func(o wal.Offset, row []byte) bool {
			if o > upTo {
				return false
			}
			for ; i < len(offsets) && offsets[i] < o; i++ {
				c.r.Differ(c.p, "events", "the PRIMARY has events of offset %d, the other store has not", offsets[i])
			}
			switch {
			case i == len(offsets) || offsets[i] != o:
				c.r.Differ(c.p, "events", "the other store has events of offset %d, the PRIMARY has not", o)
			default:
				if !bytes.Equal(rows[i], row) {
					c.r.Differ(c.p, "events", "events of offset %d differ", o)
				}
				i++
			}
			return true
		})
		if err != nil {
			return err
		}
		for ; i < len(offsets); i++ {
			c.r.Differ(c.p, "events", "the PRIMARY has events of offset %d, the other store has not", offsets[i])
		}
		if len(rows) < atOnce {
			return nil
		}
		next = upTo + 1
	}
}
