package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestOtherWorkMakesRoom: while a partition is being taken over, and not for ever.
func TestOtherWorkMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var k taking
		waits := func(ctx context.Context) time.Duration {
			begin := time.Now()
			k.yield(ctx)
			return time.Since(begin)
		}
		if d := waits(t.Context()); d != 0 {
			t.Errorf("nothing is taken over, and it waits %v", d)
		}
		first, second := k.begin(), k.begin()
		if d := waits(t.Context()); d != yieldMost {
			t.Errorf("it waits %v, not %v", d, yieldMost)
		}
		time.AfterFunc(time.Second, first)
		time.AfterFunc(2*time.Second, second)
		if d := waits(t.Context()); d != 2*time.Second {
			t.Errorf("it waits %v for two that are over after 1 and 2 s", d)
		}
		third := k.begin()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if d := waits(ctx); d != 3*time.Second {
			t.Errorf("it waits %v, which its context ends after 3 s", d)
		}
		third()
		if d := waits(t.Context()); d != 0 {
			t.Errorf("all is taken over, and it waits %v", d)
		}
	})
}
