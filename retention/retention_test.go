package retention_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-db/headwater/retention"
)

func TestTrimNeverPassesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	free := retention.Floor{Durable: 100, Window: 100, Parked: retention.Unparked, Retention: 100}
	for name, c := range map[string]struct {
		change func(*retention.Floor)
		start  int64
		to     int64
		by     string
	}{
		"nothing in the way but the store": {func(*retention.Floor) {}, 10, 100, "store"},
		"the store is behind":              {func(f *retention.Floor) { f.Durable = 40 }, 10, 40, "store"},
		"a token window":                   {func(f *retention.Floor) { f.Window = 60 }, 10, 60, "tokens"},
		"a parked record":                  {func(f *retention.Floor) { f.Parked = 30; f.Window = 60 }, 10, 30, "parked"},
		"the retention":                    {func(f *retention.Floor) { f.Retention = 20; f.Parked = 30 }, 10, 20, "retention"},
		"a store that knows nothing":       {func(f *retention.Floor) { f.Durable = -1 }, 10, 10, "store"},
		"never below the start":            {func(f *retention.Floor) { f.Parked = 5 }, 10, 10, "parked"},
	} {
		f := free
		c.change(&f)
		if to, by := f.TrimTo(c.start); to != c.to || by != c.by {
			t.Errorf("%s: trim to %d, blocked by %s; want %d, %s", name, to, by, c.to, c.by)
		}
	}
}

func TestTargetsTakeTurnsAndFailuresDoNotHoldTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := retention.New(retention.Config{Limit: 10, Pause: time.Second, Idle: time.Minute})
		left := 35
		var sick, idle atomic.Int64
		s.Add(retention.Target{Name: "big", Sweep: func(_ context.Context, limit int) (bool, error) {
			if limit != 10 {
				t.Errorf("limit %d, want 10", limit)
			}
			left = max(0, left-limit)
			return left > 0, nil
		}})
		s.Add(retention.Target{Name: "sick", Sweep: func(context.Context, int) (bool, error) {
			sick.Add(1)
			return true, errors.New("store is away")
		}})
		s.Add(retention.Target{Name: "idle", Sweep: func(context.Context, int) (bool, error) {
			idle.Add(1)
			return false, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(3*time.Second + time.Millisecond)
		synctest.Wait()
		if left != 0 || sick.Load() != 4 || idle.Load() != 4 {
			t.Errorf("after four rounds: %d left, %d and %d turns", left, sick.Load(), idle.Load())
		}
		s.Remove("sick")
		time.Sleep(time.Minute)
		synctest.Wait()
		if sick.Load() != 4 || idle.Load() != 5 {
			t.Errorf("after the idle pause: %d and %d turns", sick.Load(), idle.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}
