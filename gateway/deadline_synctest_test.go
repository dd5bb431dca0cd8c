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

// TestChildrenOfACallContext compares what is made of one, before and after it is
// waited for, with what is made of a context with a timeout.
func TestChildrenOfACallContext(t *testing.T) {
	stop := errors.New("stop")
	type key struct{}
	for _, ends := range []string{"end", "deadline", "parent"} {
		for _, waited := range []bool{false, true} {
			both(t, func(t *testing.T, mk func(context.Context, time.Duration) contextOf) {
				parent, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				c := mk(parent, time.Second)
				defer c.end()
				if waited {
					c.Done()
				}
				value := context.WithValue(c, key{}, 1)
				late := context.WithoutCancel(value)
				child, stopChild := context.WithCancelCause(value)
				defer stopChild(nil)
				longer, stopLonger := context.WithTimeout(child, time.Hour)
				defer stopLonger()
				sooner, stopSooner := context.WithTimeout(value, time.Millisecond)
				defer stopSooner()
				fired, unwanted := false, false
				context.AfterFunc(value, func() { fired = true })
				if !context.AfterFunc(value, func() { unwanted = true })() {
					t.Error("an AfterFunc could not be stopped")
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
				if !errors.Is(sooner.Err(), context.DeadlineExceeded) || c.Err() != nil || child.Err() != nil {
					t.Errorf("at the sooner deadline: %v, the call %v, another child %v", sooner.Err(), c.Err(), child.Err())
				}
				want, cause := context.Canceled, context.Canceled
				switch ends {
				case "end":
					c.end()
				case "deadline":
					time.Sleep(time.Second)
					want, cause = context.DeadlineExceeded, context.DeadlineExceeded
				case "parent":
					cancel(stop)
					cause = stop
				}
				synctest.Wait()
				for name, ctx := range map[string]context.Context{"call": c, "value": value, "child": child, "grandchild": longer} {
					select {
					case <-ctx.Done():
					default:
						t.Errorf("%s, waited %v: the %s is not done", ends, waited, name)
					}
					if !errors.Is(ctx.Err(), want) || !errors.Is(context.Cause(ctx), cause) {
						t.Errorf("%s, waited %v: the %s has %v, cause %v; want %v, %v", ends, waited, name, ctx.Err(), context.Cause(ctx), want, cause)
					}
				}
				if late.Err() != nil || late.Done() != nil || late.Value(key{}) != 1 {
					t.Errorf("%s: a context without cancel ends: %v", ends, late.Err())
				}
				if !fired || unwanted {
					t.Errorf("%s, waited %v: AfterFunc ran %v, the stopped one %v", ends, waited, fired, unwanted)
				}
			})
		}
	}
}

// TestACallContextIsForManyGoroutines has them ask, wait and make children while
// the call ends. All must be told.
func TestACallContextIsForManyGoroutines(t *testing.T) {
	for range 200 {
		c := newCallContext(t.Context(), time.Minute)
		done := make(chan error, 12)
		for i := range cap(done) {
			go func() {
				switch i % 4 {
				case 0:
					<-c.Done()
				case 1:
					for c.Err() == nil {
						runtime.Gosched()
					}
				case 2:
					child, cancel := context.WithCancel(c)
					defer cancel()
					<-child.Done()
				default:
					c.Value("key")
					child, cancel := context.WithTimeout(context.WithValue(c, c, 1), time.Hour)
					defer cancel()
					<-child.Done()
				}
				done <- c.Err()
			}()
		}
		runtime.Gosched()
		c.end()
		for range cap(done) {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
}
