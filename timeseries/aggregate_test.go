package timeseries

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// naive works an aggregation out of all events of a group at once.
func naive(a *Aggregation, events []Event) (float64, bool) {
	slices.SortFunc(events, func(x, y Event) int { return PlaceOf(&y).Compare(PlaceOf(&x)) }) // oldest first
	var numbers []float64
	sum := new(big.Float).SetPrec(2000)
	distinct := make(map[string]bool)
	n := 0
	for i := range events {
		v := events[i].Item(a.Key)
		if string(a.Key) == SeriesKey {
			v = &Value{Kind: String, Text: events[i].Series}
		}
		if len(a.Key) == 0 {
			n++
			continue
		}
		if v == nil {
			continue
		}
		n++
		switch v.Kind {
		case Int:
			numbers = append(numbers, float64(v.Int))
			sum.Add(sum, new(big.Float).SetInt64(v.Int))
			distinct[new(big.Float).SetInt64(v.Int).Text('g', 40)] = true
		case Double:
			numbers = append(numbers, v.Double)
			sum.Add(sum, big.NewFloat(v.Double))
			distinct[new(big.Float).Add(new(big.Float), big.NewFloat(v.Double)).Text('g', 40)] = true // 0 and -0 are one
		case String, Bytes:
			distinct[fmt.Sprintf("text %d %s", v.Kind, v.Text)] = true
		}
	}
	switch a.Op {
	case Count:
		return float64(n), true
	case Distinct:
		return float64(len(distinct)), true
	case Sum, Avg, Min, Max, First, Last, Quantile:
	}
	if len(numbers) == 0 {
		return 0, false
	}
	total, _ := sum.Float64()
	sorted := slices.Sorted(slices.Values(numbers))
	switch a.Op {
	case Sum:
		return total, true
	case Avg:
		return total / float64(len(numbers)), true
	case Min:
		return sorted[0], true
	case Max:
		return sorted[len(sorted)-1], true
	case First:
		return numbers[0], true
	case Last:
		return numbers[len(numbers)-1], true
	case Quantile:
		for i, x := range sorted { // the least that the share is not above
			if float64(i+1) >= a.Q*float64(len(sorted)) {
				return x, true
			}
		}
	case Count, Distinct:
	}
	return 0, false
}

func anyValue(t *rapid.T) Value {
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return Value{Kind: Int, Int: rapid.SampledFrom([]int64{0, 1, -1, 2, 10, math.MaxInt64, math.MinInt64, 1 << 53, 1<<53 + 1}).Draw(t, "int")}
	case 1:
		return Value{Kind: Double, Double: rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, 0.1, -0.1, 1e16, -1e16, 1e-300}).Draw(t, "double")}
	case 2:
		return Value{Kind: String, Text: []byte(rapid.SampledFrom([]string{"", "1", "x"}).Draw(t, "string"))}
	}
	return Value{Kind: Bytes, Text: []byte(rapid.SampledFrom([]string{"", "1", "x"}).Draw(t, "bytes"))}
}

// TestGroupsAreWhatAPassOverAllEventsGives, in whatever parts the events come.
func TestGroupsAreWhatAPassOverAllEventsGives(t *testing.T) {
	t.Parallel()
	zone := zoneOf(t, "America/New_York")
	rapid.Check(t, func(t *rapid.T) {
		spec := &GroupSpec{Limit: 1000}
		for range rapid.IntRange(1, 4).Draw(t, "aggregations") {
			a := Aggregation{Op: AggregateOp(rapid.IntRange(1, 9).Draw(t, "op")), Key: []byte(rapid.SampledFrom([]string{"a", "b", SeriesKey}).Draw(t, "key"))}
			if a.Op == Quantile {
				a.Q = rapid.SampledFrom([]float64{0, 0.25, 0.5, 0.99, 1}).Draw(t, "q")
			}
			if a.Op == Count && rapid.Bool().Draw(t, "all") {
				a.Key = nil
			}
			spec.Aggregations = append(spec.Aggregations, a)
		}
		for _, by := range []string{"a", "c", SeriesKey} {
			if rapid.Bool().Draw(t, "by "+by) {
				spec.By = append(spec.By, []byte(by))
			}
		}
		if rapid.Bool().Draw(t, "buckets") {
			spec.Bucket, spec.Zone = 24*time.Hour, zone
		}
		parts := make([]*Groups, rapid.IntRange(1, 3).Draw(t, "parts"))
		for i := range parts {
			parts[i] = NewGroups(spec)
		}
		want := make(map[string][]Event)
		day := (24 * time.Hour).Microseconds()
		for i := range rapid.IntRange(0, 30).Draw(t, "events") {
			e := Event{
				Series: []byte(rapid.SampledFrom([]string{"s", "r"}).Draw(t, "series")), ID: fmt.Append(nil, i),
				Time: 1004227200_000000 + rapid.Int64Range(0, 3).Draw(t, "time")*day/2, // October 28, 2001
			}
			for _, key := range []string{"a", "b", "c"} {
				if rapid.Bool().Draw(t, "has "+key) {
					e.Items = append(e.Items, Item{Key: []byte(key), Value: anyValue(t)})
				}
			}
			key := ""
			for _, by := range spec.By {
				switch v := e.Item(by); {
				case string(by) == SeriesKey:
					key += "/" + string(e.Series)
				case v != nil:
					key += "/" + string(v.AppendText(nil))
				default:
					key += "-"
				}
			}
			if spec.Bucket > 0 {
				y, m, d := time.UnixMicro(e.Time).In(zone).Date()
				key += fmt.Sprint("@", time.Date(y, m, d, 0, 0, 0, 0, zone).UnixMicro())
			}
			want[key] = append(want[key], e)
			if err := parts[rapid.IntRange(0, len(parts)-1).Draw(t, "part")].Add(&e); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range parts[1:] {
			if err := parts[0].Merge(p); err != nil {
				t.Fatal(err)
			}
		}
		all := parts[0].All()
		if len(all) != len(want) || !slices.IsSortedFunc(all, (*Group).Compare) {
			t.Fatalf("%d groups, not %d, or not in order", len(all), len(want))
		}
		for _, g := range all {
			key := ""
			for _, l := range g.Labels {
				if l == nil {
					key += "-"
				} else {
					key += "/" + string(l)
				}
			}
			if spec.Bucket > 0 {
				key += fmt.Sprint("@", g.Bucket)
			}
			for i := range spec.Aggregations {
				got, ok := parts[0].Value(g, i)
				expected, there := naive(&spec.Aggregations[i], want[key])
				if ok != there || math.Abs(got-expected) > 1e-9*max(1, math.Abs(expected)) {
					t.Fatalf("group %q: aggregation %+v is %v %v, not %v %v", key, spec.Aggregations[i], got, ok, expected, there)
				}
				if parts[0].Approximate(i) {
					t.Fatal("an estimate of a few values")
				}
			}
		}
	})
}

// TestEstimates: beyond what is exact, Distinct and Quantile say that they estimate, and
// are as near as they promise, also when parts are merged.
func TestEstimates(t *testing.T) {
	t.Parallel()
	for _, n := range []int{MaxExact, MaxExact + 1, 200_000} {
		for _, split := range []int{1, 2, 3, 50} {
			spec := &GroupSpec{Limit: 1, Aggregations: []Aggregation{{Op: Distinct, Key: []byte("v")}, {Op: Quantile, Key: []byte("v"), Q: 0.9}}}
			parts := make([]*Groups, split)
			for i := range parts {
				parts[i] = NewGroups(spec)
			}
			for i := range n {
				x := (i * 7919) % n // each value once
				e := Event{Items: []Item{{Key: []byte("v"), Value: Value{Kind: Int, Int: int64(x)}}}}
				if err := parts[i%split].Add(&e); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range parts[1:] {
				if err := parts[0].Merge(p); err != nil {
					t.Fatal(err)
				}
			}
			g := parts[0].All()[0]
			for i, c := range []struct{ want, within float64 }{{float64(n), 0.04}, {0.9*float64(n) - 1, 0.01}} {
				got, _ := parts[0].Value(g, i)
				exact := n <= MaxExact
				if parts[0].Approximate(i) == exact {
					t.Errorf("%d values in %d parts: an estimate: %v", n, split, !exact)
				}
				if exact {
					c.within = 0
				}
				if math.Abs(got-c.want) > c.within*float64(n) {
					t.Errorf("%d values in %d parts: aggregation %d is %v, not %v", n, split, i, got, c.want)
				}
			}
			if used := spec.used.Load(); used < 0 || used > 64<<20 {
				t.Errorf("%d values in %d parts take %d bytes", n, split, used)
			}
		}
	}
}

// TestGroupsAreBounded, in number and in memory.
func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	fill := func(g *Groups, from, to int, text []byte) error {
		for i := range to - from {
			e := Event{Series: fmt.Append(nil, from+i), Items: []Item{{Key: []byte("v"), Value: Value{Kind: String, Text: append(fmt.Append(nil, from+i), text...)}}}}
			if err := g.Add(&e); err != nil {
				return err
			}
		}
		return nil
	}
	spec := &GroupSpec{Limit: 10, By: [][]byte{[]byte(SeriesKey)}, Aggregations: []Aggregation{{Op: Count}}}
	one, two := NewGroups(spec), NewGroups(spec)
	if err := cmp.Or(fill(one, 0, 10, nil), fill(two, 5, 11, nil)); err != nil {
		t.Error(err)
	}
	if err := fill(one, 10, 11, nil); !errors.Is(err, ErrTooManyGroups) {
		t.Errorf("11 groups of 10: %v", err)
	}
	if err := one.Merge(two); !errors.Is(err, ErrTooManyGroups) {
		t.Errorf("11 groups of 10, merged: %v", err)
	}
	for _, spec := range []*GroupSpec{
		{Limit: 1 << 20, By: [][]byte{[]byte("v")}, Aggregations: []Aggregation{{Op: Count}}},
		{Limit: 1 << 20, By: [][]byte{[]byte(SeriesKey)}, Aggregations: slices.Repeat([]Aggregation{{Op: Sum, Key: []byte("v")}}, 64)},
	} {
		if err := fill(NewGroups(spec), 0, 1_000_000, make([]byte, 1000)); !errors.Is(err, ErrGroupMemory) {
			t.Errorf("a million groups by %s: %v", spec.By[0], err)
		}
	}
}

// TestFill puts the empty buckets between those that have events.
func TestFill(t *testing.T) {
	t.Parallel()
	hour := time.Hour.Microseconds()
	spec := &GroupSpec{Limit: 100, By: [][]byte{[]byte(SeriesKey)}, Bucket: time.Hour, Zone: time.UTC, Aggregations: []Aggregation{{Op: Count}, {Op: Sum, Key: []byte("v")}, {Op: Max, Key: []byte("v")}}}
	g := NewGroups(spec)
	for _, e := range []Event{{Series: []byte("a"), Time: 2 * hour}, {Series: []byte("b"), Time: 0}, {Series: []byte("b"), Time: 3*hour + 1}} {
		if err := g.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	all, err := g.Fill(g.All(), 1, 4*hour, 8)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for _, x := range all {
		count, _ := g.Value(x, 0)
		sum, summed := g.Value(x, 1)
		_, most := g.Value(x, 2)
		got += fmt.Sprint(string(x.Labels[0]), x.Bucket/hour, "=", count, sum, summed, most, " ")
	}
	if want := "a0=0 0 true false a1=0 0 true false a2=1 0 false false a3=0 0 true false b0=1 0 false false b1=0 0 true false b2=0 0 true false b3=1 0 false false "; got != want {
		t.Errorf("filled:\n%s, not\n%s", got, want)
	}
	if _, err := g.Fill(g.All(), 1, 4*hour, 7); !errors.Is(err, ErrTooManyGroups) {
		t.Errorf("8 groups of 7: %v", err)
	}
	if _, err := g.Fill(g.All(), math.MinInt64/2, math.MaxInt64/2, 1000); !errors.Is(err, ErrTooManyGroups) {
		t.Errorf("buckets without end: %v", err)
	}
}
