package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
)

// roomLocked reports whether one more add may be queued. One always may when
// there is none.
func (b *adder) roomLocked(size int) bool {
	return b.adds == 0 || b.adds < b.c.cfg.AddQueue && b.bytes+size <= b.c.cfg.AddQueueBytes
}

// waitLocked waits until there is room for an add, first come, first served, and
// counts it in. It returns with b.mu held when it succeeds, and without it when
// it fails.
func (b *adder) waitLocked(ctx context.Context, size int) *Error {
	w := &addWaiter{size: size, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.stats.Blocked++
	queued, bytes := b.adds, b.bytes
	b.mu.Unlock()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.c.cfg.Timeout)
		defer cancel()
	}
	var ended bool
	select {
	case <-w.ready:
	case <-ctx.Done():
		ended = true
	}
	b.mu.Lock()
	switch {
	case w.in && !ended && !b.closed:
		return nil
	case w.in:
		b.releaseLocked(1, size)
	default:
		b.waiters = slices.DeleteFunc(b.waiters, func(o *addWaiter) bool { return o == w })
		b.admitLocked() // a smaller one behind it may fit
	}
	closed := b.closed
	b.mu.Unlock()
	if closed && !ended {
		return closedError(NotApplied)
	}
	e := &Error{Code: codes.Canceled, Outcome: NotApplied, cause: errors.Join(ErrQueueFull, context.Cause(ctx))}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		e.Code = codes.DeadlineExceeded
	}
	e.Message = fmt.Sprintf("the call ended while %d adds of %d bytes waited before it, as many as this client queues; add less at once, or raise Config.AddQueue", queued, bytes)
	return e
}

// releaseLocked takes answered adds out of the count, and lets in those that
// wait.
func (b *adder) releaseLocked(adds, bytes int) {
	b.adds -= adds
	b.bytes -= bytes
	b.admitLocked()
}

func (b *adder) admitLocked() {
	n := 0
	for n < len(b.waiters) && b.roomLocked(b.waiters[n].size) {
		w := b.waiters[n]
		b.adds, b.bytes = b.adds+1, b.bytes+w.size
		w.in = true
		close(w.ready)
		n++
	}
	b.waiters = slices.Delete(b.waiters, 0, n)
}

// close refuses new adds, and those that wait for room. What is queued is sent.
func (b *adder) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, w := range b.waiters {
		close(w.ready)
	}
	b.waiters = nil
}

// beginAdding counts a sender of adds, unless the client is closed.
func (c *Client) beginAdding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.adding.Add(1)
	return true
}

// flushAdds refuses new adds and waits until those that were queued are
// answered, which their requests bound by Config.Timeout.
func (c *Client) flushAdds() {
	c.adders.Range(func(_, b any) bool {
		b.(*adder).close()
		return true
	})
	c.adding.Wait()
}
