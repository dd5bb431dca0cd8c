package gateway

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// contextOf is what a callContext is compared with.
type contextOf struct {
	context.Context
	end func()
}

// both runs a case with context.WithTimeout, which is the reference, and with a
// callContext.
func both(t *testing.T, f func(t *testing.T, make func(context.Context, time.Duration) contextOf)) {
	for name, mk := range map[string]func(context.Context, time.Duration) contextOf{
		"WithTimeout": func(ctx context.Context, d time.Duration) contextOf {
			c, cancel := context.WithTimeout(ctx, d)
			return contextOf{c, cancel}
		},
		"callContext": func(ctx context.Context, d time.Duration) contextOf {
			c := newCallContext(ctx, d)
			return contextOf{c, c.end}
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, mk) }) })
	}
}

func TestCallContextIsWithTimeout(t *testing.T) {
	stop := errors.New("stop")
	type key struct{}
	for _, waited := range []bool{false, true} {
		both(t, func(t *testing.T, mk func(context.Context, time.Duration) contextOf) {
			check := func(when string, c context.Context, err, cause error) {
				t.Helper()
				if waited {
					select {
					case <-c.Done():
						if err == nil {
							t.Errorf("%s: it is done", when)
						}
					default:
						if err != nil {
							t.Errorf("%s: it is not done", when)
						}
					}
				}
				if !errors.Is(c.Err(), err) || !errors.Is(context.Cause(c), cause) {
					t.Errorf("%s: error %v, cause %v; want %v, %v", when, c.Err(), context.Cause(c), err, cause)
				}
			}
			parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
			defer cancel(nil)
			c := mk(parent, time.Second)
			if d, ok := c.Deadline(); !ok || d != time.Now().Add(time.Second) {
				t.Errorf("deadline %v, %v", d, ok)
			}
			check("at first", c, nil, nil)
			if c.Value(key{}) != "value" {
				t.Error("a value is lost")
			}
			time.Sleep(time.Second)
			synctest.Wait()
			check("at the deadline", c, context.DeadlineExceeded, context.DeadlineExceeded)
			c.end()
			check("ended behind the deadline", c, context.DeadlineExceeded, context.DeadlineExceeded)

			c = mk(parent, time.Second)
			child, stopChild := context.WithTimeout(c, time.Minute)
			defer stopChild()
			check("child", child, nil, nil)
			c.end()
			check("ended", c, context.Canceled, context.Canceled)
			check("child of one that ended", child, context.Canceled, context.Canceled)
			time.Sleep(time.Minute)
			check("ended, and behind the deadline", c, context.Canceled, context.Canceled)

			c = mk(parent, time.Second)
			c.end()
			time.Sleep(time.Minute)
			check("first asked behind the deadline of a call that had ended", c, context.Canceled, context.Canceled)

			sooner, cancelSooner := context.WithTimeout(parent, time.Millisecond)
			defer cancelSooner()
			c = mk(sooner, time.Second)
			if d, _ := c.Deadline(); d != time.Now().Add(time.Millisecond) {
				t.Errorf("deadline %v with a parent's that is sooner", d)
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			check("at the parent's deadline", c, context.DeadlineExceeded, context.DeadlineExceeded)
			c.end()

			c = mk(parent, time.Second)
			check("before the parent ends", c, nil, nil)
			cancel(stop)
			check("with the parent", c, context.Canceled, stop)
			c.end()
			check("ended behind the parent", c, context.Canceled, stop)
		})
	}
}

// TestChildrenOfACallContextNeedNoGoroutine holds what Value is for.
func TestChildrenOfACallContextNeedNoGoroutine(t *testing.T) {
	c := newCallContext(t.Context(), time.Minute)
	defer c.end()
	before := runtime.NumGoroutine()
	for range 100 {
		_, cancel := context.WithCancel(c)
		defer cancel()
	}
	if n := runtime.NumGoroutine() - before; n > 50 {
		t.Errorf("100 children have %d goroutines", n)
	}
}
