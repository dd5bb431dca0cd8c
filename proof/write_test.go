package proof

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// outcome is what a caller learned of a write.
type outcome int

const (
	unknown    outcome = iota // it may have happened, or may yet
	acked                     // it took place
	refused                   // its condition did not hold, by the applier's decision
	notApplied                // this copy did not take place
	reused                    // the token belongs to another request
)

func (o outcome) String() string {
	return [...]string{"unknown", "acknowledged", "refused", "not applied", "token reused"}[o]
}

// answer is what the server said to one copy of a write.
type answer struct {
	outcome  outcome
	again    bool // the server says that it knew the token
	maybe    bool // it says that it cannot know: the answer is that of a first copy, which this one may not be
	position string
	time     int64 // of the token, microseconds
	part     wal.Partition
	offset   wal.Offset
	nonce    wal.Nonce // of the token
	versions []wal.Version
	current  string // refused: the version found
	err      error
}

func (a *answer) String() string {
	if a.err != nil {
		return fmt.Sprintf("%v (%v)", a.outcome, a.err)
	}
	return fmt.Sprintf("%v at %d/%d, time %d, versions %v, duplicate %v", a.outcome, a.part, a.offset, a.time, a.versions, a.again)
}

// write is one request with its token: whatever is sent under it is this.
type write struct {
	seq    int // in the book
	round  int
	put    *headwaterv1.PutItemsRequest
	del    *headwaterv1.DeleteItemsRequest
	mutate *headwaterv1.MutateItemsRequest
	log    *headwaterv1.WriteToLogRequest

	settled bool // first is the answer that every other copy must get
	first   answer
	news    int // answers that said that the token was new
	unknown int // copies of unknown outcome
}

func (w *write) String() string {
	var m proto.Message
	switch {
	case w.put != nil:
		m = w.put
	case w.del != nil:
		m = w.del
	case w.mutate != nil:
		m = w.mutate
	default:
		m = w.log
	}
	s := strings.TrimSpace(fmt.Sprint(m))
	if len(s) > 600 {
		s = s[:600] + "..."
	}
	return fmt.Sprintf("write %d of round %d %T{%s}", w.seq, w.round, m, s)
}

// other is the same token with another request.
func (w *write) other() *write {
	o := &write{seq: w.seq, round: w.round}
	switch {
	case w.put != nil:
		o.put = proto.CloneOf(w.put)
		o.put.Items[0].Value = append([]byte("other "), o.put.Items[0].Value...)
	case w.del != nil:
		o.put = &headwaterv1.PutItemsRequest{Namespace: w.del.Namespace, Id: w.del.Id, Token: w.del.Token, Items: []*headwaterv1.PutItem{{Key: []byte("never"), Value: []byte("never")}}}
	case w.mutate != nil:
		o.mutate = proto.CloneOf(w.mutate)
		o.mutate.Mutations = o.mutate.Mutations[1:]
	default:
		o.log = proto.CloneOf(w.log)
		o.log.Payload = append([]byte("other "), o.log.Payload...)
	}
	return o
}

// send sends one copy of w.
func (c *conn) send(ctx context.Context, w *write) answer {
	switch {
	case w.put != nil:
		r, err := c.kv.PutItems(ctx, w.put)
		if err != nil {
			return failure(err)
		}
		return putAnswer(r)
	case w.del != nil:
		r, err := c.kv.DeleteItems(ctx, w.del)
		if err != nil {
			return failure(err)
		}
		return success(r.GetResult())
	case w.mutate != nil:
		r, err := c.kv.MutateItems(ctx, w.mutate)
		if err != nil {
			return failure(err)
		}
		if len(r.GetResults()) != 1 {
			return answer{err: fmt.Errorf("the answer to a group of one namespace has %d results", len(r.GetResults()))}
		}
		return success(r.GetResults()[0])
	}
	r, err := c.log.WriteToLog(ctx, w.log)
	if err != nil {
		return failure(err)
	}
	switch r.GetDurable() {
	case headwaterv1.WriteToLogResponse_SUCCEEDED:
		return success(r.GetResult())
	case headwaterv1.WriteToLogResponse_FAILED:
		return answer{outcome: notApplied, err: errors.New(r.GetMessage())}
	default:
		return answer{outcome: unknown, err: errors.New(r.GetMessage())}
	}
}

// sendBatch sends puts in one call.
func (c *conn) sendBatch(ctx context.Context, ws []*write) []answer {
	req := &headwaterv1.BatchPutItemsRequest{}
	for _, w := range ws {
		req.Requests = append(req.Requests, w.put)
	}
	out := make([]answer, len(ws))
	r, err := c.kv.BatchPutItems(ctx, req)
	if err == nil && len(r.GetResponses()) != len(ws) {
		err = fmt.Errorf("a batch of %d got %d answers", len(ws), len(r.GetResponses()))
	}
	for i := range out {
		switch {
		case err != nil:
			out[i] = failure(err)
		case r.GetResponses()[i].GetResponse() != nil:
			out[i] = putAnswer(r.GetResponses()[i].GetResponse())
		default:
			e := r.GetResponses()[i].GetError()
			out[i] = verdict(codes.Code(e.GetCode()), apierrors.Outcome(e.GetOutcome().String()), e.GetReason(), e.GetMetadata(), status.Error(codes.Code(e.GetCode()), e.GetReason()+" "+e.GetMessage()))
		}
	}
	return out
}

func putAnswer(r *headwaterv1.PutItemsResponse) answer {
	a := success(r.GetResult())
	for _, s := range r.GetVersions() {
		v, err := wal.ParseVersion(s)
		if err != nil {
			return answer{err: fmt.Errorf("version %q: %w", s, err)}
		}
		a.versions = append(a.versions, v)
	}
	return a
}

func success(r *headwaterv1.WriteResult) answer {
	pos, err := wal.ParsePosition(r.GetPosition())
	if err != nil || len(pos.Offsets) != 1 {
		return answer{err: fmt.Errorf("position %q of an acknowledged write: %w", r.GetPosition(), err)}
	}
	a := answer{outcome: acked, position: r.GetPosition(), time: r.GetToken().GetGenerationTime().AsTime().UnixMicro(), again: r.GetDuplicate() == headwaterv1.WriteResult_YES, nonce: nonceOf(r.GetToken())}
	a.maybe = r.GetDuplicate() == headwaterv1.WriteResult_UNKNOWN
	for p, o := range pos.Offsets {
		a.part, a.offset = p, o
	}
	return a
}

func failure(err error) answer {
	e := apierrors.FromStatus(err)
	return verdict(e.Code, e.Outcome, e.Reason, e.Metadata, err)
}

// verdict reads an error. One that does not say that nothing happened leaves it
// open: the server may have died with the answer.
func verdict(code codes.Code, o apierrors.Outcome, reason string, metadata map[string]string, err error) answer {
	a := answer{err: err}
	switch {
	case reason == apierrors.ConditionFailed && code == codes.Aborted:
		a.outcome, a.current = refused, metadata["currentVersion"]
	case reason == apierrors.TokenReused && code == codes.AlreadyExists:
		a.outcome = reused
	case o == apierrors.NotApplied:
		a.outcome = notApplied
	}
	return a
}

func nonceToken(n wal.Nonce, micros int64) *headwaterv1.IdempotencyToken {
	t := &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Nonce{Nonce: n[:]}}
	if micros != 0 {
		t.GenerationTime = &timestamppb.Timestamp{Seconds: micros / 1e6, Nanos: int32(micros%1e6) * 1000}
	}
	return t
}

// nonceOf is what a token is told apart by.
func nonceOf(t *headwaterv1.IdempotencyToken) wal.Nonce {
	if k := t.GetKey(); k != "" {
		return wal.NonceOfKey(k)
	}
	var n wal.Nonce
	copy(n[:], t.GetNonce())
	return n
}
