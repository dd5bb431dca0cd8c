package wal_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-db/headwater/wal"
)

func TestWatermarkWakesWhoWaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := wal.NewWatermark(wal.NoOffset)
		woken := make(chan wal.Offset, 3)
		for _, o := range []wal.Offset{2, 0, 1} {
			go func() {
				if err := w.Wait(t.Context(), o); err != nil {
					t.Errorf("wait for %d: %v", o, err)
				}
				woken <- o
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		late := make(chan error, 1)
		go func() { late <- w.Wait(ctx, 9) }()
		synctest.Wait()
		w.Advance(1)
		synctest.Wait()
		if len(woken) != 2 {
			t.Fatalf("%d woken at 1, want 2", len(woken))
		}
		w.Advance(0) // lower changes nothing
		if w.Applied() != 1 {
			t.Errorf("the watermark fell to %d", w.Applied())
		}
		w.Advance(2)
		synctest.Wait()
		if len(woken) != 3 {
			t.Errorf("%d woken at 2, want 3", len(woken))
		}
		time.Sleep(2 * time.Minute)
		if err := <-late; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("9 was never reached: %v", err)
		}
	})
}

func TestAStopWakesWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := wal.NewProgress(1)
		got := make(chan error, 1)
		go func() { got <- g.Wait(t.Context(), 0, 5) }()
		synctest.Wait()
		g.Stop(0, wal.ErrCorrupt)
		var behind *wal.BehindError
		if err := <-got; !errors.Is(err, wal.ErrCorrupt) || !errors.As(err, &behind) {
			t.Errorf("got %v, want the reason", err)
		}
	})
}
