package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Bounds keep a value within limits.
type Bounds struct {
	// Floor: an add that lowers the value must not lower it below. Ceiling: one
	// that raises it must not raise it above. nil: no such bound.
	Floor, Ceiling *int64
	// Saturate adds as much as the bound allows; else an add that would pass it
	// adds nothing.
	Saturate bool
}

// AddAndGetOptions are about one AddAndGet.
type AddAndGetOptions struct {
	EventTime time.Time
	TTL       time.Duration
	Token     Token
	Bounds    Bounds
}

// Violation says which bound an add met.
type Violation string

// The violations.
const (
	NoViolation Violation = "NONE"
	AtFloor     Violation = "FLOOR"
	AtCeiling   Violation = "CEILING"
)

// Added is the answer of AddAndGet.
type Added struct {
	WriteResult
	// Count is right after this add, exact.
	Count Count
	// Applied is what was added: delta, 0 when a bound rejected it, or a part of it
	// when it was saturated.
	Applied   int64
	Violation Violation
}

// AddAndGet adds to a counter and returns its value right after. An add that a
// bound rejects is no error: Added says so. If the token was known (Duplicate is
// Repeated) all of it is the answer to the first request.
func (n *Counter) AddAndGet(ctx context.Context, counter string, delta int64, o AddAndGetOptions) (Added, error) {
	add := CounterAdd{Counter: counter, Delta: delta, EventTime: o.EventTime, TTL: o.TTL, Token: o.Token}
	if err := add.check(); err != nil {
		return Added{}, err
	}
	token := n.c.complete(o.Token)
	req := &headwaterv1.AddAndGetCountRequest{
		Namespace: n.namespace, Counter: counter, Delta: delta, EventTime: timeMessage(o.EventTime), Ttl: ttlMessage(o.TTL), Token: token.message(),
	}
	if b := &o.Bounds; b.Floor != nil || b.Ceiling != nil {
		req.Bounds = &headwaterv1.Bounds{Floor: b.Floor, Ceiling: b.Ceiling, OnViolation: headwaterv1.Bounds_REJECT}
		if b.Saturate {
			req.Bounds.OnViolation = headwaterv1.Bounds_SATURATE
		}
	}
	var res *headwaterv1.AddAndGetCountResponse
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.counters.AddAndGetCount(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Added{}, err
	}
	a := Added{
		WriteResult: n.c.result(n.namespace, res.GetResult(), token, nil), Count: countOf(res.GetCount()),
		Applied: res.GetAppliedDelta(), Violation: Violation(res.GetViolation().String()),
	}
	if res.GetDuplicate() {
		a.Duplicate = Repeated
	}
	return a, nil
}

// Reservation is a part of a counter that is held until it is settled or
// cancelled, or its lease ends.
type Reservation struct {
	ns *Counter
	// ID names it, also to other clients; see Counter.Reservation.
	ID string
	// The rest is known only to the one who reserved.
	WriteResult
	// Count is right after the reservation.
	Count     Count
	ExpiresAt time.Time
}

// Reserve holds amount of what is available (value less held) until the lease
// ends: ErrInsufficient if there is less. amount is above zero, the lease 1 ms to
// 30 days.
func (n *Counter) Reserve(ctx context.Context, counter string, amount int64, lease time.Duration, o CounterWriteOptions) (*Reservation, error) {
	if err := checkCounter(counter); err != nil {
		return nil, err
	}
	if err := o.Token.check(); err != nil {
		return nil, err
	}
	token := n.c.complete(o.Token)
	req := &headwaterv1.ReserveCountRequest{Namespace: n.namespace, Counter: counter, Amount: amount, Lease: durationpb.New(lease), Token: token.message()}
	var res *headwaterv1.ReserveCountResponse
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.counters.ReserveCount(ctx, req, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Reservation{
		ns: n, ID: res.GetReservationId(), WriteResult: n.c.result(n.namespace, res.GetResult(), token, nil),
		Count: countOf(res.GetCount()), ExpiresAt: timeOf(res.GetExpiresAt()),
	}, nil
}

// Reservation is a handle on one that was made elsewhere, by its ID. It does not
// ask the server whether there is one.
func (n *Counter) Reservation(id string) *Reservation { return &Reservation{ns: n, ID: id} }

// Settle takes the whole reserved amount from the value and frees the hold. After
// the lease has ended it is refused.
func (r *Reservation) Settle(ctx context.Context, o CounterWriteOptions) (Count, error) {
	return r.settle(ctx, nil, o)
}

// SettleAmount takes a part of the reserved amount, 0 to all of it; the rest is
// free again.
func (r *Reservation) SettleAmount(ctx context.Context, amount int64, o CounterWriteOptions) (Count, error) {
	return r.settle(ctx, &amount, o)
}

func (r *Reservation) settle(ctx context.Context, amount *int64, o CounterWriteOptions) (Count, error) {
	token, err := r.begin(&o)
	if err != nil {
		return Count{}, err
	}
	req := &headwaterv1.SettleReservationRequest{Namespace: r.ns.namespace, ReservationId: r.ID, Amount: amount, Token: token.message()}
	var res *headwaterv1.SettleReservationResponse
	err = r.ns.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = r.ns.c.counters.SettleReservation(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Count{}, err
	}
	r.ns.c.wrote(r.ns.namespace, res.GetResult().GetPosition())
	return countOf(res.GetCount()), nil
}

// Cancel frees the hold. Cancelling again, also after the lease has ended,
// changes nothing and succeeds; after a settlement it is refused.
func (r *Reservation) Cancel(ctx context.Context, o CounterWriteOptions) (Count, error) {
	token, err := r.begin(&o)
	if err != nil {
		return Count{}, err
	}
	req := &headwaterv1.CancelReservationRequest{Namespace: r.ns.namespace, ReservationId: r.ID, Token: token.message()}
	var res *headwaterv1.CancelReservationResponse
	err = r.ns.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = r.ns.c.counters.CancelReservation(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Count{}, err
	}
	r.ns.c.wrote(r.ns.namespace, res.GetResult().GetPosition())
	return countOf(res.GetCount()), nil
}

func (r *Reservation) begin(o *CounterWriteOptions) (Token, error) {
	if r.ID == "" {
		return Token{}, invalid(apierrors.BadReservationID, "the reservation has no id; use the one that Reserve gave")
	}
	if err := o.Token.check(); err != nil {
		return Token{}, err
	}
	return r.ns.c.complete(o.Token), nil
}
