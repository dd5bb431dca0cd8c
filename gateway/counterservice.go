package gateway

import (
	"context"
	"crypto/sha256"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
)

// Counter is the CounterService.
type Counter struct {
	headwaterv1.UnimplementedCounterServiceServer
	dir   *Directory
	pages *PageTokens
}

// NewCounter returns the service over dir.
func NewCounter(dir *Directory, pages *PageTokens) *Counter {
	return &Counter{dir: dir, pages: pages}
}

// AddCount adds to one counter.
func (s *Counter) AddCount(ctx context.Context, req *headwaterv1.AddCountRequest) (*headwaterv1.AddCountResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	var a counter.Add
	if err := parseAdd(&a, req.GetCounter(), req.GetDelta(), req.GetEventTime(), req.GetTtl(), nil); err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	tok, err := parseToken(req.GetToken())
	if err == nil {
		err = ns.admitWrite(1, len(a.Counter)+64)
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res := ns.Counter.AddCount(ctx, tok, &a)
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	return &headwaterv1.AddCountResponse{Result: s.writeResult(ns, &res, req.GetToken())}, nil
}

// AddCounts adds to many counters under one token.
func (s *Counter) AddCounts(ctx context.Context, req *headwaterv1.AddCountsRequest) (*headwaterv1.AddCountsResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	adds, err := parseAdds(ns.Counter, req.GetAdds())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	result, err := s.add(ctx, ns, adds, req.GetToken())
	if err != nil {
		return nil, err
	}
	return &headwaterv1.AddCountsResponse{Result: result}, nil
}

// add does what AddCounts does over gRPC and JSON. adds are used up.
func (s *Counter) add(ctx context.Context, ns *Namespace, adds *counter.Adds, sent *headwaterv1.IdempotencyToken) (*headwaterv1.WriteResult, error) {
	tok, err := parseToken(sent)
	if err == nil {
		err = ns.admitWrite(adds.Len(), adds.Bytes())
	}
	if err != nil {
		return nil, forWrite(err, false, sent)
	}
	res := ns.Counter.AddCounts(ctx, tok, adds)
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, sent))
	}
	return s.writeResult(ns, &res, sent), nil
}

func (s *Counter) writeResult(ns *Namespace, res *counter.Result, sent *headwaterv1.IdempotencyToken) *headwaterv1.WriteResult {
	out := &headwaterv1.WriteResult{Token: tokenMessage(res.Token, sent), Position: res.Position, Durability: ns.durability(), Duplicate: duplicateOf(res.Duplicate, res.Unsure)}
	if res.Buffered {
		out.Position, out.Durability, out.Duplicate = "", headwaterv1.WriteResult_BUFFERED, headwaterv1.WriteResult_UNKNOWN
		out.LossWindow = durationpb.New(ns.Counter.BufferedLoss())
	}
	return out
}

// write does a call that the applier decides. call.Add.Counter and the fields of
// its Op are set and checked.
func (s *Counter) write(ctx context.Context, ns *Namespace, call *counter.Call, sent *headwaterv1.IdempotencyToken) (*counter.Result, error) {
	tok, err := parseToken(sent)
	if err == nil {
		err = ns.admitWrite(1, len(call.Add.Counter)+64)
	}
	if err != nil {
		return nil, forWrite(err, false, sent)
	}
	res := ns.Counter.Write(ctx, &counter.Request{Token: tok, Call: *call})
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, sent))
	}
	return &res, nil
}

// AddAndGetCount adds, and answers the value right after it.
func (s *Counter) AddAndGetCount(ctx context.Context, req *headwaterv1.AddAndGetCountRequest) (*headwaterv1.AddAndGetCountResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	call := &counter.Call{Op: counter.OpAddAndGet}
	err = parseAdd(&call.Add, req.GetCounter(), req.GetDelta(), req.GetEventTime(), req.GetTtl(), nil)
	if err == nil {
		call.Bounds, err = parseBounds(req.GetBounds())
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res, err := s.write(ctx, ns, call, req.GetToken())
	if err != nil {
		return nil, err
	}
	return &headwaterv1.AddAndGetCountResponse{
		Result: s.writeResult(ns, res, req.GetToken()), Count: countMessage(&res.Count), AppliedDelta: res.AppliedDelta, Duplicate: res.Duplicate,
		Violation: headwaterv1.AddAndGetCountResponse_Violation(res.Violation),
	}, nil
}

// ClearCount sets a counter to 0 at its place in the log.
func (s *Counter) ClearCount(ctx context.Context, req *headwaterv1.ClearCountRequest) (*headwaterv1.ClearCountResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err == nil {
		err = checkCounter(req.GetCounter())
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res, err := s.write(ctx, ns, &counter.Call{Op: counter.OpClear, Add: counter.Add{Counter: []byte(req.GetCounter())}}, req.GetToken())
	if err != nil {
		return nil, err
	}
	return &headwaterv1.ClearCountResponse{Result: s.writeResult(ns, res, req.GetToken())}, nil
}

// ReserveCount holds a part of what is available.
func (s *Counter) ReserveCount(ctx context.Context, req *headwaterv1.ReserveCountRequest) (*headwaterv1.ReserveCountResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err == nil {
		err = checkCounter(req.GetCounter())
	}
	call := &counter.Call{Op: counter.OpReserve, Add: counter.Add{Counter: []byte(req.GetCounter())}, Amount: req.GetAmount()}
	if err == nil && call.Amount <= 0 {
		err = apierrors.New(apierrors.BadAmount, "amount is %d; reserve at least 1", call.Amount)
	}
	if err == nil {
		call.Lease, err = parseLease(req.GetLease())
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res, err := s.write(ctx, ns, call, req.GetToken())
	if err != nil {
		return nil, err
	}
	return &headwaterv1.ReserveCountResponse{
		ReservationId: reservationID(res.Reservation, req.GetCounter()), Count: countMessage(&res.Count), ExpiresAt: timeMessage(res.ExpiresAt),
		Result: s.writeResult(ns, res, req.GetToken()),
	}, nil
}

// SettleReservation takes the amount from the value and frees the hold.
func (s *Counter) SettleReservation(ctx context.Context, req *headwaterv1.SettleReservationRequest) (*headwaterv1.SettleReservationResponse, error) {
	call := &counter.Call{Op: counter.OpSettle, Amount: req.GetAmount(), All: req.Amount == nil}
	var err error
	if call.Amount < 0 {
		err = apierrors.New(apierrors.BadAmount, "amount is %d; settle 0 or more, or leave it out for all of it", call.Amount)
	}
	ns, res, err := s.ofReservation(ctx, req.GetNamespace(), req.GetReservationId(), call, req.GetToken(), err)
	if err != nil {
		return nil, err
	}
	return &headwaterv1.SettleReservationResponse{Count: countMessage(&res.Count), Result: s.writeResult(ns, res, req.GetToken())}, nil
}

// CancelReservation frees the hold.
func (s *Counter) CancelReservation(ctx context.Context, req *headwaterv1.CancelReservationRequest) (*headwaterv1.CancelReservationResponse, error) {
	ns, res, err := s.ofReservation(ctx, req.GetNamespace(), req.GetReservationId(), &counter.Call{Op: counter.OpCancel}, req.GetToken(), nil)
	if err != nil {
		return nil, err
	}
	return &headwaterv1.CancelReservationResponse{Count: countMessage(&res.Count), Result: s.writeResult(ns, res, req.GetToken())}, nil
}

// ofReservation does a call on the reservation of an id. bad is what is already
// known to be wrong with the request; who may not see the namespace is not told.
func (s *Counter) ofReservation(ctx context.Context, name, id string, call *counter.Call, sent *headwaterv1.IdempotencyToken, bad error) (*Namespace, *counter.Result, error) {
	ns, err := s.dir.counter(ctx, name)
	if err == nil {
		err = bad
	}
	if err == nil {
		var of string
		call.Reservation, of, err = parseReservationID(id)
		call.Add.Counter = []byte(of)
	}
	if err != nil {
		return nil, nil, forWrite(err, false, sent)
	}
	res, err := s.write(ctx, ns, call, sent)
	return ns, res, err
}

// listBinding is what page tokens of ListCounts are bound to.
func listBinding(ns *Namespace, prefix string) []byte {
	inc := ns.Stream.Info().Incarnation
	h := sha256.New()
	h.Write([]byte("ListCounts"))
	h.Write(inc[:])
	h.Write([]byte(prefix))
	return h.Sum(nil)
}
