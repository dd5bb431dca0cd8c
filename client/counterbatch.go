package client

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// adder lets concurrent adds to a namespace share requests. An add goes into the
// open request. That is sent when it is full, when no other request is under way,
// or when it has been open for linger, and at most inFlight at once: so a lone
// add does not wait, many share one fsync, and a request that hangs holds up
// nobody for longer than linger. What is not answered is bounded; beyond it
// callers wait their turn.
type adder struct {
	c         *Client
	namespace string

	mu      sync.Mutex // guards what follows, and the parts of addBatch that say so
	full    []*addBatch
	open    *addBatch
	timer   *time.Timer // runs hurry when open has been open for linger
	senders int
	adds    int // not answered, and those that were let in and are not in a request yet
	bytes   int
	waiters []*addWaiter
	closed  bool
	stats   CounterStats
}

// addBatch is one request of adds.
type addBatch struct {
	opened time.Time
	frames *[]byte // of the adds, one behind the other
	ends   []int   // of the frames
	// index are the places that the adds had when they came, where some were taken
	// out since; nil: none was.
	index []int
	bytes int // as it was counted when the adds came
	count int

	// Guarded by adder.mu.
	gone    []int // adds whose callers left before it was sent
	waiting int   // callers
	cancel  context.CancelFunc

	// done is closed when what follows is final.
	done   chan struct{}
	res    WriteResult
	err    *Error
	failed map[int]*Error // adds that failed by themselves, by the places they had when they came
}

// addWaiter is a caller that waits for the queue to have room.
type addWaiter struct {
	size  int
	ready chan struct{} // closed when it was let in, or the client closes
	in    bool          // guarded by adder.mu
}

// CounterStats says what the adds to one namespace are doing. See Counter.Stats.
type CounterStats struct {
	// Queued is how many adds have no answer yet, QueuedBytes their size, as sent;
	// Config.AddQueue and AddQueueBytes bound them.
	Queued, QueuedBytes int
	// Waiting is how many callers wait for the queue to have room.
	Waiting int
	// InFlight is how many requests are under way.
	InFlight int
	// Adds and Requests are how many were answered so far, with or without
	// success; Blocked how many of the adds had to wait for room.
	Adds, Requests, Blocked int64
	// Retries is how many requests were sent again, Splits how often one was
	// without an add that was refused.
	Retries, Splits int64
}

// Stats says what this client's adds to the namespace are doing.
func (n *Counter) Stats() CounterStats {
	b := n.c.adder(n.namespace)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Queued, s.QueuedBytes, s.Waiting, s.InFlight = b.adds, b.bytes, len(b.waiters), b.senders
	return s
}

func (c *Client) adder(namespace string) *adder {
	if b, ok := c.adders.Load(namespace); ok {
		return b.(*adder)
	}
	b, _ := c.adders.LoadOrStore(namespace, &adder{c: c, namespace: namespace})
	return b.(*adder)
}

var batchPool = sync.Pool{New: func() any { return new([]byte) }}

// add sends one add, together with others, and waits for its answer. a is not
// kept.
func (b *adder) add(ctx context.Context, a *CounterAdd) (WriteResult, error) {
	if ctx.Err() != nil {
		return WriteResult{}, b.ended(ctx, a, NotApplied)
	}
	size := sizeAdd(a)
	size += 1 + varintSize(size)
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return WriteResult{}, closedError(NotApplied)
	}
	if len(b.waiters) > 0 || !b.roomLocked(size) {
		if e := b.waitLocked(ctx, size); e != nil { // unlocks when it fails
			e.Token = a.Token
			return WriteResult{}, e
		}
	} else {
		b.adds, b.bytes = b.adds+1, b.bytes+size
	}
	x, i := b.enqueueLocked(a, size)
	if b.senders == 0 || len(b.full) > 0 {
		if !b.startLocked() && b.senders == 0 { // the client is closed, and x has this add alone
			b.open, b.full = nil, nil
			b.releaseLocked(1, size)
			b.mu.Unlock()
			return WriteResult{}, closedError(NotApplied)
		}
	}
	b.mu.Unlock()
	if ctx.Done() == nil {
		<-x.done
		return x.answer(i, a)
	}
	select {
	case <-x.done:
		return x.answer(i, a)
	case <-ctx.Done():
		return b.leave(ctx, x, i, a)
	}
}

// varintSize is that of a frame's length, which is below 2^14.
func varintSize(n int) int {
	if n < 1<<7 {
		return 1
	}
	return 2
}

// enqueueLocked puts an add into the open request and returns its place there.
func (b *adder) enqueueLocked(a *CounterAdd, size int) (*addBatch, int) {
	cfg := &b.c.cfg
	if x := b.open; x != nil && len(*x.frames)+size > cfg.AddBytes {
		b.sealLocked()
	}
	if b.open == nil {
		b.open = &addBatch{opened: time.Now(), frames: batchPool.Get().(*[]byte), done: make(chan struct{})}
		*b.open.frames = (*b.open.frames)[:0]
		if b.timer == nil {
			b.timer = time.AfterFunc(cfg.AddLinger, b.hurry)
		} else {
			b.timer.Reset(cfg.AddLinger)
		}
	}
	x := b.open
	*x.frames = appendAdd(*x.frames, a)
	x.ends = append(x.ends, len(*x.frames))
	x.bytes += size
	x.waiting++
	i := x.count
	if x.count++; x.count >= cfg.AddItems {
		b.sealLocked()
	}
	return x, i
}

func (b *adder) sealLocked() {
	b.full = append(b.full, b.open)
	b.open = nil
	b.timer.Stop()
}

// startLocked starts a sender, unless there are enough or the client is closed.
func (b *adder) startLocked() bool {
	if b.senders >= b.c.cfg.BatchInFlight || !b.c.beginAdding() {
		return false
	}
	b.senders++
	go b.send()
	return true
}

// hurry starts a sender for adds that have waited for linger behind others.
func (b *adder) hurry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open != nil && time.Since(b.open.opened) >= b.c.cfg.AddLinger && !b.closed {
		b.startLocked() // else a sender that ends takes it
	}
}

// send sends requests until none is due.
func (b *adder) send() {
	defer b.c.adding.Done()
	for {
		// Those that the last answer woke, or that came with the first add, come along.
		runtime.Gosched()
		x, ctx := b.take()
		if x == nil {
			return
		}
		b.do(ctx, x)
		b.finish(x)
	}
}

// take takes the next request that is due. nil: none is, and the sender has to
// end.
func (b *adder) take() (*addBatch, context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		var x *addBatch
		switch {
		case len(b.full) > 0:
			x = b.full[0]
			b.full = slices.Delete(b.full, 0, 1)
		case b.open != nil && (b.senders == 1 || b.closed || time.Since(b.open.opened) >= b.c.cfg.AddLinger):
			x, b.open = b.open, nil
			b.timer.Stop()
		default:
			b.senders--
			return nil, nil
		}
		slices.Sort(x.gone)
		for _, i := range slices.Backward(x.gone) {
			x.remove(i)
		}
		if len(x.ends) == 0 { // all have left
			batchPool.Put(x.frames)
			b.releaseLocked(x.count, x.bytes)
			continue
		}
		ctx, cancel := context.WithDeadline(b.c.run, x.opened.Add(b.c.cfg.Timeout))
		x.cancel = cancel
		return x, ctx
	}
}

// remove takes the add at a place out.
func (x *addBatch) remove(place int) {
	if x.index == nil {
		x.index = make([]int, len(x.ends))
		for i := range x.index {
			x.index[i] = i
		}
	}
	from := 0
	if place > 0 {
		from = x.ends[place-1]
	}
	size := x.ends[place] - from
	*x.frames = slices.Delete(*x.frames, from, x.ends[place])
	x.ends = slices.Delete(x.ends, place, place+1)
	x.index = slices.Delete(x.index, place, place+1)
	for i := place; i < len(x.ends); i++ {
		x.ends[i] -= size
	}
}

// fail notes why the add at a place failed by itself.
func (x *addBatch) fail(place int, e *Error) {
	if x.failed == nil {
		x.failed = make(map[int]*Error)
	}
	if x.index != nil {
		place = x.index[place]
	}
	x.failed[place] = e
}

// do sends a request until its outcome is final.
func (b *adder) do(ctx context.Context, x *addBatch) {
	body := framePool.Get().(*[]byte)
	defer framePool.Put(body)
	for len(x.ends) > 0 {
		token := b.c.complete(Token{})
		*body = appendNamespace((*body)[:0], b.namespace)
		*body = append(*body, *x.frames...)
		*body = appendCallToken(*body, &token)
		res := new(headwaterv1.AddCountsResponse)
		refused, e := b.request(ctx, x, token, *body, res)
		if e == nil {
			x.res = b.c.result(b.namespace, res.GetResult(), token, nil)
			return
		}
		if refused < 0 {
			x.err = e
			if i, ok := e.add(len(x.ends)); ok && e.Outcome == Unknown && e.cause == nil {
				x.fail(i, e) // the others are not at fault, and may count
				x.err = &Error{Code: codes.Unknown, Outcome: Unknown, RequestID: e.RequestID, Message: "another add of the same request was refused when a part of it may have been taken: " + e.Message}
			}
			return
		}
		// Nothing of the request was taken, so its token names nothing, and the
		// others go again under a new one.
		x.fail(refused, e)
		x.remove(refused)
		b.count(func(s *CounterStats) { s.Splits++ })
	}
}

// request sends a request under one token until it is answered. refused is the
// place of the add that it was refused for, -1 when it is not one add's.
func (b *adder) request(ctx context.Context, x *addBatch, token Token, body []byte, res *headwaterv1.AddCountsResponse) (refused int, e *Error) {
	a := b.c.attempts(ctx, writesOnce, token)
	for {
		e := a.once(ctx, func(ctx context.Context, opts ...grpc.CallOption) error {
			return b.c.addCounts(ctx, body, res, opts...)
		})
		if e == nil {
			return -1, nil
		}
		if i, ok := e.add(len(x.ends)); ok && e.Outcome == NotApplied && !e.retryable() && (!a.maybe || e.decides()) {
			return i, a.fail(e)
		}
		if err := a.next(ctx, e); err != nil {
			last, ok := errors.AsType[*Error](err)
			if !ok { // next makes no other
				last = &Error{Message: err.Error(), Outcome: Unknown, cause: err}
			}
			return -1, last
		}
		b.count(func(s *CounterStats) { s.Retries++ })
	}
}

// add is which of n adds the server refused the request for.
func (e *Error) add(n int) (int, bool) {
	i, err := strconv.Atoi(e.Metadata["add"])
	return i, err == nil && i >= 0 && i < n
}

func (b *adder) count(f func(*CounterStats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.stats)
}

// finish tells the callers.
func (b *adder) finish(x *addBatch) {
	batchPool.Put(x.frames)
	x.frames = nil
	x.cancel()
	close(x.done)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Requests++
	b.stats.Adds += int64(x.count)
	b.releaseLocked(x.count, x.bytes)
}

// answer is that of the add that came as number i.
func (x *addBatch) answer(i int, a *CounterAdd) (WriteResult, error) {
	e := x.err
	if f := x.failed[i]; f != nil {
		e = f
	}
	own := !a.Token.IsZero()
	if e != nil {
		mine := *e
		mine.Token = a.Token // zero: the request's token is nothing to the caller
		return WriteResult{}, &mine
	}
	res := x.res
	if own {
		res.Token, res.Duplicate = a.Token, PerhapsRepeated
	}
	return res, nil
}

// leave takes a caller away. Its add is not sent when it was still waiting.
func (b *adder) leave(ctx context.Context, x *addBatch, i int, a *CounterAdd) (WriteResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-x.done:
		return x.answer(i, a)
	default:
	}
	x.waiting--
	if x.cancel == nil {
		x.gone = append(x.gone, i)
		return WriteResult{}, b.ended(ctx, a, NotApplied)
	}
	if x.waiting == 0 {
		x.cancel()
	}
	return WriteResult{}, b.ended(ctx, a, Unknown)
}

func (b *adder) ended(ctx context.Context, a *CounterAdd, o Outcome) *Error {
	e := ended(ctx, nil)
	e.Outcome, e.Token = o, a.Token
	return e
}
