package kafkalog

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestClockOfAnotherMachine(t *testing.T) {
	var offset atomic.Int64
	cfg := fakeConfig(newCluster(t))
	cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	b := openBroker(t, cfg)
	l := createLog(t, b, "headwater.kv.clock.1", 2)
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		offset.Store(int64(ahead))
		begin := time.Now()
		if err := b.LookAtClock(testContext(t), l, 1); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		// It is ahead by what a record takes to the log less, or behind by that much less.
		got := b.ClockAhead()
		switch {
		case ahead == 0 && got != 0:
			t.Errorf("a clock that is right is %v ahead", got)
		case ahead > 0 && (got > ahead+clockGrain || got < ahead-took):
			t.Errorf("a clock that is %v ahead is %v ahead after %v", ahead, got, took)
		case ahead < 0 && (got < ahead || got > ahead+took+clockGrain):
			t.Errorf("a clock that is %v ahead is %v ahead after %v", ahead, got, took)
		}
		if now, off := b.Now(), time.Since(begin); now.Before(begin.Add(-clockGrain)) || now.After(begin.Add(2*off+clockGrain)) {
			t.Errorf("with a clock that is %v ahead it is %v, %v after %v", ahead, now, off, begin)
		}
	}
}
