package wal

import (
	"context"
	"errors"
	"time"
)

// Decided is what a store keeps of a token whose call was applied: the hash of
// the request, and the log time of its record in microseconds since 1970.
type Decided interface {
	Request() (h Hash, logTime int64)
}

// Claim is what a token turned out to be in one partition. One of its fields is
// set; none, when another copy of the request is about to be appended and the
// caller did not want to wait for that.
type Claim[E Decided] struct {
	// Own: the request is the first. It has to end this by appending or by Release.
	Own *Reservation
	// First is that of an earlier copy, which this process has appended. It may not
	// be applied yet.
	First *Reservation
	// Known is of an earlier copy that is applied, no longer than a token window ago.
	Known *E
}

// ClaimToken finds out whether a request comes for the first time in a partition,
// and reserves its identity if it does. generated is the time of its token, lookup
// the store's. ErrTokenReused: the token is another request's. unknown says of any other error that an earlier copy
// may have taken place.
func ClaimToken[E Decided](ctx context.Context, s *Stream, p Partition, id TokenID, generated int64, h Hash, window time.Duration, wait bool,
	lookup func(context.Context, Partition, TokenID) (E, bool, error),
) (c Claim[E], unknown bool, err error) {
	for {
		r, owner, err := s.Reserve(ctx, p, id, h)
		if err != nil {
			return Claim[E]{}, !errors.Is(err, ErrTokenReused), err
		}
		if owner {
			r.Time = generated
			c.Own = r
			break
		}
		if !wait && !r.Done() {
			return Claim[E]{}, false, nil
		}
		err = r.Wait(ctx)
		if err == nil {
			return Claim[E]{First: r}, false, nil
		}
		if ctx.Err() != nil {
			return Claim[E]{}, true, err
		}
		// Of unknown outcome: Reserve finds out. Refused: this copy may fare better.
	}
	e, ok, err := lookup(ctx, p, id)
	if err != nil {
		s.Release(c.Own, err)
		return Claim[E]{}, false, err
	}
	if !ok {
		return c, false, nil
	}
	known, logTime := e.Request()
	switch {
	case logTime < s.Progress().LogTime(p)-window.Microseconds():
		return c, false, nil
	case !known.Same(h):
		s.Release(c.Own, ErrTokenReused)
		return Claim[E]{}, false, ErrTokenReused
	}
	// Others that wait for this reservation ask the store themselves.
	s.Release(c.Own, ErrNotAppended)
	return Claim[E]{Known: &e}, false, nil
}
