package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// batcher lets concurrent puts to a namespace share requests. The first put is
// sent at once; what comes while it is under way goes out together when its
// answer is there: the larger a request, the more puts share one fsync. A second
// request at the same time is begun only when a whole one is waiting, or when
// the first takes longer than patience, so that one that hangs does not hold up
// the others. A put that has to be tried again comes back by itself, with its
// token. What waits is bounded by the callers, each of which waits for its one
// put.
type batcher struct {
	c        *Client
	inFlight int

	mu      sync.Mutex // guards what follows, and taken and left of puts
	queue   []*pendingPut
	queued  int // bytes
	senders int
	late    int // senders whose requests have taken longer than patience
}

// maxBatchItems bounds the items of a request, whose answer has a version for each.
const maxBatchItems = 50_000

// patience is a few times what a request takes whose fsync is slow.
const patience = 10 * time.Millisecond

// batchKey tells batchers apart. A conditional put is answered when it is
// applied, and must not make others wait for that.
type batchKey struct {
	namespace   string
	conditional bool
}

// pendingPut is one put in one attempt.
type pendingPut struct {
	frame []byte
	items int
	done  chan putAnswer // takes one answer without blocking
	taken *sending       // nil while it waits
	left  bool           // its caller has gone
}

type putAnswer struct {
	res *headwaterv1.PutItemsResponse
	err *Error
}

// sending is one request of several puts.
type sending struct {
	puts    []*pendingPut
	waiting int  // callers, guarded by batcher.mu
	late    bool // guarded by batcher.mu
	done    bool // guarded by batcher.mu
	cancel  context.CancelFunc
}

func (c *Client) batcher(k batchKey) *batcher {
	if b, ok := c.batchers.Load(k); ok {
		return b.(*batcher)
	}
	b, _ := c.batchers.LoadOrStore(k, &batcher{c: c, inFlight: c.cfg.BatchInFlight})
	return b.(*batcher)
}

// put sends one frame, together with others, and waits for its answer.
func (b *batcher) put(ctx context.Context, frame []byte, items int) (*headwaterv1.PutItemsResponse, *Error) {
	p := &pendingPut{frame: frame, items: items, done: make(chan putAnswer, 1)}
	b.mu.Lock()
	b.queue = append(b.queue, p)
	b.queued += len(frame)
	if b.senders == b.late || len(b.queue) >= b.c.cfg.BatchItems || b.queued >= b.c.cfg.BatchBytes {
		if !b.startLocked() && b.senders == 0 {
			b.queue, b.queued = b.queue[:len(b.queue)-1], b.queued-len(frame)
			b.mu.Unlock()
			return nil, closedError(NotApplied)
		}
	}
	b.mu.Unlock()
	select {
	case a := <-p.done:
		return a.res, a.err
	case <-ctx.Done():
		e := ended(ctx, nil)
		var last bool
		if e.Outcome, last = b.leave(p); last {
			// Its request was cancelled for that, so it ends at once, and knows whether
			// it was sent.
			a := <-p.done
			if a.err == nil || a.err.Reason != "" {
				return a.res, a.err
			}
			e.Outcome = a.err.Outcome
		}
		return nil, e
	}
}

// startLocked starts a sender, unless there are enough or the client is closed.
func (b *batcher) startLocked() bool {
	if b.senders >= b.inFlight || !b.c.begin() {
		return false
	}
	b.senders++
	go b.send()
	return true
}

// hurry starts a sender for what waits behind a request that takes long, and has
// what comes later not wait for it.
func (b *batcher) hurry(s *sending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.done {
		return
	}
	s.late = true
	b.late++
	if len(b.queue) > 0 {
		b.startLocked()
	}
}

func (b *batcher) ended(s *sending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.done = true
	if s.late {
		b.late--
	}
}

// leave takes a caller away. Its put is not sent when it was still waiting. last:
// it was the last that its request had, which is cancelled.
func (b *batcher) leave(p *pendingPut) (o Outcome, last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.left = true
	if p.taken == nil {
		return NotApplied, false
	}
	p.taken.waiting--
	if last = p.taken.waiting == 0; last {
		p.taken.cancel()
	}
	return Unknown, last
}

// send sends requests until nothing waits.
func (b *batcher) send() {
	defer b.c.tasks.Done()
	for {
		ctx, cancel := context.WithTimeout(b.c.run, b.c.cfg.AttemptTimeout)
		s := b.take(cancel)
		if s == nil {
			cancel()
			return
		}
		late := time.AfterFunc(patience, func() { b.hurry(s) })
		b.do(ctx, s)
		late.Stop()
		b.ended(s)
		cancel()
	}
}

// take takes what waits, up to the bounds of a request. nil: nothing does, and
// the sender has to end.
func (b *batcher) take(cancel context.CancelFunc) *sending {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &sending{cancel: cancel}
	size, items, n := 0, 0, 0
	for _, p := range b.queue {
		if !p.left {
			if len(s.puts) == b.c.cfg.BatchItems ||
				len(s.puts) > 0 && (size+len(p.frame) > b.c.cfg.BatchBytes || items+p.items > maxBatchItems) {
				break
			}
			size += len(p.frame)
			items += p.items
			p.taken = s
			s.puts = append(s.puts, p)
		}
		n++
		b.queued -= len(p.frame)
	}
	rest := copy(b.queue, b.queue[n:])
	clear(b.queue[rest:])
	b.queue = b.queue[:rest]
	if len(s.puts) == 0 {
		b.senders--
		return nil
	}
	s.waiting = len(s.puts)
	return s
}

// do sends one request and hands out its answers.
func (b *batcher) do(ctx context.Context, s *sending) {
	res := &headwaterv1.BatchPutItemsResponse{}
	var p peer.Peer
	err := b.c.conn.Invoke(ctx, headwaterv1.KeyValueService_BatchPutItems_FullMethodName, s, res, grpc.ForceCodecV2(frames{}), grpc.Peer(&p))
	if err == nil && len(res.GetResponses()) != len(s.puts) {
		err = corrupt(fmt.Sprintf("the server gave %d answers to %d puts", len(res.GetResponses()), len(s.puts)), nil)
	}
	for i, put := range s.puts {
		if err != nil {
			put.done <- putAnswer{err: b.c.failure(err, true, p.Addr != nil)}
			continue
		}
		put.done <- answerOf(res.GetResponses()[i])
	}
}

func answerOf(m *headwaterv1.BatchPutItemsResult) putAnswer {
	switch r := m.GetResult().(type) {
	case *headwaterv1.BatchPutItemsResult_Response:
		return putAnswer{res: r.Response}
	case *headwaterv1.BatchPutItemsResult_Error:
		return putAnswer{err: fromItem(r.Error)}
	}
	return putAnswer{err: &Error{Code: codes.Internal, Message: "the server gave no answer to a put", Outcome: Unknown}}
}

// frame encodes a put as an element of BatchPutItemsRequest, so that a request
// is the frames of its puts behind one another, and a put that is tried again is
// not encoded again. Nothing of req is kept.
func frame(req *headwaterv1.PutItemsRequest) ([]byte, error) {
	size := proto.Size(req)
	b := make([]byte, 0, size+1+protowire.SizeVarint(uint64(size)))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, req)
	if err != nil {
		return nil, fmt.Errorf("encode put: %w", err)
	}
	return b, nil
}

// frames is the codec of a request that is encoded already.
type frames struct{}

var protoCodec = encoding.GetCodecV2(encproto.Name)

func (frames) Marshal(v any) (mem.BufferSlice, error) {
	s, ok := v.(*sending)
	if !ok {
		return nil, fmt.Errorf("encode batch: it is a %T", v)
	}
	size := 0
	for _, p := range s.puts {
		size += len(p.frame)
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	n := 0
	for _, p := range s.puts {
		n += copy((*buf)[n:], p.frame)
	}
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

func (frames) Unmarshal(data mem.BufferSlice, v any) error { return protoCodec.Unmarshal(data, v) }

func (frames) Name() string { return encproto.Name }
