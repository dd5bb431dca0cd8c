package benchload

import (
	"math/bits"
	"time"
)

// subBits is the resolution of a Histogram: 2^subBits buckets for each doubling,
// which is an error of at most 1.6 %.
const subBits = 6

// Histogram counts latencies in fixed space. The zero value is empty. It is used
// by one goroutine; Add merges those of several.
type Histogram struct {
	buckets [64 << subBits]int64
	count   int64
	max     time.Duration
}

// bucketOf is exact below 2^subBits nanoseconds and keeps the first subBits+1
// bits above.
func bucketOf(ns uint64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	shift := bits.Len64(ns) - subBits - 1
	return shift<<subBits + int(ns>>shift)
}

// upperOf is the largest latency of a bucket.
func upperOf(i int) uint64 {
	if i < 1<<(subBits+1) {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return (uint64(i&(1<<subBits-1)|1<<subBits)+1)<<shift - 1
}

// Record counts one latency.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(uint64(d))]++
	h.count++
	h.max = max(h.max, d)
}

// Add counts what o has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

// Count is how many latencies were recorded.
func (h *Histogram) Count() int64 { return h.count }

// Quantile is the latency that the share q of all does not exceed, rounded up by
// at most 1.6 %; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	want := max(int64(q*float64(h.count)+0.999999), 1)
	for i, n := range h.buckets {
		if want -= n; want <= 0 {
			return min(time.Duration(upperOf(i)), h.max)
		}
	}
	return h.max
}
