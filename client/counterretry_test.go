package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// The server hints that a reservation may fare better later, but under this token
// it has been refused: sent again it would get that answer until the deadline.
func TestARefusedReservationIsNotSentAgainUnderItsToken(t *testing.T) {
	s := newMemServer()
	var calls atomic.Int64
	s.after = times(1, errNoAnswer)
	s.before = func(context.Context, string) error {
		if calls.Add(1) > 1 {
			return apierrors.New(apierrors.TooManyReservations, "too many").ForWrite(apierrors.NotApplied, nil)
		}
		return nil
	}
	n := s.start(t, Config{RetryInitial: time.Millisecond}).Counter("ns")
	s.counters.add("c", 1)
	_, err := n.Reserve(t.Context(), "c", 1, time.Minute, CounterWriteOptions{Token: Token{Key: "k"}})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != apierrors.TooManyReservations || !errors.Is(err, ErrOverloaded) || e.Token.Key != "k" || e.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
	// The first attempt, whose answer was lost, had the same decision.
	if ok && e.Outcome != NotApplied {
		t.Errorf("outcome %s", e.Outcome)
	}
	if calls.Load() != 2 {
		t.Errorf("sent %d times, want 2", calls.Load())
	}
}

// halfTaken refuses every request that has an add to "bad", as a server does that
// has a part of it from an earlier attempt: for this add, of unknown outcome.
func halfTaken(s *memServer) (calls *atomic.Int64) {
	calls = new(atomic.Int64)
	s.counters.refuse = func(r *headwaterv1.AddCountsRequest) error {
		calls.Add(1)
		for i, a := range r.GetAdds() {
			if a.GetCounter() == "bad" {
				return apierrors.New(apierrors.TokenReused, "adds[%d]: used", i).With("add", fmt.Sprint(i)).ForWrite(apierrors.Unknown, r.GetToken())
			}
		}
		return nil
	}
	return calls
}

// A request of which a part was taken, and the rest never is because of one add,
// ends: sending it again changes nothing, and sending the others anew could count
// them twice. Only the add at fault is told of the conflict.
func TestARequestThatIsHalfTakenEndsAsUnknown(t *testing.T) {
	s := newMemServer()
	calls := halfTaken(s)
	g := s.gate()
	n := s.start(t, oneAtATime()).Counter("ns")
	first := adding(t.Context(), n, "first", 1, AddOptions{})
	<-g.came
	gone, cancel := context.WithCancel(t.Context())
	left := adding(gone, n, "left", 1, AddOptions{}) // so that places in the request are not those of coming
	queued(t, n, 2)
	good := adding(t.Context(), n, "good", 1, AddOptions{Token: Token{Key: "mine"}})
	queued(t, n, 3)
	bad := adding(t.Context(), n, "bad", 1, AddOptions{Token: Token{Key: "used"}})
	queued(t, n, 4)
	cancel()
	<-left
	close(g.open)
	if a := <-first; a.err != nil {
		t.Error(a.err)
	}
	err := (<-bad).err
	if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrConflict) || e.Outcome != Unknown || e.Token.Key != "used" {
		t.Errorf("the add at fault: %v", err)
	}
	err = (<-good).err
	if e, ok := errors.AsType[*Error](err); !ok || errors.Is(err, ErrConflict) || !errors.Is(err, ErrUnknownOutcome) || e.Code != codes.Unknown || e.Token.Key != "mine" || !strings.Contains(err.Error(), "adds[1]: used") {
		t.Errorf("another add: %v", err)
	}
	if calls.Load() != 2 || n.Stats().Splits != 0 || n.Stats().Retries != 0 {
		t.Errorf("%d requests, %+v", calls.Load(), n.Stats())
	}
	// Under its own token the other is sent again by its caller, and counts.
	if _, err := n.AddWith(t.Context(), "good", 1, AddOptions{Token: Token{Key: "mine"}}); err != nil {
		t.Error(err)
	}
	if sum, adds := s.counters.sum("good"); sum != 1 || adds != 1 {
		t.Errorf("sum %d of %d adds", sum, adds)
	}
}

func TestAddAllThatIsHalfTakenEndsAsUnknown(t *testing.T) {
	s := newMemServer()
	calls := halfTaken(s)
	n := s.start(t, oneAtATime()).Counter("ns")
	_, err := n.AddAll(t.Context(), []CounterAdd{{Counter: "good", Delta: 1}, {Counter: "bad", Delta: 1}}, CounterWriteOptions{Token: Token{Key: "all"}})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Outcome != Unknown || e.Metadata["add"] != "1" || e.Token.Key != "all" || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}
