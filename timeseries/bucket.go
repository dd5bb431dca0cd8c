package timeseries

import (
	"math"
	"time"
)

// Buckets cuts time into spans of one length on the clock of a time zone, beginning at
// 1970-01-01T00:00 of that clock: buckets of 24 h are the days of the zone, those on which
// the clock is changed too. Where the clock goes back, an hour that it shows twice is two
// buckets of an hour, and a bucket that began before it goes on. Where the clock leaps
// over the beginning of a bucket, the bucket begins with the leap. Not for use by several
// goroutines.
type Buckets struct {
	length int64 // microseconds
	zone   *time.Location

	// The offset of the zone is the same in start <= t < end.
	start, end int64
	offset     int64
	// head is where the bucket begins that the first moment of that span is in.
	head int64
}

// NewBuckets cuts time into spans of length, at least 1 microsecond.
func NewBuckets(length time.Duration, zone *time.Location) *Buckets {
	return &Buckets{length: length.Microseconds(), zone: zone}
}

// Of is where the bucket that holds t begins, microseconds since 1970.
func (b *Buckets) Of(t int64) int64 {
	if b.start == b.end || t < b.start || t >= b.end {
		b.move(t)
	}
	begin := floorDiv(t+b.offset, b.length)*b.length - b.offset
	if begin < b.start {
		return b.head
	}
	return begin
}

// Next is where the bucket behind the one that begins at begin begins.
func (b *Buckets) Next(begin int64) int64 {
	b.Of(begin)
	shown := begin + b.offset
	t := begin + b.length
	for {
		next := b.Of(t)
		if next > begin {
			return next
		}
		// The clock has gone back since: t is when it shows the end.
		t = max(t+1, shown+b.length-b.offset)
	}
}

// move looks up the span of one offset that t is in.
func (b *Buckets) move(t int64) {
	b.start, b.end, b.offset = b.span(t)
	b.head = b.start
	if b.start == math.MinInt64 {
		return
	}
	// What the clock shows at the beginning of the bucket that b.start is in; the latest
	// moment up to b.start at which it shows that, or a leap over it.
	shown := floorDiv(b.start+b.offset, b.length) * b.length
	later := b.start
	if shown-b.offset >= later {
		return
	}
	for later != math.MinInt64 {
		start, _, offset := b.span(later - 1)
		begin := shown - offset
		if begin >= later { // the clock leapt over it
			b.head = later
			return
		}
		if begin >= start {
			b.head = begin
			return
		}
		later = start
	}
}

// span is the span of one offset of the zone that t is in.
func (b *Buckets) span(t int64) (start, end, offset int64) {
	at := time.UnixMicro(t).In(b.zone)
	_, seconds := at.Zone()
	from, to := at.ZoneBounds()
	start, end = math.MinInt64, math.MaxInt64
	if !from.IsZero() {
		start = from.UnixMicro()
	}
	if !to.IsZero() {
		end = to.UnixMicro()
	}
	return start, end, int64(seconds) * 1_000_000
}
