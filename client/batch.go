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

// batcher lets concurrent writes to a namespace share requests, puts or messages. The first is
// sent at once; what comes while it is under way goes out together when its
// answer is there: the larger a request, the more writes share one fsync. A second
// request at the same time is begun only when a whole one is waiting, or when
// the first takes longer than patience, so that one that hangs does not hold up
// the others. A write that has to be tried again comes back by itself, with its
// token. What waits is bounded by the callers, each of which waits for its one
// write. R is what answers one.
type batcher[R any] struct {
	c        *Client
	inFlight int
	// exchange sends a request and returns what answers each write of it.
	exchange func(ctx context.Context, s *sending[R]) []replied[R]

	mu      sync.Mutex // guards what follows, and taken and left of writes
	queue   []*pending[R]
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

// pending is one write in one attempt.
type pending[R any] struct {
	frame []byte
	items int
	done  chan replied[R] // takes one without blocking
	taken *sending[R]     // nil while it waits
	left  bool            // its caller has gone
}

type replied[R any] struct {
	res R
	err *Error
}

// sending is one request of several writes.
type sending[R any] struct {
	head    []byte // what the request has before them
	all     []*pending[R]
	waiting int  // callers, guarded by batcher.mu
	late    bool // guarded by batcher.mu
	done    bool // guarded by batcher.mu
	cancel  context.CancelFunc
}

func (c *Client) batcher(k batchKey) *batcher[*headwaterv1.PutItemsResponse] {
	if b, ok := c.batchers.Load(k); ok {
		return b.(*batcher[*headwaterv1.PutItemsResponse])
	}
	b, _ := c.batchers.LoadOrStore(k, &batcher[*headwaterv1.PutItemsResponse]{c: c, inFlight: c.cfg.BatchInFlight, exchange: c.exchangePuts})
	return b.(*batcher[*headwaterv1.PutItemsResponse])
}

// write sends one frame, together with others, and waits for its answer.
func (b *batcher[R]) write(ctx context.Context, frame []byte, items int) (none R, _ *Error) {
	p := &pending[R]{frame: frame, items: items, done: make(chan replied[R], 1)}
	b.mu.Lock()
	b.queue = append(b.queue, p)
	b.queued += len(frame)
	if b.senders == b.late || len(b.queue) >= b.c.cfg.BatchItems || b.queued >= b.c.cfg.BatchBytes {
		if !b.startLocked() && b.senders == 0 {
			b.queue, b.queued = b.queue[:len(b.queue)-1], b.queued-len(frame)
			b.mu.Unlock()
			return none, closedError(NotApplied)
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
		return none, e
	}
}

// until sends a write under a token until it is answered. check is what an answer says against it; nil: it is well.
func (b *batcher[R]) until(ctx context.Context, token Token, frame []byte, items int, check func(R) *Error) (none R, _ error) {
	a := b.c.attempts(ctx, writesOnce, token)
	for {
		if ctx.Err() != nil {
			e := ended(ctx, a.last)
			e.Outcome = NotApplied
			return none, a.fail(e)
		}
		res, e := b.write(ctx, frame, items)
		if e == nil && check != nil {
			e = check(res)
		}
		if e == nil {
			return res, nil
		}
		if err := a.next(ctx, e); err != nil {
			return none, err
		}
	}
}

// startLocked starts a sender, unless there are enough or the client is closed.
func (b *batcher[R]) startLocked() bool {
	if b.senders >= b.inFlight || !b.c.begin() {
		return false
	}
	b.senders++
	go b.send()
	return true
}

// hurry starts a sender for what waits behind a request that takes long, and has
// what comes later not wait for it.
func (b *batcher[R]) hurry(s *sending[R]) {
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

func (b *batcher[R]) ended(s *sending[R]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.done = true
	if s.late {
		b.late--
	}
}

// leave takes a caller away. Its put is not sent when it was still waiting. last:
// it was the last that its request had, which is cancelled.
func (b *batcher[R]) leave(p *pending[R]) (o Outcome, last bool) {
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
func (b *batcher[R]) send() {
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
func (b *batcher[R]) take(cancel context.CancelFunc) *sending[R] {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &sending[R]{cancel: cancel}
	size, items, n := 0, 0, 0
	for _, p := range b.queue {
		if !p.left {
			if len(s.all) == b.c.cfg.BatchItems ||
				len(s.all) > 0 && (size+len(p.frame) > b.c.cfg.BatchBytes || items+p.items > maxBatchItems) {
				break
			}
			size += len(p.frame)
			items += p.items
			p.taken = s
			s.all = append(s.all, p)
		}
		n++
		b.queued -= len(p.frame)
	}
	rest := copy(b.queue, b.queue[n:])
	clear(b.queue[rest:])
	b.queue = b.queue[:rest]
	if len(s.all) == 0 {
		b.senders--
		return nil
	}
	s.waiting = len(s.all)
	return s
}

// do sends one request and hands out its answers.
func (b *batcher[R]) do(ctx context.Context, s *sending[R]) {
	for i, a := range b.exchange(ctx, s) {
		s.all[i].done <- a
	}
}

// invoke sends a request of several writes. sent is false when no connection took it.
func (c *Client) invoke(ctx context.Context, method string, s framed, res proto.Message) (sent bool, err error) {
	var p peer.Peer
	err = c.conn.Invoke(ctx, method, s, res, grpc.ForceCodecV2(frames{}), grpc.Peer(&p))
	return p.Addr != nil, err
}

// failed is an answer of the same error to each write.
func (s *sending[R]) failed(e *Error) []replied[R] {
	out := make([]replied[R], len(s.all))
	for i := range out {
		out[i].err = e
	}
	return out
}

// exchangePuts sends puts.
func (c *Client) exchangePuts(ctx context.Context, s *sending[*headwaterv1.PutItemsResponse]) []replied[*headwaterv1.PutItemsResponse] {
	res := &headwaterv1.BatchPutItemsResponse{}
	sent, err := c.invoke(ctx, headwaterv1.KeyValueService_BatchPutItems_FullMethodName, s, res)
	if err == nil && len(res.GetResponses()) != len(s.all) {
		err = corrupt(fmt.Sprintf("the server gave %d answers to %d puts", len(res.GetResponses()), len(s.all)), nil)
	}
	if err != nil {
		return s.failed(c.failure(err, true, sent))
	}
	out := make([]replied[*headwaterv1.PutItemsResponse], len(s.all))
	for i, r := range res.GetResponses() {
		out[i] = answerOf(r)
	}
	return out
}

func answerOf(m *headwaterv1.BatchPutItemsResult) (a replied[*headwaterv1.PutItemsResponse]) {
	switch r := m.GetResult().(type) {
	case *headwaterv1.BatchPutItemsResult_Response:
		a.res = r.Response
	case *headwaterv1.BatchPutItemsResult_Error:
		a.err = fromItem(r.Error)
	default:
		a.err = &Error{Code: codes.Internal, Message: "the server gave no answer to a put", Outcome: Unknown}
	}
	return a
}

// frame encodes a write as an element of a request, of the field's number, so that a request
// is the frames of its writes behind one another, and one that is tried again is
// not encoded again. Nothing of req is kept.
func frame(field protowire.Number, req proto.Message) ([]byte, error) {
	size := proto.Size(req)
	b := make([]byte, 0, size+1+protowire.SizeVarint(uint64(size)))
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, req)
	if err != nil {
		return nil, fmt.Errorf("encode a write: %w", err)
	}
	return b, nil
}

// frames is the codec of a request that is encoded already.
type frames struct{}

var protoCodec = encoding.GetCodecV2(encproto.Name)

// framed is such a request: it gives its parts to f, in order.
type framed interface{ parts(f func(b []byte)) }

func (s *sending[R]) parts(f func(b []byte)) {
	f(s.head)
	for _, p := range s.all {
		f(p.frame)
	}
}

func (frames) Marshal(v any) (mem.BufferSlice, error) {
	s, ok := v.(framed)
	if !ok {
		return nil, fmt.Errorf("encode batch: it is a %T", v)
	}
	size := 0
	s.parts(func(b []byte) { size += len(b) })
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	n := 0
	s.parts(func(b []byte) { n += copy((*buf)[n:], b) })
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

func (frames) Unmarshal(data mem.BufferSlice, v any) error { return protoCodec.Unmarshal(data, v) }

func (frames) Name() string { return encproto.Name }
