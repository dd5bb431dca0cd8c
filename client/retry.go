package client

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// effect is what sending a request again can do.
type effect int

const (
	// reads can be sent again freely.
	reads effect = iota
	// writesOnce carry a token: sent again, they have one effect.
	writesOnce
	// writesBare carry none: sent again only after an attempt that did nothing.
	writesBare
)

// attempts is the state of one call over its attempts. Not safe for concurrent
// use.
type attempts struct {
	c      *Client
	effect effect
	token  Token
	end    time.Time // when the call gives up
	wait   *backoff.ExponentialBackOff
	last   *Error
	// maybe: an earlier attempt may have been applied.
	maybe bool
}

func (c *Client) attempts(ctx context.Context, kind effect, token Token) attempts {
	a := attempts{c: c, effect: kind, token: token}
	if end, ok := ctx.Deadline(); ok {
		a.end = end
	} else {
		a.end = time.Now().Add(c.cfg.Timeout)
	}
	return a
}

// next takes the failure of an attempt. It returns nil, after the wait that is
// due, when the call is to be tried again, else the error to return.
func (a *attempts) next(ctx context.Context, e *Error) error {
	unknown := e.Outcome == Unknown
	if ctx.Err() == nil && a.mayRetry(e) {
		a.maybe = a.maybe || unknown
		a.last = e
		if a.wait == nil {
			a.wait = backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(a.c.cfg.RetryInitial), backoff.WithMaxInterval(a.c.cfg.RetryMax),
				backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
		}
		d := max(a.wait.NextBackOff(), e.RetryAfter)
		if time.Until(a.end) > d {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-ctx.Done():
			case <-a.c.run.Done():
				e = closedError(NotApplied)
			}
		}
	}
	if ctx.Err() != nil {
		o := e.Outcome
		e = ended(ctx, a.last)
		e.Outcome = o
	}
	return a.fail(e)
}

func (a *attempts) mayRetry(e *Error) bool {
	if a.c.run.Err() != nil || !e.retryable() {
		return false
	}
	if a.effect == writesBare && e.Outcome != NotApplied {
		return false
	}
	return !e.decides() // a token gets its decision again
}

// fail completes the error that a call ends with.
func (a *attempts) fail(e *Error) *Error {
	if a.effect == reads {
		e.Outcome = ""
		return e
	}
	e.Token = a.token
	if a.maybe && !e.decides() {
		e.Outcome = Unknown
	}
	if e.Reason != "" || e.CurrentVersion() != "" {
		a.c.clock.observeVersion(e.CurrentVersion())
	}
	return e
}

// attemptContext bounds one attempt.
func (a *attempts) attemptContext(ctx context.Context) (context.Context, context.CancelFunc) {
	left := time.Until(a.end)
	if left > a.c.cfg.AttemptTimeout {
		left = a.c.cfg.AttemptTimeout
	} else if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, left)
}

// call does a unary call until it succeeds or is not to be tried again.
func (c *Client) call(ctx context.Context, kind effect, token Token, f func(context.Context, ...grpc.CallOption) error) error {
	a := c.attempts(ctx, kind, token)
	for {
		e := a.once(ctx, f)
		if e == nil {
			return nil
		}
		if err := a.next(ctx, e); err != nil {
			return err
		}
	}
}

// once does one attempt.
func (a *attempts) once(ctx context.Context, f func(context.Context, ...grpc.CallOption) error) *Error {
	if ctx.Err() != nil { // before anything was sent
		e := ended(ctx, a.last)
		if a.effect != reads {
			e.Outcome = NotApplied
		}
		return e
	}
	actx, cancel := a.attemptContext(ctx)
	defer cancel()
	var p peer.Peer
	err := f(actx, grpc.Peer(&p))
	if err == nil {
		return nil
	}
	return a.c.failure(err, a.effect != reads, p.Addr != nil)
}

// failure is the error of one attempt. sent is false when no connection took the
// request.
func (c *Client) failure(err error, write, sent bool) *Error {
	if e, ok := errors.AsType[*Error](err); ok { // found on this side, in what the server sent
		return e
	}
	e := fromRPC(err, write, sent)
	if e.Reason == "" && c.run.Err() != nil {
		return closedError(e.Outcome)
	}
	if e.Reason == "" && e.Code == codes.Unavailable && !sent {
		e = c.unreachable(e)
		if c.cfg.FailFast {
			e.noRetry = true
		}
	}
	return e
}
