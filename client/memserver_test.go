package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// memServer is a small KeyValueService in memory, with tokens, conditions and
// pages, so that the client's handling of lost answers, overload and
// restarts can be tested by hooks that no real server has.
type memServer struct {
	headwaterv1.UnimplementedKeyValueServiceServer

	counters *memCounters

	mu      sync.Mutex
	records map[string]map[string]*headwaterv1.Item
	tokens  map[string]*answered
	offset  int64
	inc     wal.Incarnation
	reads   []*headwaterv1.GetItemsRequest
	batches []int // sizes of the batches that came
	applied int   // puts that had an effect

	// before and after run around each unary call; an error of before keeps the
	// call from having an effect, one of after loses its answer.
	before, after func(ctx context.Context, method string) error
}

type answered struct {
	hash [32]byte
	res  *headwaterv1.PutItemsResponse
	err  *apierrors.Error
}

func newMemServer() *memServer {
	s := &memServer{records: map[string]map[string]*headwaterv1.Item{}, tokens: map[string]*answered{}, inc: wal.Incarnation{1}}
	s.counters = newMemCounters(s)
	return s
}

// start serves s and returns a client of it; both end with the test.
func (s *memServer) start(t testing.TB, cfg Config) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := s.serve(l)
	t.Cleanup(g.Stop)
	return dial(t, l.Addr().String(), cfg)
}

func (s *memServer) serve(l net.Listener) *grpc.Server {
	g := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if s.before != nil {
			if err := s.before(ctx, info.FullMethod); err != nil {
				return nil, err
			}
		}
		res, err := next(ctx, req)
		if s.after != nil {
			if err := s.after(ctx, info.FullMethod); err != nil {
				return nil, err
			}
		}
		return res, err
	}))
	headwaterv1.RegisterKeyValueServiceServer(g, s)
	headwaterv1.RegisterCounterServiceServer(g, s.counters)
	go func() { _ = g.Serve(l) }() // ends with Stop
	return g
}

func dial(t testing.TB, address string, cfg Config) *Client {
	t.Helper()
	c, err := Dial(address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func nonceOf(t *headwaterv1.IdempotencyToken) string {
	if t.GetKey() != "" {
		n := wal.NonceOfKey(t.GetKey())
		return string(n[:])
	}
	return string(t.GetNonce())
}

// hashOf leaves the token's time out, which a caller with a business key does
// not repeat.
func hashOf(m proto.Message) [32]byte {
	m = proto.Clone(m)
	switch r := m.(type) {
	case *headwaterv1.PutItemsRequest:
		r.Token = nil
	case *headwaterv1.DeleteItemsRequest:
		r.Token = nil
	case *headwaterv1.CommitUploadRequest:
		r.Token = nil
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
}

func (s *memServer) position(id string) string {
	s.offset++
	return wal.NewPosition("ns", s.inc, wal.Partition(len(id)%4), wal.Offset(s.offset)).String()
}

func version(t *headwaterv1.IdempotencyToken, offset int64) string {
	return wal.Version{Time: t.GetGenerationTime().AsTime().UnixMicro(), Nonce: orderedNonce(int64(offset))}.String()
}

func versionTime(v string) int64 {
	b, err := base64.RawURLEncoding.DecodeString(v)
	if err != nil {
		panic(err)
	}
	return int64(binary.BigEndian.Uint64(b))
}

func (s *memServer) PutItems(_ context.Context, r *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(r, hashOf(r))
}

func (s *memServer) put(r *headwaterv1.PutItemsRequest, hash [32]byte) (*headwaterv1.PutItemsResponse, error) {
	if r.GetId() == "" {
		return nil, apierrors.New(apierrors.BadID, "id has 0 bytes").ForWrite(apierrors.NotApplied, r.GetToken())
	}
	if a := s.tokens[nonceOf(r.GetToken())]; a != nil {
		if a.hash != hash {
			return nil, apierrors.New(apierrors.TokenReused, "used").ForWrite(apierrors.NotApplied, r.GetToken())
		}
		if a.err != nil {
			return nil, a.err
		}
		res := proto.Clone(a.res).(*headwaterv1.PutItemsResponse)
		res.Result.Duplicate = headwaterv1.WriteResult_YES
		return res, nil
	}
	a := &answered{hash: hash}
	s.tokens[nonceOf(r.GetToken())] = a
	rec := s.records[r.GetId()]
	for _, it := range r.GetItems() {
		cur := rec[string(it.GetKey())]
		c := r.GetCondition()
		if c.GetIfAbsent() && cur != nil || c.GetIfVersion() != "" && cur.GetVersion() != c.GetIfVersion() {
			a.err = apierrors.New(apierrors.ConditionFailed, "no").With("currentVersion", cur.GetVersion()).ForWrite(apierrors.NotApplied, r.GetToken())
			return nil, a.err
		}
	}
	if rec == nil {
		rec = map[string]*headwaterv1.Item{}
		s.records[r.GetId()] = rec
	}
	res := &headwaterv1.PutItemsResponse{Result: &headwaterv1.WriteResult{
		Token: r.GetToken(), Position: s.position(r.GetId()), Durability: headwaterv1.WriteResult_SYNC, Duplicate: headwaterv1.WriteResult_NO,
	}}
	for _, it := range r.GetItems() {
		v := version(r.GetToken(), s.offset)
		res.Versions = append(res.Versions, v)
		rec[string(it.GetKey())] = &headwaterv1.Item{
			Key: it.GetKey(), Value: it.GetValue(), Version: v, WrittenAt: r.GetToken().GetGenerationTime(), Size: int64(len(it.GetValue())),
			Compression: it.GetCompression(), ContentType: it.GetContentType(),
		}
	}
	s.applied++
	a.res = res
	return res, nil
}

func (s *memServer) BatchPutItems(_ context.Context, r *headwaterv1.BatchPutItemsRequest) (*headwaterv1.BatchPutItemsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, len(r.GetRequests()))
	out := &headwaterv1.BatchPutItemsResponse{}
	for _, r := range r.GetRequests() {
		res, err := s.put(r, hashOf(r))
		m := &headwaterv1.BatchPutItemsResult{Result: &headwaterv1.BatchPutItemsResult_Response{Response: res}}
		if err != nil {
			e := apierrors.From(err)
			m.Result = &headwaterv1.BatchPutItemsResult_Error{Error: &headwaterv1.ItemError{
				Code: int32(e.Code), Reason: e.Reason, Message: e.Message, Outcome: headwaterv1.ItemError_NOT_APPLIED, Metadata: e.Metadata, Token: e.Token,
			}}
		}
		out.Responses = append(out.Responses, m)
	}
	return out, nil
}

func (s *memServer) GetItems(_ context.Context, r *headwaterv1.GetItemsRequest) (*headwaterv1.GetItemsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = append(s.reads, proto.Clone(r).(*headwaterv1.GetItemsRequest))
	for _, a := range r.GetAfter() {
		p, err := wal.ParsePosition(a)
		if err != nil {
			return nil, apierrors.New(apierrors.BadPosition, "malformed")
		}
		if p.Incarnation != s.inc {
			return nil, apierrors.New(apierrors.OtherIncarnation, "another life")
		}
	}
	rec := s.records[r.GetId()]
	keys := slices.Sorted(maps.Keys(rec))
	if m := r.GetPredicate().GetMatchKeys(); m != nil {
		keys = nil
		for _, k := range m.GetKeys() {
			if rec[string(k)] != nil {
				keys = append(keys, string(k))
			}
		}
	}
	if m := r.GetPredicate().GetMatchRange(); m != nil {
		keys = slices.DeleteFunc(keys, func(k string) bool { return !inRange([]byte(k), m) })
		if m.GetDescending() {
			slices.Reverse(keys)
		}
	}
	from, _ := strconv.Atoi(r.GetPageToken())
	out := &headwaterv1.GetItemsResponse{AsOf: &headwaterv1.AsOf{Time: timestamppb.Now()}}
	size, limit := 0, int(r.GetSelection().GetItemLimit())
	most := int(r.GetSelection().GetPageSizeBytes())
	if most == 0 {
		most = 1 << 20
	}
	for i := from; i < len(keys); i++ {
		it := proto.Clone(rec[keys[i]]).(*headwaterv1.Item)
		if it.GetSize() > 4<<20 {
			it.Chunked, it.Value = true, nil
		}
		size += len(it.GetKey()) + len(it.GetValue())
		if len(out.Items) > 0 && size > most || limit > 0 && len(out.Items) == limit {
			out.NextPageToken = strconv.Itoa(i)
			break
		}
		out.Items = append(out.Items, it)
	}
	return out, nil
}

func inRange(k []byte, m *headwaterv1.Predicate_MatchRange) bool {
	if m.Start != nil {
		if c := bytes.Compare(k, m.Start); c < 0 || c == 0 && m.StartExclusive {
			return false
		}
	}
	if m.End != nil {
		if c := bytes.Compare(k, m.End); c > 0 || c == 0 && !m.EndInclusive {
			return false
		}
	}
	return true
}

// times returns an error once per call of its result until n are used up.
func times(n int, err error) func(context.Context, string) error {
	var mu sync.Mutex
	return func(context.Context, string) error {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			return nil
		}
		n--
		return err
	}
}

// errNoAnswer asks for no wait, so that tests are quick.
var errNoAnswer = func() *apierrors.Error {
	e := apierrors.New(apierrors.AppendUnknown, "the log did not say").ForWrite(apierrors.Unknown, nil)
	e.RetryAfter = time.Millisecond
	return e
}()

// orderedNonce is the n-th of some nonces that are in order.
func orderedNonce(n int64) (x wal.Nonce) {
	binary.BigEndian.PutUint64(x[8:], uint64(n))
	return x
}
