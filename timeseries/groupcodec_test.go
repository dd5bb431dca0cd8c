package timeseries

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

// TestGroupsGoInParts adds events to groups in one place, and to groups in two places whose parts are
// merged: both give the same.
func TestGroupsGoInParts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := func() *GroupSpec {
			s := &GroupSpec{Limit: 1000, By: [][]byte{[]byte("a"), []byte(SeriesKey)}}
			for op := Count; op <= Quantile; op++ {
				s.Aggregations = append(s.Aggregations, Aggregation{Op: op, Key: []byte("v"), Q: 0.5})
			}
			return s
		}
		whole, here, there := NewGroups(spec()), NewGroups(spec()), NewGroups(spec())
		if rapid.Bool().Draw(t, "buckets") {
			for _, g := range []*Groups{whole, here, there} {
				g.spec.Bucket, g.spec.Zone = time.Hour, time.UTC
				g.buckets = NewBuckets(time.Hour, time.UTC)
			}
		}
		n := rapid.IntRange(0, 60).Draw(t, "events")
		for i := range n {
			e := Event{Series: []byte(rapid.SampledFrom([]string{"", "s", "t"}).Draw(t, "series")), Time: int64(i) * 40 * time.Minute.Microseconds(), ID: fmt.Append(nil, i)}
			e.Items = append(e.Items, Item{[]byte("v"), anyValue(t)})
			if rapid.Bool().Draw(t, "has a") {
				e.Items = append(e.Items, Item{[]byte("a"), anyValue(t)})
			}
			e.SortItems()
			if err := errors.Join(whole.Add(&e), []*Groups{here, there}[i%2].Add(&e)); err != nil {
				t.Fatal(err)
			}
		}
		got := NewGroups(here.spec)
		for _, g := range []*Groups{here, there} {
			if err := g.Parts(got.MergePart); err != nil {
				t.Fatal(err)
			}
		}
		want, all := whole.All(), got.All()
		if len(want) != len(all) {
			t.Fatalf("%d groups, want %d", len(all), len(want))
		}
		for i := range want {
			if want[i].Compare(all[i]) != 0 {
				t.Fatalf("group %d: %q %d, want %q %d", i, all[i].Labels, all[i].Bucket, want[i].Labels, want[i].Bucket)
			}
			for k := range whole.spec.Aggregations {
				w, wok := whole.Value(want[i], k)
				v, ok := got.Value(all[i], k)
				if ok != wok || v != w && !(math.IsNaN(v) && math.IsNaN(w)) && math.Abs(v-w) > 1e-9*math.Abs(w) {
					t.Errorf("group %d, aggregation %d: %v %v, want %v %v", i, k+1, v, ok, w, wok)
				}
			}
		}
	})
}

// TestEstimatesGoInParts sends estimates, and what is merged stays within their errors.
func TestEstimatesGoInParts(t *testing.T) {
	t.Parallel()
	spec := &GroupSpec{Limit: 10, Aggregations: []Aggregation{{Op: Distinct, Key: []byte("v")}, {Op: Quantile, Key: []byte("v"), Q: 0.5}}}
	got := NewGroups(spec)
	const n = 4 * MaxExact
	for part := range 2 {
		g := NewGroups(&GroupSpec{Limit: 10, Aggregations: spec.Aggregations})
		for i := part; i < n; i += 2 {
			if err := g.Add(&Event{Items: []Item{{[]byte("v"), Value{Kind: Int, Int: int64(i)}}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Parts(got.MergePart); err != nil {
			t.Fatal(err)
		}
	}
	group := got.All()[0]
	if v, ok := got.Value(group, 0); !ok || math.Abs(v-n) > 0.03*n || !got.Approximate(0) {
		t.Errorf("%v distinct values of %d", v, n)
	}
	if v, ok := got.Value(group, 1); !ok || math.Abs(v-n/2) > 0.01*n || !got.Approximate(1) {
		t.Errorf("median %v of %d", v, n)
	}
}

func FuzzMergePart(f *testing.F) {
	spec := func() *GroupSpec {
		s := &GroupSpec{Limit: 100, By: [][]byte{[]byte("a")}}
		for op := Count; op <= Quantile; op++ {
			s.Aggregations = append(s.Aggregations, Aggregation{Op: op, Key: []byte("v"), Q: 0.5})
		}
		return s
	}
	g := NewGroups(spec())
	for i := range 20 {
		if err := g.Add(&Event{Series: []byte("s"), Time: int64(i), Items: []Item{{[]byte("a"), Value{Kind: Int, Int: int64(i % 3)}}, {[]byte("v"), Value{Kind: Double, Double: float64(i)}}}}); err != nil {
			f.Fatal(err)
		}
	}
	if err := g.Parts(func(part []byte) error { f.Add(append([]byte(nil), part...)); return nil }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, part []byte) {
		err := NewGroups(spec()).MergePart(part)
		if err != nil && !errors.Is(err, wal.ErrMalformed) && !errors.Is(err, ErrTooManyGroups) && !errors.Is(err, ErrGroupMemory) {
			t.Errorf("%v", err)
		}
	})
}
