package gateway

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/namespace"
)

// quota is what limits.write_per_second and limits.bytes_per_second leave a
// namespace in this process: of each its share, which is an equal part for each
// gateway. Safe for concurrent use.
//
// Each of the two is a bucket that holds what one second adds and starts full. A
// call is taken when its bucket holds a mutation (a byte), and leaves as much as it
// takes, below zero if it is larger than what was there: a call of any size is taken
// some time, and those after it wait until the bucket holds something again. So T
// seconds take at most T+1 times the limit and one call more.
type quota struct {
	limited atomic.Bool // one of the two is set

	mu            sync.Mutex // guards what follows
	limits        namespace.Limits
	gateways      int64 // that share the limits; 0 is 1
	writes, bytes bucket
}

// bucket is one limit. The zero value has none.
type bucket struct {
	rate float64 // a second; 0: no limit
	left float64 // at time at; below 0 is owed
	at   time.Time
}

// set puts limits into force. What a limit had left, or was owed, goes over to the
// new one, so that applying a document again gives nobody anything.
func (q *quota) set(now time.Time, l namespace.Limits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = l
	q.share(now)
	q.limited.Store(l.WritePerSecond > 0 || l.BytesPerSecond > 0)
}

func (q *quota) share(now time.Time) {
	n := float64(max(1, q.gateways))
	q.writes.set(now, float64(q.limits.WritePerSecond)/n)
	q.bytes.set(now, float64(q.limits.BytesPerSecond)/n)
}

// take takes a call of count mutations and size bytes. Otherwise it takes nothing,
// names the limit that the call has to wait for, and says how long that is when
// nobody else calls. gateways is how many share the limits.
func (q *quota) take(now time.Time, count, size int, gateways int64) (limit string, wait time.Duration) {
	if !q.limited.Load() {
		return "", 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if gateways != q.gateways {
		q.gateways = gateways
		q.share(now)
	}
	wait, limit = q.writes.wait(now, count), "limits.write_per_second"
	if w := q.bytes.wait(now, size); w > wait {
		wait, limit = w, "limits.bytes_per_second"
	}
	if wait > 0 {
		return limit, wait
	}
	q.writes.left -= float64(count)
	q.bytes.left -= float64(size)
	return "", 0
}

func (b *bucket) set(now time.Time, rate float64) {
	b.fill(now)
	if b.rate == 0 {
		b.left, b.at = most(rate), now
	}
	b.rate, b.left = rate, min(b.left, most(rate))
}

// most is what a bucket holds: what a second adds, and enough for one.
func most(rate float64) float64 {
	if rate == 0 {
		return 0
	}
	return max(1, rate)
}

// fill adds what has come since it was last asked, up to what one second adds.
func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.left, b.at = min(b.left+d.Seconds()*b.rate, most(b.rate)), now
	}
}

// rounding is less than anything that counts: the sums are of floating point.
const rounding = 1e-6

// wait returns after how long a call that takes n is taken, 0 for now. It fills the
// bucket.
func (b *bucket) wait(now time.Time, n int) time.Duration {
	if b.rate == 0 || n == 0 {
		return 0
	}
	b.fill(now)
	if b.left >= 1-rounding {
		return 0
	}
	s := (1 - rounding - b.left) / b.rate
	return time.Duration(math.Ceil(s*1e3)) * time.Millisecond
}
