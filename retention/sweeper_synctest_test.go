package retention_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-db/headwater/retention"
)

// running runs a sweeper in the bubble of a test; stop ends it.
func running(t *testing.T, s *retention.Sweeper) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// counted counts the turns of a target.
func counted(name string, every time.Duration, n *atomic.Int64, f func(ctx context.Context) (bool, error)) retention.Target {
	return retention.Target{Name: name, Every: every, Sweep: func(ctx context.Context, _ int) (bool, error) {
		n.Add(1)
		return f(ctx)
	}}
}

func TestEachTargetHasItsOwnPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := retention.New(retention.Config{Limit: 10, Pause: time.Second, Idle: 10 * time.Second, MaxBackoff: 40 * time.Second, Rate: 1e6})
		var left atomic.Int64
		left.Store(35)
		var sick, idle, slow atomic.Int64
		s.Add(retention.Target{Name: "big", Sweep: func(_ context.Context, limit int) (bool, error) {
			if limit != 10 {
				t.Errorf("limit %d, want 10", limit)
			}
			return left.Add(-int64(limit)) > 0, nil
		}})
		nothing := func(context.Context) (bool, error) { return false, nil }
		s.Add(counted("sick", 0, &sick, func(context.Context) (bool, error) { return true, errors.New("store is away") }))
		s.Add(counted("idle", 0, &idle, nothing))
		stop := running(t, s)
		s.Add(counted("minutely", time.Minute, &slow, nothing)) // while it runs
		time.Sleep(3*time.Second + time.Millisecond)
		synctest.Wait()
		if left.Load() != -5 || sick.Load() != 1 || idle.Load() != 1 || slow.Load() != 1 {
			t.Errorf("after three seconds: %d left, %d, %d and %d turns", left.Load(), sick.Load(), idle.Load(), slow.Load())
		}
		// Again after 10, 30, 70 and 110 s; every 10; every 60.
		time.Sleep(117 * time.Second)
		synctest.Wait()
		if sick.Load() != 5 || idle.Load() != 13 || slow.Load() != 3 {
			t.Errorf("after two minutes: %d, %d and %d turns", sick.Load(), idle.Load(), slow.Load())
		}
		s.Remove("sick")
		time.Sleep(time.Minute)
		synctest.Wait()
		if sick.Load() != 5 || idle.Load() != 19 || slow.Load() != 4 {
			t.Errorf("after three minutes: %d, %d and %d turns", sick.Load(), idle.Load(), slow.Load())
		}
		stop()
		s.Remove("idle")
	})
}

// TestATargetThatHangsHoldsNoOther: most of the targets hang until their turn is
// over, and one that does not even then.
func TestATargetThatHangsHoldsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := retention.New(retention.Config{})
		var hung, deaf, well atomic.Int64
		var cause atomic.Pointer[error]
		for i := range 500 {
			s.Add(counted(fmt.Sprintf("hung %d", i), 0, &hung, func(ctx context.Context) (bool, error) {
				<-ctx.Done()
				err := context.Cause(ctx)
				cause.CompareAndSwap(nil, &err)
				return false, ctx.Err()
			}))
		}
		awake := make(chan struct{})
		s.Add(counted("deaf", 0, &deaf, func(context.Context) (bool, error) {
			<-awake
			return false, nil
		}))
		for i := range 10 {
			s.Add(counted(fmt.Sprintf("well %d", i), 0, &well, func(context.Context) (bool, error) { return false, nil }))
		}
		stop := running(t, s)
		const minute = 60
		time.Sleep(minute*time.Second + time.Millisecond)
		synctest.Wait()
		// Every five seconds, less what 511 first turns take at 200 a second.
		if n := well.Load(); n < 10*(minute/5-1) {
			t.Errorf("10 targets beside those that hang had %d turns in a minute", n)
		}
		if err := *cause.Load(); !errors.Is(err, retention.ErrSlow) {
			t.Errorf("a turn was ended by %v", err)
		}
		// 10 s to hang, pauses of 5, 10, 20: at 0, 15, 35.
		if n := hung.Load(); n != 3*500 {
			t.Errorf("500 targets that hang had %d turns in a minute", n)
		}
		if deaf.Load() != 1 {
			t.Errorf("a turn began before the one before had ended")
		}
		s.Remove("hung 7") // ends its turn
		close(awake)
		stop()
	})
}

// TestTurnsBeginAtARate, however many targets there are and want to go on.
func TestTurnsBeginAtARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := retention.New(retention.Config{Rate: 100, Pause: time.Millisecond})
		var n atomic.Int64
		least := make([]atomic.Int64, 50)
		for i := range least {
			s.Add(counted(fmt.Sprint(i), 0, &n, func(context.Context) (bool, error) {
				least[i].Add(1)
				return true, nil
			}))
		}
		stop := running(t, s)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if got := n.Load(); got < 1000 || got > 1002 {
			t.Errorf("%d turns in ten seconds at 100 a second", got)
		}
		for i := range least {
			if got := least[i].Load(); got < 19 {
				t.Errorf("target %d had %d turns of 20", i, got)
			}
		}
		stop()
	})
}
