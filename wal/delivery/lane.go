package delivery

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// LaneConfig is how messages come to one target. It is not changed.
type LaneConfig struct {
	Name        string
	Timeout     time.Duration // of an attempt
	Concurrency int           // attempts at a time
	Rate        int           // attempts a second; 0: no limit
	Retry       Retry
	// Breaker: after so many attempts in a row that failed one is made at a time, with the pauses of Retry between.
	// 0: never.
	Breaker int
	// Settings are what the lane is made of; Same reports whether others are the same.
	Settings any
	Same     func(was any) bool
	// Open opens the receiver.
	Open func() (Receiver, error)
	// Relay, in place of Open, opens what brings the messages of a partition to another log, all of them in order:
	// Concurrency and Breaker are of no account, and one that fails holds those behind it.
	Relay func() (Forwarders, error)
}

// unsettled is how many attempts may have ended and not be written down yet, for each that may be under way.
const unsettled = 4

// lane brings messages to one target: one goroutine that looks for what is due, and one for each attempt.
type lane struct {
	s        *Sender
	cfg      *LaneConfig
	receiver Receiver
	wake     chan struct{} // has room for one
	version  atomic.Uint64 // of the document, up to which the lane is as it says

	mu    sync.Mutex // guards what follows
	parts []lanePart
	// running are the attempts that are being made, busy the keys whose deliveries are in flight.
	running int
	busy    map[string]bool
	// failed is how many attempts in a row have, until when the next one waits for that.
	failed int
	until  time.Time
	rated  time.Time // when the next attempt may begin by the rate
	turn   int       // of the partition that is looked at first
	last   string    // the last error
}

// lanePart is one partition of a lane.
type lanePart struct {
	// All deliveries behind none are in flight or later than this place.
	at  int64
	o   wal.Offset
	gen uint64 // counts what has lowered it
	// flying are deliveries that are begun and not settled, and the times that they had.
	flying map[wal.Offset]int64
}

func newLane(s *Sender, cfg *LaneConfig, r Receiver) *lane {
	l := &lane{s: s, cfg: cfg, receiver: r, wake: make(chan struct{}, 1), busy: make(map[string]bool), parts: make([]lanePart, s.cfg.Partitions)}
	for p := range l.parts {
		l.parts[p].o, l.parts[p].flying = wal.NoOffset, make(map[wal.Offset]int64)
	}
	return l
}

// rouse has the lane look again.
func (l *lane) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) asOf(version uint64) {
	l.version.Store(version)
	l.rouse()
}

// lower has the lane look at what is at a time or later again.
func (l *lane) lower(p wal.Partition, at int64) {
	l.mu.Lock()
	q := &l.parts[p]
	q.gen++
	if at <= q.at {
		q.at, q.o = at, wal.NoOffset
	}
	l.mu.Unlock()
	l.rouse()
}

// run looks for what is due until ctx is done, and returns when its attempts have ended. They go on until the sender is
// stopped.
func (l *lane) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := l.round(ctx, &work)
		timer.Reset(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

const (
	// lookAgain bounds how long a lane sleeps: clocks may be stepped.
	lookAgain = time.Second
	// lookSoonest is the shortest, of one that waits for its time.
	lookSoonest = time.Millisecond
)

// round begins what is due in each partition, and returns how long nothing else is.
func (l *lane) round(ctx context.Context, work *sync.WaitGroup) time.Duration {
	wait := lookAgain
	l.turn++
	for i := range l.parts {
		p := wal.Partition((l.turn + i) % len(l.parts))
		if !l.s.cfg.Ready(p) {
			continue
		}
		next, err := l.begin(ctx, p, work)
		if err != nil {
			if ctx.Err() == nil {
				l.s.cfg.Logger.Warn("messages that wait cannot be read; it is tried again", "target", l.cfg.Name, "partition", uint32(p), "reason", err)
			}
			continue
		}
		wait = min(wait, next)
	}
	return max(wait, lookSoonest)
}

// free is how many attempts may begin, and how long none may.
func (l *lane) free(now time.Time) (n int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	flying := 0
	for i := range l.parts {
		flying += len(l.parts[i].flying)
	}
	n = min(l.cfg.Concurrency-l.running, unsettled*l.cfg.Concurrency-flying)
	if l.cfg.Breaker > 0 && l.failed >= l.cfg.Breaker {
		if w := l.until.Sub(now); w > 0 {
			return 0, w
		}
		n = min(n, 1-l.running)
	}
	if l.cfg.Rate > 0 {
		if w := l.rated.Sub(now); w > 0 {
			return 0, w
		}
		n = min(n, 1)
	}
	return n, lookAgain
}

// begin begins what is due of a partition, and returns how long nothing else is.
func (l *lane) begin(ctx context.Context, p wal.Partition, work *sync.WaitGroup) (time.Duration, error) {
	for {
		now := l.s.cfg.Now()
		n, wait := l.free(now)
		if n <= 0 {
			return wait, nil
		}
		l.mu.Lock()
		q := &l.parts[p]
		at, o, gen := q.at, q.o, q.gen
		limit := n + len(q.flying)
		l.mu.Unlock()
		ds, err := l.s.cfg.Outbox.Due(ctx, p, l.cfg.Name, at, o, limit)
		if err != nil {
			return lookAgain, err
		}
		if l.s.awaited.Load() > l.version.Load() { // asOf wakes it
			return lookAgain, nil
		}
		began, full := 0, false
		passed := true // all that was looked at is in flight
		for i := range ds {
			d := &ds[i]
			if d.At > now.UnixMicro() {
				return min(time.UnixMicro(d.At).Sub(now), lookAgain), nil
			}
			if full = began == n; full {
				break
			}
			flies, takes := l.take(p, d, now)
			if takes {
				began++
				l.start(l.s.run, p, d, work)
			}
			if passed = passed && (flies || takes); passed {
				l.pass(p, gen, d)
			}
		}
		if !full && (len(ds) < limit || began == 0) {
			return lookAgain, nil
		}
	}
}

// pass moves the place of a partition behind d, unless it was lowered since gen.
func (l *lane) pass(p wal.Partition, gen uint64, d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := &l.parts[p]; q.gen == gen {
		q.at, q.o = d.At, d.Offset
	}
}

// take has a delivery fly, unless it does, as it was read, or another one of its key does.
func (l *lane) take(p wal.Partition, d *Delivery, now time.Time) (flies, takes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.parts[p]
	if at, flying := q.flying[d.Offset]; flying { // at another time: it is settled, and about to land
		return at == d.At, false
	}
	if d.Ordered {
		if l.busy[string(d.Key)] {
			return false, false
		}
		l.busy[string(d.Key)] = true
	}
	q.flying[d.Offset] = d.At
	l.running++
	if l.cfg.Rate > 0 {
		l.rated = now.Add(time.Second / time.Duration(l.cfg.Rate))
	}
	return false, true
}

// landed says that no attempt is made at a delivery any more. settled: what came of it is written down; else it is
// looked at again, when the partition is delivered here.
func (l *lane) landed(p wal.Partition, d *Delivery, settled bool) {
	l.mu.Lock()
	delete(l.parts[p].flying, d.Offset)
	if d.Ordered {
		delete(l.busy, string(d.Key))
	}
	l.mu.Unlock()
	if !settled {
		l.lower(p, d.At)
	}
	l.rouse()
}

// stood says that an attempt is over.
func (l *lane) stood(err error, attempted bool) {
	l.mu.Lock()
	l.running--
	if attempted {
		if _, permanent := errors.AsType[*PermanentError](err); err == nil || permanent { // it answers
			l.failed, l.last = 0, ""
		} else {
			l.failed++
			l.last = clipError(err.Error())
			if l.cfg.Breaker > 0 && l.failed >= l.cfg.Breaker {
				l.until = l.s.cfg.Now().Add(l.cfg.Retry.pause(l.failed - l.cfg.Breaker + 1))
			}
		}
	}
	l.mu.Unlock()
	l.rouse()
}

// start makes an attempt in a goroutine of its own. Of a delayed message it is first written down that one begins:
// a cancel that is applied later comes too late.
func (l *lane) start(ctx context.Context, p wal.Partition, d *Delivery, work *sync.WaitGroup) {
	work.Go(func() {
		if d.Delayed && !d.Marked {
			if !l.s.settle(ctx, p, Outcome{Delivery: *d, What: Begins, Now: l.s.cfg.Now().UnixMicro()}) {
				l.stood(nil, false)
				l.landed(p, d, false)
				return
			}
			d.Marked = true
		}
		l.attempt(ctx, p, d)
	})
}

func (l *lane) attempt(ctx context.Context, p wal.Partition, d *Delivery) {
	m, there, err := l.s.cfg.Outbox.Pending(ctx, p, d.Offset)
	if err != nil || !there {
		if err != nil && ctx.Err() == nil {
			l.s.cfg.Logger.Warn("a message cannot be read; it is tried again", "target", l.cfg.Name, "partition", uint32(p), "offset", int64(d.Offset), "reason", err)
		}
		l.stood(err, err != nil)
		l.landed(p, d, err == nil)
		return
	}
	err = l.deliver(ctx, p, d, m)
	now := l.s.cfg.Now()
	if err != nil && ctx.Err() != nil { // the process ends, or the lane: the receiver may have it
		l.stood(nil, false)
		l.landed(p, d, false)
		return
	}
	l.stood(err, true)
	if err == nil {
		l.s.cfg.Observe(l.cfg.Name, "delivered", now.Sub(time.UnixMicro(d.Due)))
		l.landed(p, d, l.s.settle(ctx, p, Outcome{Delivery: *d, What: Succeeds, Now: now.UnixMicro()}))
		return
	}
	next, giveUp := l.cfg.Retry.after(d, err, now)
	if giveUp != "" {
		l.s.cfg.Observe(l.cfg.Name, "dead", 0)
		e := &Event{What: EventDead, Offset: &d.Offset, Key: m.Key, Target: d.Target, At: d.At, Reason: clipError(giveUp)}
		l.landed(p, d, l.s.dead(ctx, p, e))
		return
	}
	l.s.cfg.Observe(l.cfg.Name, "retried", 0)
	l.landed(p, d, l.s.settle(ctx, p, Outcome{
		Delivery: *d, What: Fails, Next: next.UnixMicro(), Error: clipError(err.Error()), Now: now.UnixMicro(),
	}))
}

func (l *lane) deliver(ctx context.Context, p wal.Partition, d *Delivery, m *Pending) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	return l.receiver.Deliver(ctx, l.s.attempt(p, d, m))
}

func (l *lane) config() *LaneConfig { return l.cfg }

func (l *lane) close() error { return l.receiver.Close() }

// LaneState is how a lane fares.
type LaneState struct {
	Target  string
	Running int
	Failed  int    // attempts in a row
	Error   string // the last one; empty after one that was well
	// Overdue is how long the oldest message that is due has been.
	Overdue time.Duration
}

func (l *lane) state(ctx context.Context) LaneState {
	l.mu.Lock()
	st := LaneState{Target: l.cfg.Name, Running: l.running, Failed: l.failed, Error: l.last}
	l.mu.Unlock()
	st.Overdue = l.s.overdue(ctx, l.cfg.Name)
	return st
}

// overdue is how long the oldest message of a target that is due has been.
func (s *Sender) overdue(ctx context.Context, target string) (most time.Duration) {
	now := s.cfg.Now()
	for p := range wal.Partition(s.cfg.Partitions) {
		if !s.cfg.Ready(p) {
			continue
		}
		ds, err := s.cfg.Outbox.Due(ctx, p, target, 0, wal.NoOffset, 1)
		if err == nil && len(ds) > 0 {
			most = max(most, now.Sub(time.UnixMicro(ds[0].Due)))
		}
	}
	return most
}
