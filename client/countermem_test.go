package client

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// memCounters is a small CounterService in memory, with tokens of calls and of
// adds, bounds and reservations; see memServer.
type memCounters struct {
	headwaterv1.UnimplementedCounterServiceServer

	mu       sync.Mutex
	s        *memServer
	values   map[string]int64
	adds     map[string]int64 // how many took effect, by counter
	tokens   map[string]*answer
	held     map[string]*headwaterv1.ReserveCountRequest
	requests []*headwaterv1.AddCountsRequest
	gets     []*headwaterv1.GetCountRequest
	// refuse may refuse an AddCounts before anything else.
	refuse func(*headwaterv1.AddCountsRequest) error
}

type answer struct {
	hash [32]byte
	res  proto.Message
}

func newMemCounters(s *memServer) *memCounters {
	return &memCounters{
		s: s, values: map[string]int64{}, adds: map[string]int64{}, tokens: map[string]*answer{}, held: map[string]*headwaterv1.ReserveCountRequest{},
	}
}

// sum is of all counters whose names begin with prefix.
func (m *memCounters) sum(prefix string) (sum, adds int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, v := range m.values {
		if strings.HasPrefix(name, prefix) {
			sum += v
			adds += m.adds[name]
		}
	}
	return sum, adds
}

func contentOf(m proto.Message) [32]byte {
	m = proto.Clone(m)
	f := m.ProtoReflect().Descriptor().Fields().ByName("token")
	m.ProtoReflect().Clear(f)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
}

// known returns the first answer to a token; an error where it was for another
// request.
func (m *memCounters) known(t *headwaterv1.IdempotencyToken, req proto.Message) (proto.Message, error) {
	a := m.tokens[nonceOf(t)]
	if a == nil {
		return nil, nil
	}
	if a.hash != contentOf(req) {
		return nil, apierrors.New(apierrors.TokenReused, "used").ForWrite(apierrors.NotApplied, t)
	}
	return proto.Clone(a.res), nil
}

func (m *memCounters) result(t *headwaterv1.IdempotencyToken) *headwaterv1.WriteResult {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return &headwaterv1.WriteResult{Token: t, Position: m.s.position(""), Durability: headwaterv1.WriteResult_SYNC, Duplicate: headwaterv1.WriteResult_NO}
}

func (m *memCounters) add(name string, delta int64) {
	m.values[name] += delta
	m.adds[name]++
}

func (m *memCounters) count(name string) *headwaterv1.Count {
	held := int64(0)
	for _, r := range m.held {
		if r.GetCounter() == name {
			held += r.GetAmount()
		}
	}
	return &headwaterv1.Count{
		Value: m.values[name], Held: held, Accuracy: headwaterv1.Count_ACCURATE, AsOf: &headwaterv1.AsOf{Time: timestamppb.Now(), Position: "p"},
	}
}

func (m *memCounters) AddCount(_ context.Context, r *headwaterv1.AddCountRequest) (*headwaterv1.AddCountResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if res, err := m.known(r.GetToken(), r); res != nil || err != nil {
		if err == nil {
			res.(*headwaterv1.AddCountResponse).Result.Duplicate = headwaterv1.WriteResult_YES
			return res.(*headwaterv1.AddCountResponse), nil
		}
		return nil, err
	}
	m.add(r.GetCounter(), r.GetDelta())
	res := &headwaterv1.AddCountResponse{Result: m.result(r.GetToken())}
	m.tokens[nonceOf(r.GetToken())] = &answer{contentOf(r), res}
	return res, nil
}

func (m *memCounters) AddCounts(_ context.Context, r *headwaterv1.AddCountsRequest) (*headwaterv1.AddCountsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = append(m.requests, proto.Clone(r).(*headwaterv1.AddCountsRequest))
	if m.refuse != nil {
		if err := m.refuse(r); err != nil {
			return nil, err
		}
	}
	if res, err := m.known(r.GetToken(), r); res != nil || err != nil {
		if err == nil {
			res.(*headwaterv1.AddCountsResponse).Result.Duplicate = headwaterv1.WriteResult_YES
			return res.(*headwaterv1.AddCountsResponse), nil
		}
		return nil, err
	}
	for i, a := range r.GetAdds() {
		if a.GetToken() == nil {
			continue
		}
		if _, err := m.known(a.GetToken(), a); err != nil {
			return nil, apierrors.New(apierrors.TokenReused, "adds[%d]: used", i).With("add", strconv.Itoa(i)).ForWrite(apierrors.NotApplied, r.GetToken())
		}
	}
	for _, a := range r.GetAdds() {
		if t := a.GetToken(); t != nil {
			if m.tokens[nonceOf(t)] != nil {
				continue
			}
			m.tokens[nonceOf(t)] = &answer{contentOf(a), &headwaterv1.AddCountResponse{}}
		}
		m.add(a.GetCounter(), a.GetDelta())
	}
	res := &headwaterv1.AddCountsResponse{Result: m.result(r.GetToken())}
	m.tokens[nonceOf(r.GetToken())] = &answer{contentOf(r), res}
	return res, nil
}

func (m *memCounters) AddAndGetCount(_ context.Context, r *headwaterv1.AddAndGetCountRequest) (*headwaterv1.AddAndGetCountResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if res, err := m.known(r.GetToken(), r); res != nil || err != nil {
		if err == nil {
			res.(*headwaterv1.AddAndGetCountResponse).Duplicate = true
			return res.(*headwaterv1.AddAndGetCountResponse), nil
		}
		return nil, err
	}
	res := &headwaterv1.AddAndGetCountResponse{AppliedDelta: r.GetDelta()}
	if b := r.GetBounds(); b != nil && b.Ceiling != nil && m.values[r.GetCounter()]+r.GetDelta() > b.GetCeiling() {
		res.Violation, res.AppliedDelta = headwaterv1.AddAndGetCountResponse_CEILING, 0
		if b.GetOnViolation() == headwaterv1.Bounds_SATURATE {
			res.AppliedDelta = b.GetCeiling() - m.values[r.GetCounter()]
		}
	}
	m.add(r.GetCounter(), res.AppliedDelta)
	res.Result, res.Count = m.result(r.GetToken()), m.count(r.GetCounter())
	m.tokens[nonceOf(r.GetToken())] = &answer{contentOf(r), res}
	return res, nil
}

func (m *memCounters) ClearCount(_ context.Context, r *headwaterv1.ClearCountRequest) (*headwaterv1.ClearCountResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if res, err := m.known(r.GetToken(), r); res != nil || err != nil {
		if err == nil {
			return res.(*headwaterv1.ClearCountResponse), nil
		}
		return nil, err
	}
	delete(m.values, r.GetCounter())
	res := &headwaterv1.ClearCountResponse{Result: m.result(r.GetToken())}
	m.tokens[nonceOf(r.GetToken())] = &answer{contentOf(r), res}
	return res, nil
}

func (m *memCounters) GetCount(_ context.Context, r *headwaterv1.GetCountRequest) (*headwaterv1.GetCountResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets = append(m.gets, proto.Clone(r).(*headwaterv1.GetCountRequest))
	return &headwaterv1.GetCountResponse{Count: m.count(r.GetCounter())}, nil
}

func (m *memCounters) GetCounts(_ context.Context, r *headwaterv1.GetCountsRequest) (*headwaterv1.GetCountsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res := &headwaterv1.GetCountsResponse{Counts: map[string]*headwaterv1.Count{}}
	for _, name := range r.GetCounters() {
		res.Counts[name] = m.count(name)
	}
	return res, nil
}

func (m *memCounters) ListCounts(_ context.Context, r *headwaterv1.ListCountsRequest) (*headwaterv1.ListCountsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res := &headwaterv1.ListCountsResponse{}
	for _, name := range slices.Sorted(maps.Keys(m.values)) {
		if !strings.HasPrefix(name, r.GetPrefix()) || r.GetPageToken() != "" && name <= r.GetPageToken() {
			continue
		}
		if len(res.Counts) == max(1, int(r.GetPageSize())) {
			res.NextPageToken = res.Counts[len(res.Counts)-1].GetCounter()
			break
		}
		res.Counts = append(res.Counts, &headwaterv1.NamedCount{Counter: name, Count: m.count(name)})
	}
	return res, nil
}

func (m *memCounters) GetCountSeries(_ context.Context, r *headwaterv1.GetCountSeriesRequest) (*headwaterv1.GetCountSeriesResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res := &headwaterv1.GetCountSeriesResponse{}
	for t := r.GetInterval().GetStart().AsTime(); t.Before(r.GetInterval().GetEnd().AsTime()); t = t.Add(r.GetGranularity().AsDuration()) {
		res.Points = append(res.Points, &headwaterv1.CountPoint{Start: timestamppb.New(t)})
	}
	if n := len(res.Points); n > 0 {
		res.Points[n-1].Sum, res.Points[n-1].Adds = m.values[r.GetCounter()], m.adds[r.GetCounter()]
	}
	return res, nil
}

func (m *memCounters) ReserveCount(_ context.Context, r *headwaterv1.ReserveCountRequest) (*headwaterv1.ReserveCountResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.count(r.GetCounter())
	if c.GetValue()-c.GetHeld() < r.GetAmount() {
		return nil, apierrors.New(apierrors.Insufficient, "less is available").ForWrite(apierrors.NotApplied, r.GetToken())
	}
	id := fmt.Sprintf("r-%d", len(m.held))
	m.held[id] = r
	return &headwaterv1.ReserveCountResponse{
		ReservationId: id, Count: m.count(r.GetCounter()), ExpiresAt: timestamppb.New(time.Now().Add(r.GetLease().AsDuration())), Result: m.result(r.GetToken()),
	}, nil
}

func (m *memCounters) SettleReservation(_ context.Context, r *headwaterv1.SettleReservationRequest) (*headwaterv1.SettleReservationResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.held[r.GetReservationId()]
	if h == nil {
		return nil, apierrors.New(apierrors.ReservationNotFound, "no such reservation").ForWrite(apierrors.NotApplied, r.GetToken())
	}
	amount := h.GetAmount()
	if r.Amount != nil {
		amount = r.GetAmount()
	}
	delete(m.held, r.GetReservationId())
	m.add(h.GetCounter(), -amount)
	return &headwaterv1.SettleReservationResponse{Count: m.count(h.GetCounter()), Result: m.result(r.GetToken())}, nil
}

func (m *memCounters) CancelReservation(_ context.Context, r *headwaterv1.CancelReservationRequest) (*headwaterv1.CancelReservationResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.held[r.GetReservationId()]
	delete(m.held, r.GetReservationId())
	return &headwaterv1.CancelReservationResponse{Count: m.count(h.GetCounter()), Result: m.result(r.GetToken())}, nil
}

func (m *memCounters) VerifyCount(_ context.Context, r *headwaterv1.VerifyCountRequest) (*headwaterv1.VerifyCountResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &headwaterv1.VerifyCountResponse{Stored: m.count(r.GetCounter()), Recounted: m.values[r.GetCounter()], Events: m.adds[r.GetCounter()]}, nil
}
