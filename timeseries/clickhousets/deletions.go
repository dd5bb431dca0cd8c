package clickhousets

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// tableDeletion is the ledger's table of deletions. The number is part of the data format.
const tableDeletion = 'd'

// mostDeletions is how many series of a partition are deleted and not yet removed. The next
// deletion waits until they are.
const mostDeletions = 1_000

// deletions are the series whose rows before a place in the log are gone: by name. A map is
// not changed once it is published. Example: series s with {7, 7, 0} hides what records 0 to 6
// say of s, and not what record 8 does. A deletion is a row of the ledger until the sweep
// has removed what it hides from ClickHouse.
type deletions map[string]timeseries.Order

// hides reports whether a row of a series is deleted.
func (d deletions) hides(series string, at timeseries.Order) bool {
	end, ok := d[series]
	return ok && before(at, end)
}

func before(a, b timeseries.Order) bool {
	switch {
	case a.Decided != b.Decided:
		return a.Decided < b.Decided
	case a.Record != b.Record:
		return a.Record < b.Record
	}
	return a.Index < b.Index
}

func deletionKey(p wal.Partition, series []byte) []byte {
	return append(pebblestore.AppendTable(nil, tableDeletion, p), series...)
}

func appendDeletion(dst []byte, at timeseries.Order) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.Decided))
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.Record))
	return binary.BigEndian.AppendUint32(dst, uint32(at.Index))
}

// deletionsIn are the deletions of a partition as of a snapshot of the ledger.
func deletionsIn(from pebble.Reader, p wal.Partition) (d deletions, err error) {
	lo, hi := pebblestore.Span(tableDeletion, p)
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	d = make(deletions)
	for ok := it.First(); ok; ok = it.Next() {
		v := it.Value()
		if len(v) != 20 {
			err = fmt.Errorf("%w: a deletion's row", wal.ErrCorrupt)
			break
		}
		d[string(it.Key()[pebblestore.TableLen:])] = timeseries.Order{
			Decided: wal.Offset(binary.BigEndian.Uint64(v)), Record: wal.Offset(binary.BigEndian.Uint64(v[8:])), Index: int(binary.BigEndian.Uint32(v[16:])),
		}
	}
	return d, errors.Join(err, it.Error(), it.Close())
}

// condition is that a row is hidden by one of the deletions.
func (d deletions) condition(q *clickhousestore.Statement) string {
	var series, decided, record, idx []string
	for name, at := range d {
		series = append(series, "'"+hex.EncodeToString([]byte(name))+"'")
		decided, record, idx = append(decided, clickhousestore.Number(at.Decided)), append(record, clickhousestore.Number(at.Record)), append(idx, strconv.Itoa(at.Index))
	}
	array := func(kind string, values []string) string {
		return q.Param("Array("+kind+")", "["+strings.Join(values, ",")+"]")
	}
	return "arrayExists((s, a, b, c) -> s = lower(hex(series)) AND (decided, record, toInt64(idx)) < (a, b, c), " +
		array("String", series) + ", " + array("Int64", decided) + ", " + array("Int64", record) + ", " + array("Int64", idx) + ")"
}

// mostHidden is how many bytes of names go into one statement: parameters are a part of an
// address of HTTP.
const mostHidden = 64 << 10

// parts cuts the deletions so that each part goes into one statement.
func (d deletions) parts() (out []deletions) {
	size := 0
	for name, at := range d {
		if len(out) == 0 || size+len(name) > mostHidden/4 {
			out, size = append(out, make(deletions)), 0
		}
		out[len(out)-1][name] = at
		size += len(name) + 32
	}
	return out
}

// askAgain is how long ClickHouse is given to remove what it was asked to.
const askAgain = 10 * time.Minute

// removal is what ClickHouse was asked to remove of a partition, in the goroutine of its
// applier.
type removal struct {
	of    deletions // nil: nothing
	asked time.Time
}

// remove has ClickHouse remove what is hidden in a partition, and reports whether it is gone:
// it marks the rows in its own time, seconds or minutes later, and frees their space as it
// merges.
func (s *Store) remove(ctx context.Context, p wal.Partition) (gone deletions, err error) {
	r := &s.removals[p]
	if r.of == nil || time.Since(r.asked) > askAgain {
		*r = removal{of: *s.deleted[p].Load()}
	}
	left := 0
	for _, d := range r.of.parts() {
		in, err := s.rows.SlicesWith(ctx, "look for deleted series", p, d.condition)
		if err != nil {
			return nil, err
		}
		left += len(in)
		for _, x := range in {
			if !r.asked.IsZero() {
				continue
			}
			if err := s.rows.DeleteIn(ctx, "remove deleted series", p, x, d.condition, false); err != nil {
				return nil, err
			}
		}
	}
	if left > 0 {
		if r.asked.IsZero() {
			r.asked = time.Now()
		}
		return nil, nil
	}
	gone, r.of = r.of, nil
	return gone, nil
}

// forget takes deletions whose rows are gone out of the ledger, but for those that were made
// again since.
func (s *Store) forget(w *pebble.Batch, p wal.Partition, gone deletions) (kept deletions, err error) {
	kept = maps.Clone(*s.deleted[p].Load())
	for name, at := range gone {
		if kept[name] != at {
			continue
		}
		delete(kept, name)
		err = errors.Join(err, w.Delete(deletionKey(p, []byte(name)), nil))
	}
	return kept, err
}

// with is the map with more deletions.
func (d deletions) with(more deletions) deletions {
	out := maps.Clone(d)
	maps.Copy(out, more)
	return out
}
