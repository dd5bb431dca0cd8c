package pebblets

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// A row of the index says that an event had, in some record, an item of a key and a value: slice,
// key, value, newest first, series, id. What the event has now is looked up in the event:
// of two items of one key the first holds, and a deletion leaves rows behind.

// longestIndexed is how many bytes of a text are in a row; longer ones that begin alike lie
// together.
const longestIndexed = 128

// The types of values in a row, in their order.
const (
	orderedNumber = 1
	orderedString = 2
	orderedBytes  = 3
)

// appendIndexKey is what the rows of a key in a slice begin with.
func appendIndexKey(dst []byte, p wal.Partition, start int64, key []byte) []byte {
	dst = appendSlice(dst, tableIndex, p, start)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key)))
	return append(dst, key...)
}

// appendOrdered appends a value so that bytes compare as Value.Compare does, and equal values
// are equal bytes.
func appendOrdered(dst []byte, v *timeseries.Value) []byte {
	switch v.Kind {
	case timeseries.Int:
		d := float64(v.Int)
		var rest int64
		if d >= 1<<63 { // no int64: it was rounded up
			rest = v.Int - math.MaxInt64 - 1
		} else {
			rest = v.Int - int64(d)
		}
		return appendNumber(dst, d, rest)
	case timeseries.Double:
		return appendNumber(dst, v.Double, 0)
	case timeseries.String:
		return appendText(append(dst, orderedString), v.Text, longestIndexed)
	case timeseries.Bytes:
		return appendText(append(dst, orderedBytes), v.Text, longestIndexed)
	}
	return dst
}

// appendNumber appends a double, and what an int has beyond it.
func appendNumber(dst []byte, d float64, rest int64) []byte {
	bits := math.Float64bits(d + 0) // -0 becomes 0
	if d == 0 {
		bits = 0
	}
	if bits&(1<<63) != 0 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	dst = binary.BigEndian.AppendUint64(append(dst, orderedNumber), bits)
	return binary.BigEndian.AppendUint64(dst, ordered(rest))
}

// appendText appends up to most bytes of a text so that none is the beginning of another.
func appendText(dst, text []byte, most int) []byte {
	return append(appendEscaped(dst, text, most), 0, 1)
}

func appendEscaped(dst, text []byte, most int) []byte {
	for _, b := range text[:min(len(text), most)] {
		if dst = append(dst, b); b == 0 {
			dst = append(dst, 0xff)
		}
	}
	return dst
}

// indexRow is the row of an event; prefix is that of its key.
func appendIndexRow(dst, prefix []byte, v *timeseries.Value, t int64, series, id []byte) []byte {
	dst = appendOrdered(append(dst, prefix...), v)
	dst = binary.BigEndian.AppendUint64(dst, newestFirst(t))
	return append(appendText(dst, series, len(series)), id...)
}

// splitIndexRow takes a row apart behind the key. It keeps parts of k but for the series.
func splitIndexRow(k []byte) (value []byte, t int64, series, id []byte, ok bool) {
	n := 0
	switch {
	case len(k) == 0:
		return nil, 0, nil, nil, false
	case k[0] == orderedNumber:
		n = 17
	default:
		end := bytes.Index(k, []byte{0, 1}) // a zero byte of the text is followed by 0xff
		if end < 0 {
			return nil, 0, nil, nil, false
		}
		n = end + 2
	}
	if len(k) < n+8 {
		return nil, 0, nil, nil, false
	}
	value, t = k[:n], timeOf(binary.BigEndian.Uint64(k[n:]))
	k = k[n+8:]
	for i := 0; i+1 < len(k); i++ {
		if k[i] != 0 {
			series = append(series, k[i])
			continue
		}
		if i++; k[i] == 1 {
			return value, t, series, k[i+1:], true
		}
		series = append(series, 0)
	}
	return nil, 0, nil, nil, false
}

// addIndexed adds the rows of an event.
func (b *batch) addIndexed(in timeseries.Slice, series []byte, t int64, id, items []byte) {
	var err error
	if b.items, err = timeseries.DecodeItems(b.items[:0], items); err != nil {
		b.SetErr(err)
		return
	}
	for i := range b.items {
		if it := &b.items[i]; in.Index.Has(it.Key) {
			b.prefix = appendIndexKey(b.prefix[:0], b.p, in.Start, it.Key)
			b.row = appendIndexRow(b.row[:0], b.prefix, &it.Value, t, series, id)
			b.SetErr(b.W.Set(b.row, nil, nil))
		}
	}
}

// lookup is a span of the index that has every event that meets a condition.
type lookup struct {
	prefix []byte // of the key
	lo, hi []byte
	// one: the span is of one value, so that its rows lie by time.
	one bool
}

// lookupOf is the span of a condition in a slice.
func lookupOf(c *timeseries.Condition, p wal.Partition, x timeseries.Slice) lookup {
	prefix := appendIndexKey(nil, p, x.Start, c.Key)
	l := lookup{prefix: prefix, lo: prefix, hi: pebblestore.Successor(prefix)}
	switch c.Op {
	case timeseries.Equals:
		l.lo = appendOrdered(bytes.Clone(prefix), &c.Value)
		l.hi, l.one = pebblestore.Successor(l.lo), true
	case timeseries.Prefix:
		l.lo = appendEscaped(append(bytes.Clone(prefix), orderedString), c.Value.Text, longestIndexed)
		l.hi = pebblestore.Successor(l.lo)
	case timeseries.Range:
		of := c.Lower
		if of == nil {
			of = c.Upper
		}
		kind := append(bytes.Clone(prefix), appendOrdered(nil, of)[0])
		l.lo, l.hi = kind, pebblestore.Successor(kind)
		if c.Lower != nil {
			l.lo = maxKey(l.lo, appendOrdered(bytes.Clone(prefix), c.Lower))
		}
		if c.Upper != nil { // texts that were cut may be below it or above
			l.hi = minKey(l.hi, pebblestore.Successor(appendOrdered(bytes.Clone(prefix), c.Upper)))
		}
	case timeseries.And, timeseries.Or, timeseries.Not, timeseries.Exists:
	}
	return l
}

// within narrows a span of one value down to start <= t < end.
func (l *lookup) within(start, end int64) {
	if !l.one {
		return
	}
	lo, hi := spanOf(l.lo, start, end)
	l.lo, l.hi = maxKey(l.lo, lo), minKey(l.hi, hi)
}

// worthIt reports whether looking up each row of a span is cheaper than looking at every event of
// the slice. What was written last is in no file, and counts as nothing.
func (s *Store) worthIt(l *lookup, p wal.Partition, x timeseries.Slice) (bool, error) {
	lo := appendSlice(nil, tableEvent, p, x.Start)
	all, err := s.DB.EstimateDiskUsage(lo, pebblestore.Successor(lo))
	if err != nil || all < 1<<20 {
		return true, err
	}
	rows, err := s.DB.EstimateDiskUsage(l.lo, l.hi)
	return rows*lookupCost < all, err
}

// lookupCost is how many times more a look at an event by its row costs than in passing, by the
// bytes of each in files.
const lookupCost = 16

// finder looks events up by rows of the index.
type finder struct {
	s     *Store
	p     wal.Partition
	x     timeseries.Slice
	key   []byte // of the items
	where *timeseries.Condition

	event timeseries.Event // that was found; valid until the next one
	size  int
	row   []byte
	value []byte
	want  []byte
}

// at looks the event of a row up, and reports whether it meets the condition by the value of this
// row and no other: an event is found once.
func (f *finder) at(value []byte, t int64, series, id []byte) (bool, error) {
	f.row = appendSeries(f.row[:0], f.p, f.x.Start, series)
	found, err := f.s.DB.View(eventAt(f.row, t, id), func(v []byte) error {
		f.value = append(f.value[:0], v...)
		return nil
	})
	if err != nil || !found {
		return false, err
	}
	if f.event.Items, err = timeseries.DecodeItems(f.event.Items[:0], f.value); err != nil {
		return false, errors.Join(errBadRow, err)
	}
	f.event.Series, f.event.Time, f.event.ID, f.size = series, t, id, len(f.value)
	v := f.event.Item(f.key)
	if v == nil {
		return false, nil
	}
	if f.want = appendOrdered(f.want[:0], v); !bytes.Equal(f.want, value) {
		return false, nil
	}
	return f.where.Match(&f.event), nil
}

// findIn finds the events of a slice that meet a condition by an index, and calls each with those
// that pass wants, which knows nothing but their places, until it says stop. The events of a span
// of one value come newest first, or oldest first.
func (s *Store) findIn(ctx context.Context, l *lookup, p wal.Partition, x timeseries.Slice, by, where *timeseries.Condition, start, end int64, oldest bool,
	wants func(t int64, series, id []byte) bool, each func(f *finder) (stop bool, err error),
) (err error) {
	l.within(max(start, x.Start), min(end, x.End))
	if bytes.Compare(l.lo, l.hi) >= 0 {
		return nil
	}
	it, err := s.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: l.lo, UpperBound: l.hi})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Error(), it.Close()) }()
	f := &finder{s: s, p: p, x: x, key: by.Key, where: where}
	first, next := it.First, it.Next
	if oldest {
		first, next = it.Last, it.Prev
	}
	n := 0
	for ok := first(); ok; ok = next() {
		if n++; n%lookEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		value, t, series, id, good := splitIndexRow(it.Key()[len(l.prefix):])
		if !good {
			return errBadKey
		}
		if t < start || t >= end || !wants(t, series, id) {
			continue
		}
		match, err := f.at(value, t, series, id)
		if err != nil {
			return err
		}
		if !match {
			continue
		}
		if stop, err := each(f); stop || err != nil {
			return err
		}
	}
	return nil
}
