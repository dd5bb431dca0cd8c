package timeseries

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// ValueKind is the type of an item's value. The numbers are part of the data format.
type ValueKind byte

// The types of values.
const (
	String ValueKind = 1
	Int    ValueKind = 2
	Double ValueKind = 3
	Bytes  ValueKind = 4
)

// Value is the value of an item: Text of a String or Bytes, Int or Double of the others.
type Value struct {
	Kind   ValueKind
	Text   []byte
	Int    int64
	Double float64
}

// Equal reports whether two values are equal as filters see them: an int and a double
// compare as numbers, other types never equal another.
func (v *Value) Equal(o *Value) bool {
	switch {
	case v.Kind == Int && o.Kind == Double:
		return intIsDouble(v.Int, o.Double)
	case v.Kind == Double && o.Kind == Int:
		return intIsDouble(o.Int, v.Double)
	case v.Kind != o.Kind:
		return false
	case v.Kind == Int:
		return v.Int == o.Int
	case v.Kind == Double:
		return v.Double == o.Double
	}
	return bytes.Equal(v.Text, o.Text)
}

// Same reports whether two values are of one type and alike bit by bit.
func (v *Value) Same(o *Value) bool {
	return v.Kind == o.Kind && v.Int == o.Int && math.Float64bits(v.Double) == math.Float64bits(o.Double) && bytes.Equal(v.Text, o.Text)
}

// intIsDouble reports whether a double is exactly the int: not every int64 has a double.
func intIsDouble(i int64, d float64) bool {
	return d == math.Trunc(d) && d >= -(1<<63) && d < 1<<63 && int64(d) == i
}

// Item is one named value of an event.
type Item struct {
	Key   []byte
	Value Value
}

// Event is one event of a series. Its identity is series, time and id; the items of all
// records of that identity are one event, and of two with one key the first in the log
// holds.
type Event struct {
	Series []byte
	Time   int64 // microseconds since 1970, also before
	ID     []byte
	Items  []Item // by key, each key once
}

// SortItems puts the items into the order of their keys, and reports whether each key is
// there once.
func (e *Event) SortItems() bool {
	slices.SortFunc(e.Items, func(a, b Item) int { return bytes.Compare(a.Key, b.Key) })
	for i := 1; i < len(e.Items); i++ {
		if bytes.Equal(e.Items[i-1].Key, e.Items[i].Key) {
			return false
		}
	}
	return true
}

// Item returns the value of a key, nil where the event has none.
func (e *Event) Item(key []byte) *Value {
	if len(e.Items) <= 8 { // cheaper than a search
		for i := range e.Items {
			if bytes.Equal(e.Items[i].Key, key) {
				return &e.Items[i].Value
			}
		}
		return nil
	}
	i, ok := slices.BinarySearchFunc(e.Items, key, func(it Item, key []byte) int { return bytes.Compare(it.Key, key) })
	if !ok {
		return nil
	}
	return &e.Items[i].Value
}

// AppendItems appends the encoding of items: for each its key blob, its type (1) and its
// value, a blob, a zigzag varint or 8 bytes big-endian of a double.
func AppendItems(dst []byte, items []Item) []byte {
	for i := range items {
		it := &items[i]
		dst = appendBlob(dst, it.Key)
		dst = append(dst, byte(it.Value.Kind))
		switch it.Value.Kind {
		case Int:
			dst = binary.AppendVarint(dst, it.Value.Int)
		case Double:
			dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(it.Value.Double))
		case String, Bytes:
			dst = appendBlob(dst, it.Value.Text)
		}
	}
	return dst
}

func appendBlob(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func blob(b []byte) (blob, rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, false
	}
	return b[k : k+int(n)], b[k+int(n):], true
}

// DecodeItems appends the items of an encoding to dst. They point into b.
// wal.ErrMalformed: it is no such encoding, or not in the order of the keys.
func DecodeItems(dst []Item, b []byte) ([]Item, error) {
	for len(b) > 0 {
		it, rest, ok := nextItem(b)
		if !ok || len(dst) > 0 && bytes.Compare(dst[len(dst)-1].Key, it.Key) >= 0 {
			return dst, fmt.Errorf("%w items of an event", wal.ErrMalformed)
		}
		dst, b = append(dst, it), rest
	}
	return dst, nil
}

// DecodeKeys is DecodeItems for items of some keys alone, which are in order. What follows the
// last of them is not looked at.
func DecodeKeys(dst []Item, b []byte, keys [][]byte) ([]Item, error) {
	for len(keys) > 0 && len(b) > 0 {
		it, rest, ok := nextItem(b)
		if !ok {
			return dst, fmt.Errorf("%w items of an event", wal.ErrMalformed)
		}
		b = rest
		for len(keys) > 0 {
			c := bytes.Compare(keys[0], it.Key)
			if c > 0 {
				break
			}
			if c == 0 {
				dst = append(dst, it)
			}
			keys = keys[1:]
		}
	}
	return dst, nil
}

func nextItem(b []byte) (it Item, rest []byte, ok bool) {
	if it.Key, b, ok = blob(b); !ok || len(b) == 0 {
		return it, nil, false
	}
	it.Value.Kind, b = ValueKind(b[0]), b[1:]
	switch it.Value.Kind {
	case String, Bytes:
		it.Value.Text, b, ok = blob(b)
		return it, b, ok
	case Int:
		v, n := binary.Varint(b)
		if n <= 0 {
			return it, nil, false
		}
		it.Value.Int, b = v, b[n:]
	case Double:
		if len(b) < 8 {
			return it, nil, false
		}
		it.Value.Double, b = math.Float64frombits(binary.BigEndian.Uint64(b)), b[8:]
	default:
		return it, nil, false
	}
	return it, b, true
}

// MergeItems appends the union of two encodings: of two items of one key that of first
// holds. wal.ErrMalformed.
func MergeItems(dst, first, second []byte) ([]byte, error) {
	bad := fmt.Errorf("%w items of an event", wal.ErrMalformed)
	for len(first) > 0 && len(second) > 0 {
		a, restA, ok := nextItem(first)
		if !ok {
			return dst, bad
		}
		b, restB, ok := nextItem(second)
		if !ok {
			return dst, bad
		}
		switch c := bytes.Compare(a.Key, b.Key); {
		case c < 0:
			dst, first = append(dst, first[:len(first)-len(restA)]...), restA
		case c > 0:
			dst, second = append(dst, second[:len(second)-len(restB)]...), restB
		default:
			dst, first, second = append(dst, first[:len(first)-len(restA)]...), restA, restB
		}
	}
	return append(append(dst, first...), second...), nil
}
