package benchload

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEveryLatencyIsInTheBucketWhoseUpperBoundIsNextAbove(t *testing.T) {
	t.Parallel()
	last := -1
	for _, ns := range []uint64{0, 1, 63, 64, 127, 128, 129, 255, 256, 1000, 1 << 20, 1<<20 + 1<<13, 1<<40 - 1, 1 << 40, 1<<63 - 1} {
		i := bucketOf(ns)
		if i < last {
			t.Fatalf("%d ns is in bucket %d, below that of a smaller one", ns, i)
		}
		last = i
		if up := upperOf(i); up < ns || float64(up) > float64(ns)*1.016+1 {
			t.Errorf("%d ns is in bucket %d, which ends at %d", ns, i, up)
		}
		if i > 0 && upperOf(i-1) >= ns {
			t.Errorf("%d ns is in bucket %d, but the one below reaches %d", ns, i, upperOf(i-1))
		}
	}
}

func TestQuantilesAreThoseOfTheSortedLatencies(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	var a, b, h Histogram
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	h.Add(&a)
	h.Add(&b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(int(q*float64(len(all))+0.999999), 1)-1]
		if got := h.Quantile(q); got < want || float64(got) > float64(want)*1.016+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Count() != 10_000 || h.Quantile(1) != all[len(all)-1] {
		t.Errorf("count %d, max %v; want 10000 and %v", h.Count(), h.Quantile(1), all[len(all)-1])
	}
	if (&Histogram{}).Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
}
