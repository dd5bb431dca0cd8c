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
