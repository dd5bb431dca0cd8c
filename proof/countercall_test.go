package proof

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// tally is one request of counters with its token: whatever is sent under it is
// this.
type tally struct {
	seq   int // in the book
	round int
	ns    string
	// counter is that of all but adds.
	counter string

	add     *headwaterv1.AddCountRequest
	adds    *headwaterv1.AddCountsRequest
	get     *headwaterv1.AddAndGetCountRequest
	clear   *headwaterv1.ClearCountRequest
	reserve *headwaterv1.ReserveCountRequest
	settle  *headwaterv1.SettleReservationRequest
	cancel  *headwaterv1.CancelReservationRequest

	settled bool // first is the answer that every other copy must get
	first   reckoning
	news    int // answers that said that the token was new
	unknown int // copies of unknown outcome
}

// reckoning is what the server said to one copy of a tally.
type reckoning struct {
	outcome  outcome
	again    bool // the server says that it knew the token
	maybe    bool // it says that it cannot know
	buffered bool
	position string
	offsets  map[wal.Partition]wal.Offset
	reason   string // refused
	metadata map[string]string
	// Of calls that answer a count:
	value, held, delta int64
	violation          headwaterv1.AddAndGetCountResponse_Violation
	at                 int64 // log time of the decision, microseconds
	reservation        string
	expires            int64 // log time, microseconds
	err                error
}

func (a *reckoning) String() string {
	if a.err != nil {
		return fmt.Sprintf("%v (%v)", a.outcome, a.err)
	}
	return fmt.Sprintf("%v at %v, value %d, held %d, applied %d, %v, log time %d, duplicate %v", a.outcome, a.offsets, a.value, a.held, a.delta, a.violation, a.at, a.again)
}

// same reports whether two copies got one answer.
func (a *reckoning) same(b *reckoning) bool {
	return a.outcome == b.outcome && maps.Equal(a.offsets, b.offsets) && a.reason == b.reason && maps.Equal(a.metadata, b.metadata) &&
		a.value == b.value && a.held == b.held && a.delta == b.delta && a.violation == b.violation && a.at == b.at &&
		a.reservation == b.reservation && a.expires == b.expires
}

func (w *tally) message() proto.Message {
	switch {
	case w.add != nil:
		return w.add
	case w.adds != nil:
		return w.adds
	case w.get != nil:
		return w.get
	case w.clear != nil:
		return w.clear
	case w.reserve != nil:
		return w.reserve
	case w.settle != nil:
		return w.settle
	default:
		return w.cancel
	}
}

func (w *tally) String() string {
	m := w.message()
	s := strings.TrimSpace(fmt.Sprint(m))
	if len(s) > 600 {
		s = s[:600] + "..."
	}
	return fmt.Sprintf("call %d of round %d %T{%s} %s", w.seq, w.round, m, s, w.counter)
}

// other is the same token with another request to the same counters, or nil for
// one that has none.
func (w *tally) other() *tally {
	o := &tally{seq: w.seq, round: w.round, ns: w.ns, counter: w.counter}
	switch {
	case w.add != nil:
		o.add = proto.CloneOf(w.add)
		o.add.Delta++
	case w.adds != nil:
		o.adds = proto.CloneOf(w.adds)
		if o.adds.Adds[0].Token != nil {
			return nil // then the add's own token is the one that does not fit
		}
		o.adds.Adds[0].Delta++
	case w.get != nil:
		o.get = proto.CloneOf(w.get)
		o.get.Delta++
	case w.reserve != nil:
		o.reserve = proto.CloneOf(w.reserve)
		o.reserve.Amount++
	case w.clear != nil:
		o.get = &headwaterv1.AddAndGetCountRequest{Namespace: w.ns, Counter: w.counter, Delta: 1, Token: w.clear.Token}
	default:
		return nil
	}
	return o
}

// counters is the counter service of a connection.
func (c *conn) counters() headwaterv1.CounterServiceClient {
	return headwaterv1.NewCounterServiceClient(c.cc)
}

// count sends one copy of w.
func (c *conn) count(ctx context.Context, w *tally) reckoning {
	s := c.counters()
	switch {
	case w.add != nil:
		r, err := s.AddCount(ctx, w.add)
		return reckoned(r.GetResult(), nil, err)
	case w.adds != nil:
		r, err := s.AddCounts(ctx, w.adds)
		return reckoned(r.GetResult(), nil, err)
	case w.get != nil:
		r, err := s.AddAndGetCount(ctx, w.get)
		a := reckoned(r.GetResult(), r.GetCount(), err)
		if a.outcome == acked {
			a.delta, a.violation = r.GetAppliedDelta(), r.GetViolation()
			if r.GetDuplicate() != a.again {
				return reckoning{err: fmt.Errorf("duplicate is %v, and the result says %v", r.GetDuplicate(), r.GetResult().GetDuplicate())}
			}
		}
		return a
	case w.clear != nil:
		r, err := s.ClearCount(ctx, w.clear)
		return reckoned(r.GetResult(), nil, err)
	case w.reserve != nil:
		r, err := s.ReserveCount(ctx, w.reserve)
		a := reckoned(r.GetResult(), r.GetCount(), err)
		if a.outcome == acked {
			a.reservation, a.expires = r.GetReservationId(), r.GetExpiresAt().AsTime().UnixMicro()
		}
		return a
	case w.settle != nil:
		r, err := s.SettleReservation(ctx, w.settle)
		return reckoned(r.GetResult(), r.GetCount(), err)
	}
	r, err := s.CancelReservation(ctx, w.cancel)
	return reckoned(r.GetResult(), r.GetCount(), err)
}

// reckoned reads an answer. An error that does not say that nothing happened
// leaves it open: the server may have died with the answer.
func reckoned(r *headwaterv1.WriteResult, n *headwaterv1.Count, err error) reckoning {
	if err != nil {
		e := apierrors.FromStatus(err)
		a := reckoning{err: err}
		switch {
		case e.Reason == apierrors.TokenReused && e.Code == codes.AlreadyExists:
			a.outcome = reused
		case e.Reason == apierrors.CountOverflow, e.Reason == apierrors.Insufficient, e.Reason == apierrors.ReservationEnded, e.Reason == apierrors.SettledTooMuch:
			a.outcome, a.reason, a.metadata = refused, e.Reason, maps.Clone(e.Metadata)
			delete(a.metadata, "requestId")
		case e.Outcome == apierrors.NotApplied:
			a.outcome = notApplied
		}
		return a
	}
	a := reckoning{outcome: acked, again: r.GetDuplicate() == headwaterv1.WriteResult_YES, maybe: r.GetDuplicate() == headwaterv1.WriteResult_UNKNOWN, position: r.GetPosition()}
	if a.buffered = r.GetDurability() == headwaterv1.WriteResult_BUFFERED; a.buffered {
		a.maybe = false
		return a
	}
	pos, err := wal.ParsePosition(r.GetPosition())
	if err != nil || len(pos.Offsets) == 0 {
		return reckoning{err: fmt.Errorf("position %q of an acknowledged call: %w", r.GetPosition(), err)}
	}
	a.offsets = pos.Offsets
	if n != nil {
		a.value, a.held, a.at = n.GetValue(), n.GetHeld(), n.GetAsOf().GetTime().AsTime().UnixMicro()
	}
	return a
}

// eventTimes are where adds with a time of their own fall: three days long ago.
var eventTimes = time.Date(2020, 3, 1, 0, 0, 0, 0, time.UTC)

const eventHours = 72

func eventTime(hour, second int) *timestamppb.Timestamp {
	return timestamppb.New(eventTimes.Add(time.Duration(hour)*time.Hour + time.Duration(second)*time.Second))
}
