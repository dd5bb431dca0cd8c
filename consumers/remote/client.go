package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/wal"
)

// connectParams: an owner that was started again is found soon.
var connectParams = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: time.Second,
}

// Config is what a Client is made of.
type Config struct {
	Namespace string
	Info      wal.TopicInfo // of its log
	Progress  *wal.Progress // is raised to what owners tell
	Book      *decisions.Book
	Peers     *Peers
	Logger    *slog.Logger
	// Hold reports whether the owners' stores hold records back until somebody waits for
	// them: then they are told when somebody does.
	Hold func() bool
}

// Client asks the owners of a namespace. Safe for concurrent use.
type Client struct {
	cfg   Config
	start time.Time // of what is counted in parts, so that a clock that is set does not matter
	parts []part
}

// part is what an owner told of a partition last.
type part struct {
	noting sync.Mutex // held while what was told is taken into account

	parkedVersion atomic.Uint64
	known         atomic.Pointer[parkedKeys] // of an older version perhaps; nil: none

	parkedKeys, parkedLowest, liveTokens atomic.Int64
	stopped, silent                      atomic.Bool
	heard                                atomic.Int64 // when the owner told something last, as away
	// away is when the owner could not be asked last, since is when that began, nanoseconds since
	// Client.start; 0: it could.
	away, since atomic.Int64
}

// New returns a client. It hears of no progress until Run.
func New(cfg Config) *Client {
	return &Client{cfg: cfg, start: time.Now(), parts: make([]part, cfg.Info.Partitions)}
}

func (c *Client) now() int64 { return int64(time.Since(c.start)) }

// LiveTokens is how many tokens the owners remember, as they told last.
func (c *Client) LiveTokens() (n int64) {
	for i := range c.parts {
		n += c.parts[i].liveTokens.Load()
	}
	return n
}

const (
	// patience is how long a question waits for an owner that can be asked: long enough for one
	// that is started again, or takes over as planned.
	patience = 2 * time.Second
	// lostPatience is how long an owner must have been away before nobody waits any more.
	lostPatience = 10 * time.Second
	// askAgain is how often an owner that does not answer is asked again meanwhile.
	askAgain = 50 * time.Millisecond
)

// AskParts is Ask whose answer comes in parts, which it hands to f. Once a part has come nothing is
// asked again: a failure is the caller's.
func (c *Client) AskParts(ctx context.Context, p wal.Partition, req *clusterv1.AskRequest, f func(*clusterv1.AskResponse) error) error {
	return c.patiently(ctx, p, func() error {
		return c.askOwner(ctx, p, req, func(owner clusterv1.OwnerServiceClient) error { return c.partsOf(ctx, owner, req, f) })
	})
}

func (c *Client) partsOf(ctx context.Context, owner clusterv1.OwnerServiceClient, req *clusterv1.AskRequest, f func(*clusterv1.AskResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := owner.AskParts(ctx, &clusterv1.AskPartsRequest{Ask: req})
	for heard := false; err == nil; heard = true {
		var m *clusterv1.AskPartsResponse
		switch m, err = stream.Recv(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && heard:
			return fmt.Errorf("a part of the answer is missing: %w: %w", errCutShort, err)
		case err == nil:
			c.note(m.GetPart().GetPartition())
			if err := f(m.GetPart()); err != nil {
				return fmt.Errorf("%w: %w", errCutShort, err)
			}
		}
	}
	return err
}

// errCutShort: a part of an answer is used already.
var errCutShort = errors.New("the answer was cut short")

// Ask sends a question to the owner of p, which answers once everything is applied that is
// applied here. It waits a moment for an owner that cannot be asked. Errors:
// consumers.ErrOwnerAway; those that the owner answers, as a gRPC status; ctx.Err().
func (c *Client) Ask(ctx context.Context, p wal.Partition, req *clusterv1.AskRequest) (resp *clusterv1.AskResponse, err error) {
	err = c.patiently(ctx, p, func() (err error) {
		resp, err = c.askNow(ctx, p, req)
		return err
	})
	return resp, err
}

// AskOnce is Ask that does not wait for an owner that is away.
func (c *Client) AskOnce(ctx context.Context, p wal.Partition, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	return c.askNow(ctx, p, req)
}

// patiently does ask again while the owner of p is away, for a moment.
func (c *Client) patiently(ctx context.Context, p wal.Partition, ask func() error) error {
	var until time.Time
	for {
		changed := c.cfg.Book.Changed()
		err := ask()
		if !errors.Is(err, consumers.ErrOwnerAway) {
			return err
		}
		now := time.Now()
		if until.IsZero() {
			until = now.Add(patience)
		}
		since := c.parts[p].since.Load()
		if now.After(until) || c.Silent(p) || since != 0 && c.now()-since > int64(lostPatience) {
			return err
		}
		t := time.NewTimer(askAgain)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		t.Stop()
	}
}

// askNow is Ask that does not wait for an owner.
func (c *Client) askNow(ctx context.Context, p wal.Partition, req *clusterv1.AskRequest) (resp *clusterv1.AskResponse, err error) {
	err = c.askOwner(ctx, p, req, func(owner clusterv1.OwnerServiceClient) (err error) {
		if resp, err = owner.Ask(ctx, req); err == nil {
			c.note(resp.GetPartition())
		}
		return err
	})
	return resp, err
}

// askOwner has ask put a question to the owner of p. One that was the wrong one is followed by the
// next, once.
func (c *Client) askOwner(ctx context.Context, p wal.Partition, req *clusterv1.AskRequest, ask func(clusterv1.OwnerServiceClient) error) error {
	inc := c.cfg.Info.Incarnation
	req.Namespace, req.Incarnation, req.Partition = c.cfg.Namespace, inc[:], uint32(p)
	req.At = int64(c.cfg.Progress.Applied(p)) + 1
	if c.Silent(p) { // it was waited for already
		return c.isAway(p, errors.New("nothing is heard of it"))
	}
	asked := decisions.Claim{Epoch: wal.NoOffset}
	for {
		claim, ok := c.cfg.Book.Holder(p)
		if !ok || claim.Address == "" {
			return c.isAway(p, errors.New("no process with an internal listener has claimed it"))
		}
		if asked.Epoch != wal.NoOffset && claim.Epoch == asked.Epoch {
			return c.isAway(p, errors.New("the process that claimed it last does not hold it, and no other has claimed it"))
		}
		conn, err := c.cfg.Peers.Conn(claim.Address)
		if err != nil {
			return c.isAway(p, err)
		}
		req.Epoch = int64(claim.Epoch)
		err = ask(clusterv1.NewOwnerServiceClient(conn))
		switch {
		case err == nil, errors.Is(err, errCutShort):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("ask the owner of partition %d at %s: %w", p, claim.Address, ctx.Err())
		case isWrongOwner(err) && asked.Epoch == wal.NoOffset:
			asked = claim
			continue
		case isWrongOwner(err), status.Code(err) == codes.Unavailable && !ours(err):
			return c.isAway(p, fmt.Errorf("at %s: %w", claim.Address, err))
		}
		return fmt.Errorf("the owner of partition %d: %w", p, err)
	}
}

func (c *Client) isAway(p wal.Partition, cause error) error {
	now := max(1, c.now())
	c.parts[p].since.CompareAndSwap(0, now)
	c.parts[p].away.Store(now)
	return fmt.Errorf("partition %d of namespace %s: %w: %w", p, c.cfg.Namespace, consumers.ErrOwnerAway, cause)
}

// awayFor is how long an owner that could not be asked is not asked again about what can
// be done without it.
const awayFor = 500 * time.Millisecond

// Away reports whether the owner of p could not be asked a moment ago.
func (c *Client) Away(p wal.Partition) bool {
	at := c.parts[p].away.Load()
	return at != 0 && c.now()-at < int64(awayFor)
}

// note takes what an owner tells of a partition into account. What is parked comes first:
// it is as of the offset, or newer.
func (c *Client) note(m *clusterv1.Partition) {
	if m == nil || int(m.GetPartition()) >= len(c.parts) {
		return
	}
	p := wal.Partition(m.GetPartition())
	q := &c.parts[p]
	q.noting.Lock()
	defer q.noting.Unlock()
	q.away.Store(0)
	q.since.Store(0)
	q.heard.Store(c.now())
	if q.silent.Swap(false) {
		c.cfg.Progress.Resume(p)
		q.stopped.Store(false)
	}
	if wal.Offset(m.GetApplied())-1 < c.cfg.Progress.Applied(p) {
		return // a newer one came first, or the owner is a new one that is behind
	}
	q.parkedVersion.Store(m.GetParkedVersion())
	q.parkedKeys.Store(m.GetParkedKeys())
	q.parkedLowest.Store(m.GetParkedLowest())
	q.liveTokens.Store(m.GetLiveTokens())
	if o := wal.Offset(m.GetApplied()) - 1; o > c.cfg.Progress.Applied(p) {
		c.cfg.Progress.Advance(p, o, m.GetLogTime())
	}
	switch why := m.GetStopped(); {
	case why != "":
		if !q.stopped.Swap(true) {
			c.cfg.Progress.Stop(p, errors.New(why))
		}
	case q.stopped.Swap(false):
		c.cfg.Progress.Resume(p)
	}
}

// silentAfter is how long nothing must have been heard of an owner, which tells something each second,
// before reads wait for it no more.
const silentAfter = 3 * time.Second

// Heard reports whether an owner of p has ever told how far it is: then it can be asked.
func (c *Client) Heard(p wal.Partition) bool { return c.parts[p].heard.Load() != 0 }

// Silent reports whether nothing is heard of the owner of p.
func (c *Client) Silent(p wal.Partition) bool { return c.parts[p].silent.Load() }

// listen has reads of partitions fail at once while nothing is heard of their owners.
func (c *Client) listen(ctx context.Context) {
	t := time.NewTicker(silentAfter / 10)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			for p := range wal.Partition(len(c.parts)) {
				c.miss(p)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *Client) miss(p wal.Partition) {
	q := &c.parts[p]
	q.noting.Lock()
	defer q.noting.Unlock()
	if c.now()-q.heard.Load() < int64(silentAfter) || q.silent.Swap(true) {
		return
	}
	c.cfg.Progress.Resume(p) // of a reason to stop that is old
	c.cfg.Progress.Interrupt(p, fmt.Errorf("partition %d of namespace %s: %w: nothing is heard of it", p, c.cfg.Namespace, consumers.ErrOwnerAway))
}

// Run hears of the owners' progress until ctx is done.
func (c *Client) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { c.listen(ctx) })
	streams := make(map[string]context.CancelFunc) // by address
	for {
		changed := c.cfg.Book.Changed()
		wanted := make(map[string]bool)
		for p := range wal.Partition(c.cfg.Info.Partitions) {
			if claim, ok := c.cfg.Book.Holder(p); ok && claim.Address != "" {
				wanted[claim.Address] = true
			}
		}
		for address, cancel := range streams {
			if !wanted[address] {
				cancel()
				delete(streams, address)
			}
		}
		for address := range wanted {
			if streams[address] == nil {
				one, cancel := context.WithCancel(ctx)
				streams[address] = cancel
				work.Go(func() {
					defer cancel()
					c.follow(one, address)
				})
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// How long after a stream was lost the next is opened.
const (
	followSoonest = 20 * time.Millisecond
	followLatest  = time.Second
)

// follow hears of what the process at an address has applied until ctx is done.
func (c *Client) follow(ctx context.Context, address string) {
	pause, told := followSoonest, false
	for {
		heard, err := c.followOnce(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause, told = followSoonest, false
		}
		if !told {
			told = true
			c.cfg.Logger.Warn("the process that holds partitions of a namespace does not tell how far it is; it is tried again",
				"namespace", c.cfg.Namespace, "address", address, "reason", err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		pause = min(2*pause, followLatest)
	}
}

// followOnce hears of progress until the stream ends. heard: it has heard of some.
func (c *Client) followOnce(ctx context.Context, address string) (heard bool, err error) {
	conn, err := c.cfg.Peers.Conn(address)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	stream, err := clusterv1.NewOwnerServiceClient(conn).Follow(ctx, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	inc := c.cfg.Info.Incarnation
	if err := stream.Send(&clusterv1.FollowRequest{Namespace: c.cfg.Namespace, Incarnation: inc[:]}); err != nil {
		return false, err
	}
	if c.cfg.Hold() {
		var sending sync.Mutex
		for p := range wal.Partition(c.cfg.Info.Partitions) {
			work.Go(func() { c.tellWanted(ctx, p, &sending, stream) })
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		for _, q := range m.GetPartitions() {
			c.note(q)
		}
	}
}

// wantedAgain is how often an owner is told that somebody still waits.
const wantedAgain = 50 * time.Millisecond

// tellWanted tells the owner while somebody waits for p.
func (c *Client) tellWanted(ctx context.Context, p wal.Partition, sending *sync.Mutex, stream clusterv1.OwnerService_FollowClient) {
	for {
		select {
		case <-c.cfg.Progress.Wanted(p):
		case <-ctx.Done():
			return
		}
		sending.Lock()
		err := stream.Send(&clusterv1.FollowRequest{Wanted: []uint32{uint32(p)}})
		sending.Unlock()
		if err != nil {
			return // Recv tells
		}
		t := time.NewTimer(wantedAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}
