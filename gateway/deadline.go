package gateway

import (
	"context"
	"sync"
	"time"
)

// callContext ends a call at its deadline, as context.WithTimeout does, but has no
// timer until somebody waits for it: a read that is answered at once needs none,
// and making and stopping one was a twentieth of it. Safe for concurrent use.
type callContext struct {
	context.Context // the caller's

	deadline time.Time

	mu     sync.Mutex
	over   bool            // the call is; guarded by mu
	timed  context.Context // set when somebody has waited; guarded by mu
	cancel context.CancelFunc
}

// newCallContext returns a context that ends with parent, after limit, or with
// the call of end, which must be made.
func newCallContext(parent context.Context, limit time.Duration) *callContext {
	c := &callContext{Context: parent, deadline: time.Now().Add(limit)}
	if d, ok := parent.Deadline(); ok && d.Before(c.deadline) {
		c.deadline = d
	}
	return c
}

func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// withTimer returns the context that has the timer.
func (c *callContext) withTimer() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil && c.over {
		c.timed, c.cancel = context.WithCancel(c.Context)
		c.cancel()
	}
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(c.Context, c.deadline)
	}
	return c.timed
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} { return c.withTimer().Done() }

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	timed, over := c.timed, c.over
	c.mu.Unlock()
	if timed == nil && !over && c.Context.Err() == nil && time.Now().Before(c.deadline) {
		return nil
	}
	return c.withTimer().Err() // which then says so for good
}

// Value implements context.Context. Contexts that are made of this one find the
// one with the timer by it, and need no goroutine to follow it.
func (c *callContext) Value(key any) any {
	c.mu.Lock()
	timed := c.timed
	c.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return c.Context.Value(key)
}
