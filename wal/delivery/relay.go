package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal"
)

const (
	// MaxHops is through how many log namespaces a message goes: one that comes to more goes in a circle.
	MaxHops = 8
	// relayMessages and relayBytes bound what is under way of a partition at once.
	relayMessages = 1000
	relayBytes    = 4 << 20
)

// relay brings messages to another log: those of a partition in the order of their places. Where that is a
// namespace's, each is there once, however often it is sent; see wal.Source. So one that cannot be appended holds
// those behind it, for as long as it takes, or Retry says. It goes by the log time of the partition, and not by a
// clock: a message that is written later never has a place before one that was sent.
type relay struct {
	s     *Sender
	cfg   *LaneConfig
	to    Forwarders
	parts []relayPart
	// version is of the document, up to which the relay is as it says.
	version atomic.Uint64

	mu      sync.Mutex // guards what follows
	running int
	rated   time.Time // when the next messages may be brought by the rate
}

// relayPart is one partition of a relay. What mu does not guard belongs to its goroutine.
type relayPart struct {
	to   Forwarder
	wake chan struct{} // has room for one
	// at and o are the place that all before is done.
	at int64
	o  wal.Offset

	mu  sync.Mutex // guards what follows
	low int64      // where to look again; 0: nowhere
	// failed is how many attempts in a row have, at the message that is stood at, and last why.
	failed int
	last   string
}

// errElsewhere: the partition is not delivered here any more.
var errElsewhere = errors.New("another process delivers the partition")

func newRelay(s *Sender, cfg *LaneConfig, to Forwarders) *relay {
	l := &relay{s: s, cfg: cfg, to: to, parts: make([]relayPart, s.cfg.Partitions)}
	for p := range l.parts {
		l.parts[p].o, l.parts[p].wake = wal.NoOffset, make(chan struct{}, 1)
	}
	return l
}

func (l *relay) config() *LaneConfig { return l.cfg }

// lower has the lane look at what is at a time or later again.
func (l *relay) lower(p wal.Partition, at int64) {
	q := &l.parts[p]
	q.mu.Lock()
	if q.low == 0 || at < q.low {
		q.low = at
	}
	q.mu.Unlock()
	q.rouse()
}

// rouse has the partition looked at again.
func (q *relayPart) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (l *relay) asOf(version uint64) {
	l.version.Store(version)
	for p := range l.parts {
		l.parts[p].rouse()
	}
}

// run brings messages until ctx is done.
func (l *relay) run(ctx context.Context) {
	var work sync.WaitGroup
	for p := range wal.Partition(len(l.parts)) {
		work.Go(func() { l.runPart(ctx, p) })
	}
	work.Wait()
}

func (l *relay) runPart(ctx context.Context, p wal.Partition) {
	q := &l.parts[p]
	q.to = l.to.Forwarder(p)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		q.lowered()
		wait, err := lookAgain, error(nil)
		if l.s.cfg.Ready(p) {
			wait, err = l.round(ctx, p)
		} else {
			q.at, q.o = 0, wal.NoOffset // who delivers it meanwhile may leave something
		}
		if ctx.Err() != nil {
			return
		}
		if failed := q.fared(err); failed > 0 {
			wait = l.cfg.Retry.pause(failed)
			if failed == 1 || failed%100 == 0 {
				l.s.cfg.Logger.Warn("messages wait for a target; it is tried again",
					"target", l.cfg.Name, "partition", uint32(p), "attempts", failed, "reason", err)
			}
		}
		timer.Reset(wait)
	}
}

// lowered takes what lower has said.
func (q *relayPart) lowered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.low != 0 && q.low <= q.at {
		q.at, q.o = q.low, wal.NoOffset
	}
	q.low = 0
}

// fared notes how a round was, and returns how many in a row have failed.
func (q *relayPart) fared(err error) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.failed, q.last = 0, ""
	} else {
		q.failed++
		q.last = clipError(err.Error())
	}
	return q.failed
}

// before is how many attempts have failed at the message that is stood at.
func (q *relayPart) before() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

// round brings what is due of a partition, and returns how long nothing else is.
func (l *relay) round(ctx context.Context, p wal.Partition) (time.Duration, error) {
	q := &l.parts[p]
	for ctx.Err() == nil {
		// First how far log time is: all messages of places up to there are in the outbox then.
		reached := l.s.cfg.LogTime(p)
		ds, err := l.s.cfg.Outbox.Due(ctx, p, l.cfg.Name, q.at, q.o, relayMessages)
		if err != nil {
			return 0, fmt.Errorf("read the messages that wait: %w", err)
		}
		if len(ds) == 0 || l.s.awaited.Load() > l.version.Load() { // asOf wakes it
			return lookAgain, nil
		}
		n := 0
		for n < len(ds) && ds[n].At <= reached {
			n++
		}
		if n == 0 {
			if wait := time.UnixMicro(ds[0].At).Sub(l.s.cfg.Now()); wait > 0 {
				return max(min(wait, lookAgain), lookSoonest), nil
			}
			if err := l.s.cfg.Tick(ctx, p); err != nil {
				return 0, fmt.Errorf("move the log on to when a message is due: %w", err)
			}
			if left := time.Duration(ds[0].At-l.s.cfg.LogTime(p)) * time.Microsecond; left > 0 { // the brokers' clock is behind
				return max(min(left, lookAgain), lookSoonest), nil
			}
			continue
		}
		n, wait := l.allowed(n)
		if wait > 0 {
			return wait, nil
		}
		if err := l.bring(l.s.run, p, ds[:n]); err != nil { // which is made to its end
			return 0, err
		}
	}
	return 0, nil
}

// ratedRounds is how many times a second messages are brought that are limited by a rate.
const ratedRounds = 20

// allowed is how many of n messages may be brought now, or how long none may.
func (l *relay) allowed(n int) (int, time.Duration) {
	if l.cfg.Rate == 0 {
		return n, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.s.cfg.Now()
	if wait := l.rated.Sub(now); wait > 0 {
		return 0, min(wait, lookAgain)
	}
	n = min(n, max(l.cfg.Rate/ratedRounds, 1))
	l.rated = now.Add(time.Duration(n) * time.Second / time.Duration(l.cfg.Rate))
	return n, 0
}

// bring brings deliveries that are due, and moves the place of the partition behind those that it is done with.
func (l *relay) bring(ctx context.Context, p wal.Partition, ds []Delivery) error {
	if err := l.mark(ctx, p, ds); err != nil {
		return err
	}
	ms := make([]*Attempt, 0, len(ds))
	of := make([]*Delivery, 0, len(ds))
	for i, size := 0, 0; i < len(ds) && size < relayBytes; i++ {
		m, there, err := l.s.cfg.Outbox.Pending(ctx, p, ds[i].Offset)
		if err != nil {
			return fmt.Errorf("read message %d: %w", ds[i].Offset, err)
		}
		if there { // else it was cancelled
			ms, of = append(ms, l.attempt(p, &ds[i], m)), append(of, &ds[i])
			size += len(m.Payload)
		}
	}
	n, err := l.forward(ctx, p, ms)
	now := l.s.cfg.Now()
	outcomes := make([]Outcome, n, n+1)
	for i := range n {
		outcomes[i] = Outcome{Delivery: *of[i], What: Succeeds, Now: now.UnixMicro()}
		l.s.cfg.Observe(l.cfg.Name, "delivered", now.Sub(time.UnixMicro(of[i].Due)))
	}
	if n > 0 && !l.s.write(ctx, p, outcomes, false) {
		return fmt.Errorf("write down what came of %d messages: %w", n, cmp.Or(context.Cause(ctx), errElsewhere))
	}
	q, done := &l.parts[p], n
	if n > 0 {
		q.fared(nil)
	}
	if giveUp := l.ends(p, of, n, err, now); giveUp != "" {
		l.s.cfg.Observe(l.cfg.Name, "dead", 0)
		d := of[n]
		e := &Event{What: EventDead, Offset: &d.Offset, Key: ms[n].key, Target: d.Target, At: d.At, Reason: clipError(giveUp)}
		if !l.s.dead(ctx, p, e) {
			return err
		}
		done, err = n+1, nil
		q.fared(nil)
	}
	if done > 0 {
		q.at, q.o = of[done-1].At, of[done-1].Offset
	}
	if err != nil {
		l.s.cfg.Observe(l.cfg.Name, "retried", 0)
	}
	return err
}

// ends is why no more attempts are made at message n of of, which failed for err; "": they are.
func (l *relay) ends(p wal.Partition, of []*Delivery, n int, err error, now time.Time) string {
	if err == nil {
		return ""
	}
	d := *of[n]
	d.Attempts = l.parts[p].before()
	_, giveUp := l.cfg.Retry.after(&d, err, now)
	return giveUp
}

// forward hands messages over, up to the first that must not go on.
func (l *relay) forward(ctx context.Context, p wal.Partition, ms []*Attempt) (n int, err error) {
	fit := len(ms)
	for i, m := range ms {
		if m.Source.Hops > MaxHops {
			const circle = "the message has come through %d log namespaces: it goes in a circle"
			fit, err = i, &PermanentError{fmt.Errorf(circle, MaxHops)}
			break
		}
	}
	if fit == 0 {
		return 0, err
	}
	l.mu.Lock()
	l.running++
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	n, sendErr := l.parts[p].to.Forward(ctx, ms[:fit])
	l.mu.Lock()
	l.running--
	l.mu.Unlock()
	if n < fit {
		return n, sendErr
	}
	return n, err
}

// mark writes down of delayed messages that their attempt begins: a cancel that is applied later comes too late.
func (l *relay) mark(ctx context.Context, p wal.Partition, ds []Delivery) error {
	var begins []Outcome
	for i := range ds {
		if d := &ds[i]; d.Delayed && !d.Marked {
			begins = append(begins, Outcome{Delivery: *d, What: Begins, Now: l.s.cfg.Now().UnixMicro()})
			d.Marked = true
		}
	}
	if len(begins) > 0 && !l.s.write(ctx, p, begins, true) {
		return fmt.Errorf("write down that attempts begin: %w", cmp.Or(context.Cause(ctx), errElsewhere))
	}
	return nil
}

func (l *relay) attempt(p wal.Partition, d *Delivery, m *Pending) *Attempt {
	a := l.s.attempt(p, d, m)
	a.Source = wal.Source{Partition: p, Place: wal.SourcePlace{At: d.At, Offset: d.Offset}, Hops: m.Hops + 1}
	return a
}

func (l *relay) state(ctx context.Context) LaneState {
	st := LaneState{Target: l.cfg.Name, Overdue: l.s.overdue(ctx, l.cfg.Name)}
	l.mu.Lock()
	st.Running = l.running
	l.mu.Unlock()
	for p := range l.parts { // the one that fares worst
		q := &l.parts[p]
		q.mu.Lock()
		if q.failed > st.Failed {
			st.Failed, st.Error = q.failed, q.last
		}
		q.mu.Unlock()
	}
	return st
}

func (l *relay) close() error { return l.to.Close() }
