package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/wal"
)

// SenderConfig is what a Sender is made of. All but Settled is required.
type SenderConfig struct {
	Outbox     Outbox
	Partitions int
	// Ready reports whether a partition is delivered here and now: its log was applied to its end as of the start, so
	// that what became of its messages is known.
	Ready func(p wal.Partition) bool
	// Do runs f in the goroutine of the partition's applier, between batches.
	Do func(ctx context.Context, p wal.Partition, f func(context.Context) error) error
	// Sync makes durable what was settled.
	Sync func() error
	// Decide appends what becomes of a message, and returns when it is applied.
	Decide func(ctx context.Context, p wal.Partition, e *Event) error
	Now    func() time.Time // the log's clock
	// LogTime is the log time of the last record of a partition that is applied, microseconds since 1970.
	LogTime func(p wal.Partition) int64
	// Tick appends a record that does nothing, and returns when it is applied: log time is not below Now of before.
	Tick func(ctx context.Context, p wal.Partition) error
	// ID is that of a message, for receivers.
	ID func(p wal.Partition, o wal.Offset) string
	// Observe is told of each attempt: "delivered" with how long after its time, "retried" or "dead".
	Observe func(target, outcome string, late time.Duration)
	// Settled is told that what came of attempts is written down; nil: nobody waits for it.
	Settled func()
	Logger  *slog.Logger
}

// Sender brings the messages of a namespace to their targets: what is due, in order of its time, and after an
// attempt that failed again. A message is delivered at least once: where the process ends between an attempt and
// what is written down of it, the next one makes it again. Safe for concurrent use.
type Sender struct {
	cfg   SenderConfig
	parts []*settler
	work  sync.WaitGroup
	run   context.Context
	stop  context.CancelFunc

	configuring sync.Mutex // held while lanes are begun and ended
	// awaited is the newest version of the document that was waited for.
	awaited atomic.Uint64

	mu    sync.Mutex // guards what follows
	lanes map[string]*begun
}

// carrier brings messages to one target.
type carrier interface {
	config() *LaneConfig
	// run returns when ctx is done and nothing is under way.
	run(ctx context.Context)
	// lower says that deliveries may begin that are at a time or later.
	lower(p wal.Partition, at int64)
	// asOf says that the lane is as a version of the document has it, and rouses it.
	asOf(version uint64)
	state(ctx context.Context) LaneState
	close() error
}

// begun is one that runs.
type begun struct {
	carrier
	cancel context.CancelFunc
	ended  chan struct{}
}

// NewSender returns a sender that has no targets yet. It is stopped by Close.
func NewSender(cfg SenderConfig) *Sender {
	s := &Sender{cfg: cfg, lanes: make(map[string]*begun)}
	s.run, s.stop = context.WithCancel(context.Background())
	for p := range wal.Partition(cfg.Partitions) {
		q := &settler{s: s, p: p, in: make(chan settling)}
		s.parts = append(s.parts, q)
		s.work.Go(q.run)
	}
	return s
}

// Await has no attempt begin at a message that is applied after the call, until Configure was told of this version of
// the document or a newer one: a message does not go to where its target was before.
func (s *Sender) Await(version uint64) {
	for was := s.awaited.Load(); was < version; was = s.awaited.Load() {
		if s.awaited.CompareAndSwap(was, version) {
			return
		}
	}
}

// Configure has messages brought to these targets, which are those of a version of the document. A lane that stays as
// it was goes on; attempts of one that changes are made to their end first.
func (s *Sender) Configure(version uint64, cfgs []*LaneConfig) error {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	if s.run.Err() != nil {
		return wal.ErrClosed
	}
	var errs []error
	stay := make(map[string]bool)
	for _, c := range cfgs {
		if cur := s.lane(c.Name); cur != nil && c.Same(cur.config().Settings) {
			stay[c.Name] = true
			cur.asOf(version)
		}
	}
	for _, c := range cfgs {
		if stay[c.Name] {
			continue
		}
		cur := s.lane(c.Name)
		errs = append(errs, s.end(cur))
		if s.run.Err() != nil {
			return errors.Join(append(errs, wal.ErrClosed)...)
		}
		l, err := s.open(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("open target %s: %w", c.Name, err))
			continue
		}
		stay[c.Name] = true
		l.asOf(version)
		s.begin(l)
	}
	for _, l := range s.all() {
		if !stay[l.config().Name] {
			errs = append(errs, s.end(l))
		}
	}
	return errors.Join(errs...)
}

func (s *Sender) open(c *LaneConfig) (carrier, error) {
	if c.Relay != nil {
		to, err := c.Relay()
		if err != nil {
			return nil, err
		}
		return newRelay(s, c, to), nil
	}
	r, err := c.Open()
	if err != nil {
		return nil, err
	}
	return newLane(s, c, r), nil
}

func (s *Sender) begin(c carrier) {
	l := &begun{carrier: c, ended: make(chan struct{})}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(s.run)
	s.mu.Lock()
	s.lanes[c.config().Name] = l
	s.mu.Unlock()
	s.work.Go(func() {
		defer close(l.ended)
		l.run(ctx)
	})
}

// attempt is a message as a receiver gets it.
func (s *Sender) attempt(p wal.Partition, d *Delivery, m *Pending) *Attempt {
	a := &Attempt{
		ID: s.cfg.ID(p, d.Offset), Token: m.Token, Headers: m.Headers, Payload: m.Payload, Number: d.Attempts + 1, Time: s.cfg.Now(), key: m.Key,
	}
	if !m.Keyless {
		a.Key = string(m.Key)
	}
	return a
}

func (s *Sender) lane(name string) *begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes[name]
}

func (s *Sender) all() []*begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.lanes), func(a, b *begun) int { return strings.Compare(a.config().Name, b.config().Name) })
}

// end ends a lane when its attempts have ended. The caller holds configuring.
func (s *Sender) end(l *begun) error {
	if l == nil {
		return nil
	}
	s.mu.Lock()
	delete(s.lanes, l.config().Name)
	s.mu.Unlock()
	l.cancel()
	<-l.ended
	return l.close()
}

// graceful is how long Close waits for attempts that are being made.
const graceful = 5 * time.Second

// Close begins no more attempts, and returns when those that are being made have ended, or soon after.
func (s *Sender) Close() error {
	t := time.AfterFunc(graceful, s.stop)
	defer t.Stop()
	for _, l := range s.all() {
		l.cancel()
	}
	s.configuring.Lock() // for which a lane that is being changed may wait, until its attempts have ended
	defer s.configuring.Unlock()
	var errs []error
	for _, l := range s.all() {
		errs = append(errs, s.end(l))
	}
	s.stop()
	s.work.Wait()
	return errors.Join(errs...)
}

// Next is told of deliveries that may begin now, or have another time than before; see ApplierConfig.Next.
func (s *Sender) Next(p wal.Partition, next []Delivery) {
	least := make(map[string]int64)
	for i := range next {
		if at, ok := least[next[i].Target]; !ok || next[i].At < at {
			least[next[i].Target] = next[i].At
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for target, at := range least {
		if l := s.lanes[target]; l != nil {
			l.lower(p, at)
		}
	}
}

// States tells how each lane fares.
func (s *Sender) States(ctx context.Context) (out []LaneState) {
	for _, l := range s.all() {
		out = append(out, l.state(ctx))
	}
	return out
}

// settle returns when an outcome is written down; false: there is nothing any more that it is of, ctx is done, or
// another process has the partition.
func (s *Sender) settle(ctx context.Context, p wal.Partition, o Outcome) bool {
	done := make(chan bool, 1)
	select {
	case s.parts[p].in <- settling{o, done}:
	case <-ctx.Done():
		return false
	}
	return <-done
}

// dead gives a delivery up, and reports whether it could before ctx was done or another process had the partition.
func (s *Sender) dead(ctx context.Context, p wal.Partition, e *Event) bool {
	return s.again(ctx, p, "give a delivery up", func() error { return s.cfg.Decide(ctx, p, e) })
}

// again calls f until it returns nil or ctx is done, and reports whether it did.
func (s *Sender) again(ctx context.Context, p wal.Partition, what string, f func() error) bool {
	bo := backoff.NewExponentialBackOff(backoff.WithInitialInterval(10*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	for n := 0; ; n++ {
		err := f()
		if err == nil {
			return true
		}
		if ctx.Err() != nil || !s.cfg.Ready(p) { // another process goes on
			return false
		}
		if n == 5 {
			s.cfg.Logger.Warn("what came of an attempt cannot be written down; it is tried again", "what", what, "partition", uint32(p), "reason", err)
		}
		t := time.NewTimer(bo.NextBackOff())
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// settling is an outcome on its way to the store.
type settling struct {
	o    Outcome
	done chan<- bool // has room for one
}

// settler writes down what came of the attempts of a partition: what comes while one change is made goes into the next.
type settler struct {
	s  *Sender
	p  wal.Partition
	in chan settling
}

// settleMost is how many outcomes one change has.
const settleMost = 1000

func (q *settler) run() {
	ctx := q.s.run
	for {
		var all []settling
		select {
		case o := <-q.in:
			all = append(all, o)
		case <-ctx.Done():
			return
		}
	gather:
		for len(all) < settleMost {
			select {
			case o := <-q.in:
				all = append(all, o)
			default:
				break gather
			}
		}
		q.settle(ctx, all)
	}
}

func (q *settler) settle(ctx context.Context, all []settling) {
	outcomes, begins := make([]Outcome, len(all)), false
	for i := range all {
		outcomes[i] = all[i].o
		begins = begins || all[i].o.What == Begins
	}
	ok := q.s.write(ctx, q.p, outcomes, begins)
	for i := range all {
		all[i].done <- ok && !outcomes[i].Gone
	}
}

// write writes outcomes down, durably where some attempts begin, and reports whether it could before ctx was done or
// another process had the partition.
func (s *Sender) write(ctx context.Context, p wal.Partition, outcomes []Outcome, begin bool) bool {
	var next []Delivery
	ok := s.again(ctx, p, "settle", func() error {
		return s.cfg.Do(ctx, p, func(ctx context.Context) (err error) {
			next, err = s.cfg.Outbox.Settle(ctx, p, outcomes)
			return err
		})
	})
	if ok && begin { // a cancel must not find the mark lost after a crash
		ok = s.again(ctx, p, "sync", s.cfg.Sync)
	}
	s.Next(p, next)
	if ok && s.cfg.Settled != nil {
		s.cfg.Settled()
	}
	return ok
}
