package gateway

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/namespace"
)

// limited is a namespace that takes writes, with a clock of its own.
type limited struct {
	*Namespace
	t   *testing.T
	now time.Time
}

func newLimited(t *testing.T, document string) *limited {
	ns := testNamespace(t, document)
	ns.SetReady()
	return &limited{Namespace: ns, t: t, now: time.Now()}
}

// admits counts how many calls of count mutations and size bytes are taken now, up
// to most.
func (l *limited) admits(most, count, size int) int {
	for n := range most {
		if l.admitAt(l.now, count, size) != nil {
			return n
		}
	}
	return most
}

// refused is the hint that a call of count mutations and size bytes is refused with.
func (l *limited) refused(count, size int) time.Duration {
	l.t.Helper()
	err := l.admitAt(l.now, count, size)
	e := apierrors.From(err)
	if e == nil || e.Reason != apierrors.RateLimited || e.Code != codes.ResourceExhausted || e.RetryAfter <= 0 {
		l.t.Fatalf("a call of %d mutations and %d bytes: %v; want it refused with a hint", count, size, err)
	}
	return e.RetryAfter
}

func TestALimitLetsNoMoreThanASecondsWorthThroughAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limits      string
		count, size int
		want        int
	}{
		{"write_per_second: 1", 1, 0, 1},
		{"write_per_second: 20", 1, 0, 20},
		{"write_per_second: 2000", 1, 0, 2000},
		{"bytes_per_second: 1KiB", 1, 1, 1024},
		{"bytes_per_second: 1KiB", 1, 128, 8},
		{"write_per_second: 5, bytes_per_second: 1KiB", 1, 128, 5},
		{"write_per_second: 50, bytes_per_second: 1KiB", 1, 128, 8},
	} {
		l := newLimited(t, "limits: {"+c.limits+"}\n")
		for _, wait := range []time.Duration{0, time.Second, time.Hour} {
			l.now = l.now.Add(wait)
			if got := l.admits(c.want+2000, c.count, c.size); got != c.want {
				t.Errorf("%s, %v later: %d calls of %d bytes at once; want %d", c.limits, wait, got, c.size, c.want)
			}
		}
	}
}

// TestGatewaysShareALimit: three gateways take together what one would, also of a limit below one for each.
func TestGatewaysShareALimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit    string
		atOnce   int // of each gateway
		inMinute int // after that, of all
	}{{"write_per_second: 30", 10, 1800}, {"write_per_second: 2", 1, 120}, {"bytes_per_second: 1KiB", 341, 60 * 1024}} {
		size, count := 0, 1
		if strings.HasPrefix(c.limit, "bytes") {
			size = 1
		}
		all := make([]*limited, 3)
		for i := range all {
			all[i] = newLimited(t, "limits: {"+c.limit+"}\n")
			all[i].Gateways = func() int64 { return 3 }
			if got := all[i].admits(10_000, count, size); got < c.atOnce || got > c.atOnce+1 {
				t.Errorf("%s: %d calls at once, not %d", c.limit, got, c.atOnce)
			}
		}
		taken := 0
		for range 6000 {
			for _, l := range all {
				l.now = l.now.Add(10 * time.Millisecond)
				taken += l.admits(10_000, count, size)
			}
		}
		if taken < c.inMinute-3 || taken > c.inMinute+3 {
			t.Errorf("%s: %d calls in a minute, not %d", c.limit, taken, c.inMinute)
		}
	}
	l := newLimited(t, "limits: {write_per_second: 30}\n")
	gateways := int64(1)
	l.Gateways = func() int64 { return gateways }
	if got := l.admits(100, 1, 0); got != 30 {
		t.Errorf("one gateway takes %d at once", got)
	}
	gateways = 3
	l.now = l.now.Add(time.Second)
	if got := l.admits(100, 1, 0); got != 10 {
		t.Errorf("one of three gateways takes %d in a second", got)
	}
	if e := apierrors.From(l.admitAt(l.now, 1, 0)); e == nil || !strings.Contains(e.Message, "one of 3 parts") {
		t.Errorf("the refusal does not tell of the share: %v", e)
	}
}

func TestACallLargerThanItsLimitIsTakenAndOwed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limits      string
		count, size int
		next        time.Duration // after which a call of one mutation and one byte is taken
	}{
		{"write_per_second: 20", 1001, 0, 49100 * time.Millisecond},
		{"write_per_second: 2000", 5000, 0, 1501 * time.Millisecond},
		{"write_per_second: 1", 10_000, 0, 10_000 * time.Second},
		{"bytes_per_second: 1KiB", 1, 8 << 20, 8191*time.Second + time.Millisecond},
		{"write_per_second: 100, bytes_per_second: 1KiB", 500, 10 << 10, 9001 * time.Millisecond},
	} {
		l := newLimited(t, "limits: {"+c.limits+"}\n")
		if err := l.admitAt(l.now, c.count, c.size); err != nil {
			t.Errorf("%s: a call of %d mutations and %d bytes on a namespace that nobody used: %v", c.limits, c.count, c.size, err)
			continue
		}
		hint := l.refused(1, 1)
		if hint != c.next {
			t.Errorf("%s: the call after one of %d mutations and %d bytes is told %v; want %v", c.limits, c.count, c.size, hint, c.next)
		}
		l.now = l.now.Add(hint - 2*time.Millisecond)
		if again := l.refused(1, 1); again > 2*time.Millisecond {
			t.Errorf("%s: 2 ms before its time the call is told %v", c.limits, again)
		}
		l.now = l.now.Add(2 * time.Millisecond)
		if err := l.admitAt(l.now, c.count, c.size); err != nil {
			t.Errorf("%s: a large call after its hint: %v", c.limits, err)
		}
	}
}

// TestARefusedCallTakesNothing: of what the other limit would have let through.
func TestARefusedCallTakesNothing(t *testing.T) {
	t.Parallel()
	l := newLimited(t, "limits: {write_per_second: 10, bytes_per_second: 1KiB}\n")
	if n := l.admits(1, 1, 4<<10); n != 1 {
		t.Fatal("the first call is not taken")
	}
	for range 100 {
		l.refused(1, 1)
	}
	if n := l.admits(100, 1, 0); n != 9 {
		t.Errorf("%d calls without bytes; want the 9 that are left of 10", n)
	}
}

func TestApplyingADocumentGivesNothingToAnExhaustedLimit(t *testing.T) {
	t.Parallel()
	l := newLimited(t, "limits: {write_per_second: 10}\n")
	apply := func(perSecond int64) {
		c := *l.Config()
		c.Limits.WritePerSecond = perSecond
		l.setConfigAt(l.now, &c)
	}
	if n := l.admits(100, 1, 0); n != 10 {
		t.Fatalf("%d calls at once", n)
	}
	apply(10)
	if got := l.refused(1, 0); got != 100*time.Millisecond {
		t.Errorf("after the same document the hint is %v", got)
	}
	apply(100)
	if got := l.refused(1, 0); got != 10*time.Millisecond {
		t.Errorf("after a higher limit the hint is %v", got)
	}
	l.now = l.now.Add(time.Second)
	apply(3)
	if n := l.admits(100, 1, 0); n != 3 {
		t.Errorf("%d calls at once after the limit was lowered to 3", n)
	}
	apply(0)
	if n := l.admits(100, 1, 0); n != 100 {
		t.Errorf("%d of 100 calls without a limit", n)
	}
	apply(7)
	if n := l.admits(100, 1, 0); n != 7 {
		t.Errorf("%d calls at once under a new limit", n)
	}
}

// TestNoSequenceOfCallsExceedsItsLimit: whatever is asked for, what is taken in any
// span of time is at most what the span and one second add, and one call; and a call
// is taken when its hint says.
func TestNoSequenceOfCallsExceedsItsLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 5000).Draw(t, "rate")
		var q quota
		start := time.Unix(1_700_000_000, 0)
		now := start
		q.set(now, namespace.Limits{WritePerSecond: rate})
		type call struct {
			at time.Time
			n  int
		}
		var taken []call
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			n := rapid.IntRange(1, 10_000).Draw(t, "n")
			limit, wait := q.take(now, n, 0, 1)
			if limit != "" {
				if rapid.Bool().Draw(t, "impatient") {
					now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
					continue
				}
				now = now.Add(wait)
				if limit, wait = q.take(now, n, 0, 1); limit != "" {
					t.Fatalf("a call is told to wait another %v when its hint has passed", wait)
				}
			}
			taken = append(taken, call{now, n})
		}
		for i := range taken {
			sum, largest := 0, 0
			for _, c := range taken[i:] {
				sum, largest = sum+c.n, max(largest, c.n)
				most := float64(rate)*(c.at.Sub(taken[i].at).Seconds()+1) + float64(largest)
				if float64(sum) > most {
					t.Fatalf("%d a second: %d in %v, where %v may be", rate, sum, c.at.Sub(taken[i].at), most)
				}
			}
		}
	})
}
