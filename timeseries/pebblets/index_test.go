package pebblets

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/timeseries"
)

// TestOrderedValues: bytes compare as values do.
func TestOrderedValues(t *testing.T) {
	t.Parallel()
	var all []timeseries.Value
	for _, i := range []int64{0, 1, -1, 7, math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, math.MinInt64 + 1, 1 << 53, 1<<53 + 1, 1<<53 - 1, -(1 << 53) - 1} {
		all = append(all, timeseries.Value{Kind: timeseries.Int, Int: i})
	}
	for _, d := range []float64{0, math.Copysign(0, -1), 0.5, -0.5, 1, 7, 1 << 63, -(1 << 63), 1 << 53, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64} {
		all = append(all, timeseries.Value{Kind: timeseries.Double, Double: d})
	}
	for _, kind := range []timeseries.ValueKind{timeseries.String, timeseries.Bytes} {
		for _, s := range []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "a", "a\x00", "ab", "b", "\xff", "\xff\xff"} {
			all = append(all, timeseries.Value{Kind: kind, Text: []byte(s)})
		}
	}
	for i := range all {
		for j := range all {
			want, comparable := all[i].Compare(&all[j])
			if !comparable {
				continue
			}
			if got := slices.Compare(appendOrdered(nil, &all[i]), appendOrdered(nil, &all[j])); got != want {
				t.Errorf("%+v and %+v compare %d as bytes, and %d as values", all[i], all[j], got, want)
			}
		}
	}
}

// TestRowsOfTheIndexComeApart whatever the names hold.
func TestRowsOfTheIndexComeApart(t *testing.T) {
	t.Parallel()
	for _, v := range []timeseries.Value{{Kind: timeseries.Int, Int: 256}, {Kind: timeseries.String, Text: []byte("a\x00\x01b\x00")}, {Kind: timeseries.Bytes}} {
		for _, series := range []string{"s", "\x00", "a\x00\x01\x00\xff", "\xff"} {
			for _, id := range []string{"1", "\x00\x01", "\x00"} {
				k := appendIndexRow(nil, nil, &v, -5, []byte(series), []byte(id))
				value, at, s, i, ok := splitIndexRow(k)
				if !ok || string(value) != string(appendOrdered(nil, &v)) || at != -5 || string(s) != series || string(i) != id {
					t.Errorf("%+v %q %q comes apart as %x %d %q %q %v", v, series, id, value, at, s, i, ok)
				}
			}
		}
	}
}

// TestTheIndexForgetsWhatWasDeleted: the rows of deleted events go in sweeps of any size, and
// the others stay.
func TestTheIndexForgetsWhatWasDeleted(t *testing.T) {
	t.Parallel()
	s := open(t, small(vfs.NewMem(), 1))
	defer func() { _ = s.Close() }()
	x := timeseries.Slice{End: 1000, EventBuckets: 1, Index: timeseries.NewIndexKeys([]string{"k"})}
	b := s.Begin(0)
	b.AddSlice(x)
	for i := range int64(100) {
		b.AddEvent(timeseries.Order{}, x, fmt.Append(nil, "s", i%4), i, []byte("1"), timeseries.AppendItems(nil, []timeseries.Item{{Key: []byte("k"), Value: valueNumber(i)}}))
	}
	st := consumers.State{}
	if err := b.Commit(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	b = s.Begin(0)
	b.DeleteSeries(timeseries.Order{}, x, []byte("s1"))
	b.DeleteSeries(timeseries.Order{}, x, []byte("s2"))
	if err := b.Commit(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	count := func(table byte) (n int) {
		if err := s.DB.Each(table, 0, func(*pebble.Iterator) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r := timeseries.SweepRequest{Limit: 7, Drop: func(timeseries.Slice) bool { return false }}
	for sweeps := 0; count(tableStale) > 0; sweeps++ {
		if sweeps > 100 {
			t.Fatal("the index is never swept")
		}
		res, err := s.Sweep(t.Context(), &r)
		if err != nil {
			t.Fatal(err)
		}
		r.Cursor = res.Cursor
	}
	if n := count(tableIndex); n != 50 {
		t.Errorf("the index has %d rows, not 50", n)
	}
	r.Drop = func(timeseries.Slice) bool { return true }
	if _, err := s.Sweep(t.Context(), &r); err != nil || count(tableIndex) != 0 {
		t.Errorf("the index of a slice that was dropped has %d rows: %v", count(tableIndex), err)
	}
}

// FuzzSplitIndexRow: no key breaks it, and what comes apart goes together again.
func FuzzSplitIndexRow(f *testing.F) {
	v := timeseries.Value{Kind: timeseries.String, Text: []byte("a\x00b")}
	f.Add(appendIndexRow(nil, nil, &v, 7, []byte("s"), []byte("1")))
	f.Fuzz(func(t *testing.T, k []byte) {
		value, at, series, id, ok := splitIndexRow(k)
		if !ok {
			return
		}
		again := appendText(binary.BigEndian.AppendUint64(slices.Clone(value), newestFirst(at)), series, len(series))
		if again = append(again, id...); len(again) > len(k) {
			t.Fatalf("%x goes together as %x", k, again)
		}
	})
}
