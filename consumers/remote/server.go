package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Holder is a namespace of which this process holds partitions.
type Holder interface {
	// Progress is how far they can be read.
	Progress() *wal.Progress
	// Epoch is that of the newest claim of a partition, where it is this process's.
	Epoch(p wal.Partition) (wal.Offset, bool)
	// LiveTokens is how many tokens are remembered of a partition.
	LiveTokens(p wal.Partition) int64
	// Token is what a token did; nil: it is not known.
	Token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error)
	// AnswerParts answers what comes in parts.
	AnswerParts(ctx context.Context, req *clusterv1.AskRequest, send func(*clusterv1.AskResponse) error) error
	// Answer answers what an abstraction asks, on top of Common.
	Answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error)
}

// Server is the OwnerService of a process.
type Server struct {
	clusterv1.UnimplementedOwnerServiceServer
	// Find returns a namespace by name and incarnation of its topic; nil: it is not here.
	Find func(namespace string, incarnation []byte) Holder
	// Parked is what is parked in a partition.
	Parked func(h Holder) Parker
	// Error gives an error the form in which it goes to callers of the API.
	Error func(error) error
	// Done ends the streams when the process stops.
	Done <-chan struct{}
}

// Parker tells what is parked, as consumers.Local does.
type Parker interface {
	Parked(ctx context.Context, p wal.Partition, key []byte) (consumers.ParkedQueue, bool, error)
	ParkedKeys(p wal.Partition) (n int, lowest wal.Offset)
	ParkedVersion(p wal.Partition) uint64
	ParkedHeads(ctx context.Context, p wal.Partition, do func(*consumers.ParkedQueue)) error
}

// Ask implements OwnerService.
func (s *Server) Ask(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	h, p, err := s.hold(ctx, req)
	if err != nil {
		return nil, err
	}
	at := s.partition(h, p)
	resp, err := s.answer(ctx, h, p, req)
	if err != nil {
		return nil, s.Error(err)
	}
	resp.Partition = at
	return resp, nil
}

// AskParts implements OwnerService.
func (s *Server) AskParts(req *clusterv1.AskPartsRequest, stream clusterv1.OwnerService_AskPartsServer) error {
	h, p, err := s.hold(stream.Context(), req.GetAsk())
	if err != nil {
		return err
	}
	at := s.partition(h, p)
	err = h.AnswerParts(stream.Context(), req.GetAsk(), func(part *clusterv1.AskResponse) error {
		part.Partition = at
		return stream.Send(&clusterv1.AskPartsResponse{Part: part})
	})
	if err != nil {
		return s.Error(err)
	}
	return nil
}

// hold finds the partition that a question is about, once it is applied as far as the question asks.
func (s *Server) hold(ctx context.Context, req *clusterv1.AskRequest) (Holder, wal.Partition, error) {
	h := s.Find(req.GetNamespace(), req.GetIncarnation())
	p, err := s.held(ctx, h, req)
	return h, p, err
}

// asked is a partition as a question names it.
type asked interface {
	GetPartition() uint32
	GetEpoch() int64
	GetAt() int64
}

// held is hold in a namespace that was found; h is nil where it was not.
func (s *Server) held(ctx context.Context, h Holder, q asked) (wal.Partition, error) {
	if h == nil || int64(q.GetPartition()) >= int64(h.Progress().Partitions()) {
		return 0, errWrongOwner(q.GetPartition())
	}
	p := wal.Partition(q.GetPartition())
	if epoch, ok := h.Epoch(p); !ok || int64(epoch) != q.GetEpoch() {
		return 0, errWrongOwner(q.GetPartition())
	}
	if err := h.Progress().Wait(ctx, p, wal.Offset(q.GetAt())-1); err != nil {
		return 0, s.Error(err)
	}
	return p, nil
}

// maxTokens bounds a question of tokens.
const maxTokens = 100_000

// Tokens implements OwnerService.
func (s *Server) Tokens(ctx context.Context, req *clusterv1.TokensRequest) (*clusterv1.TokensResponse, error) {
	const size = len(wal.TokenID{})
	h := s.Find(req.GetNamespace(), req.GetIncarnation())
	if h == nil {
		return nil, errWrongOwner(0)
	}
	if len(req.GetOf()) > maxTokens || len(req.GetIds()) != size*len(req.GetOf()) {
		return nil, status.Errorf(codes.InvalidArgument, "%d tokens in %d bytes", len(req.GetOf()), len(req.GetIds()))
	}
	resp := &clusterv1.TokensResponse{}
	for _, c := range req.GetPartitions() {
		p, err := s.held(ctx, h, c)
		if err != nil {
			return nil, err
		}
		resp.Partitions = append(resp.Partitions, s.partition(h, p))
	}
	for i, n := range req.GetOf() {
		if int64(n) >= int64(len(req.GetPartitions())) {
			return nil, status.Errorf(codes.InvalidArgument, "partition %d of %d", n, len(req.GetPartitions()))
		}
		var id wal.TokenID
		copy(id[:], req.GetIds()[i*size:])
		e, err := h.Token(ctx, wal.Partition(req.GetPartitions()[n].GetPartition()), id)
		if err != nil {
			return nil, s.Error(err)
		}
		if e != nil {
			resp.Known, resp.Entries = append(resp.Known, uint32(i)), append(resp.Entries, e)
		}
	}
	return resp, nil
}

// headsPage is how many queues are told at a time, maxRefs how many records of one.
const (
	headsPage = 1000
	maxRefs   = consumers.SoftParked
)

func (s *Server) answer(ctx context.Context, h Holder, p wal.Partition, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	switch q := req.GetQuestion().(type) {
	case *clusterv1.AskRequest_Token:
		id, err := TokenIDFrom(q.Token.GetId())
		if err != nil {
			return nil, err
		}
		resp := &clusterv1.AskResponse{}
		e, err := h.Token(ctx, p, id)
		if e != nil {
			resp.Answer = &clusterv1.AskResponse_Token{Token: e}
		}
		return resp, err
	case *clusterv1.AskRequest_Parked:
		resp := &clusterv1.AskResponse{}
		found, ok, err := s.Parked(h).Parked(ctx, p, q.Parked.GetKey())
		if err == nil && ok {
			resp.Answer = &clusterv1.AskResponse_Parked{Parked: queueTo(&found, maxRefs)}
		}
		return resp, err
	case *clusterv1.AskRequest_ParkedHeads:
		var queues []*clusterv1.ParkedQueue
		err := s.Parked(h).ParkedHeads(ctx, p, func(k *consumers.ParkedQueue) {
			if !q.ParkedHeads.GetHasAbove() || bytes.Compare(k.Key, q.ParkedHeads.GetAbove()) > 0 {
				queues = append(queues, queueTo(k, 1))
			}
		})
		slices.SortFunc(queues, func(a, b *clusterv1.ParkedQueue) int { return bytes.Compare(a.Key, b.Key) })
		n := min(headsPage, len(queues))
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_ParkedHeads{ParkedHeads: &clusterv1.ParkedHeads{Queues: queues[:n], More: n < len(queues)}}}, err
	}
	return h.Answer(ctx, req)
}

// partition tells how far a partition is. What is parked comes last: it is as of the
// offset, or newer.
func (s *Server) partition(h Holder, p wal.Partition) *clusterv1.Partition {
	g := h.Progress()
	logTime := g.LogTime(p)
	m := &clusterv1.Partition{Partition: uint32(p), LogTime: logTime, Applied: int64(g.Applied(p)) + 1}
	if err := g.Stopped(p); err != nil {
		var stopped *wal.StoppedError
		if errors.As(err, &stopped) {
			err = stopped.Cause
		}
		m.Stopped = cmp.Or(err.Error(), "no reason is known")
	}
	m.ParkedVersion = s.Parked(h).ParkedVersion(p) // before the keys: they are of it, or newer
	n, lowest := s.Parked(h).ParkedKeys(p)
	m.ParkedKeys, m.ParkedLowest, m.LiveTokens = int64(n), int64(lowest)+1, h.LiveTokens(p)
	return m
}

// Follow implements OwnerService. What changes while a message is on its way goes with the
// next one.
func (s *Server) Follow(stream clusterv1.OwnerService_FollowServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := s.Find(first.GetNamespace(), first.GetIncarnation())
	if h == nil {
		return status.Errorf(codes.NotFound, "namespace %.64q is not held here", first.GetNamespace())
	}
	ctx := stream.Context()
	g := h.Progress()
	f := &following{dirty: make([]bool, g.Partitions()), poke: make(chan struct{}, 1)}
	remove := g.OnChange(f.change)
	defer remove()
	for p := range wal.Partition(g.Partitions()) {
		f.change(p)
	}
	go s.hear(ctx, stream, g) // until the stream ends, which it does when this returns
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.poke:
		case <-tick.C:
			for p := range wal.Partition(g.Partitions()) {
				f.change(p)
			}
		case <-s.Done:
			return status.Error(codes.Unavailable, "the process is shutting down")
		case <-ctx.Done():
			return nil
		}
		if s.Find(first.GetNamespace(), first.GetIncarnation()) != h { // it was opened anew, or closed
			return status.Error(codes.Unavailable, "the namespace is being opened")
		}
		m := &clusterv1.FollowResponse{}
		for _, p := range f.take() {
			if _, held := h.Epoch(p); held {
				m.Partitions = append(m.Partitions, s.partition(h, p))
			}
		}
		if len(m.Partitions) == 0 {
			continue
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// tellEvery is how often all partitions are told of, for what changes without progress.
const tellEvery = time.Second

// hear has the stores of partitions that somebody waits for hold nothing back.
func (s *Server) hear(ctx context.Context, stream clusterv1.OwnerService_FollowServer, g *wal.Progress) {
	waiting := make([]atomic.Bool, g.Partitions())
	var work sync.WaitGroup
	defer work.Wait()
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		for _, w := range m.GetWanted() {
			if int64(w) >= int64(g.Partitions()) || waiting[w].Swap(true) {
				continue
			}
			work.Go(func() {
				defer waiting[w].Store(false)
				soon, cancel := context.WithTimeout(ctx, wantedAgain)
				defer cancel()
				_ = g.Wait(soon, wal.Partition(w), g.Applied(wal.Partition(w))+1) // to be seen waiting is all
			})
		}
	}
}

// following is the partitions that have changed since a stream told of them.
type following struct {
	mu    sync.Mutex // guards dirty
	dirty []bool
	poke  chan struct{} // holds one
}

func (f *following) change(p wal.Partition) {
	f.mu.Lock()
	f.dirty[p] = true
	f.mu.Unlock()
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

func (f *following) take() (all []wal.Partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, d := range f.dirty {
		if d {
			all = append(all, wal.Partition(p))
			f.dirty[p] = false
		}
	}
	return all
}
