package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/kafkalog"
)

// clockLook is how often this machine's clock is compared with the brokers'.
const clockLook = 15 * time.Second

// offClockLook is how often it is while it is off, so that it is soon seen to be set.
const offClockLook = time.Second

// firstClockLook is how often it is tried until there is a namespace.
const firstClockLook = 50 * time.Millisecond

// watchClock compares this machine's clock with the brokers', by the decisions topic of one namespace after the other, where a
// barrier is in nobody's way, until ctx is done.
func (s *Server) watchClock(ctx context.Context) {
	b, ok := s.broker.(*kafkalog.Broker)
	if !ok {
		return // the embedded log is stamped by this machine
	}
	t := time.NewTimer(0)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		next := firstClockLook
		if x, p, ok := s.spaces.somePartition(n); ok {
			err := s.lookAtClock(ctx, b, x.decisions, p)
			if err != nil && ctx.Err() == nil {
				s.log.Debug("this machine's clock was not compared with the brokers'", "namespace", x.entry.Name, "reason", err)
			}
			s.clockSeen.Store(true) // or it could not be: what keeps the brokers away has its own reason not to be ready
			if next = clockLook; b.ClockAhead() != 0 {
				next = offClockLook
			}
		}
		t.Reset(next)
	}
}

func (s *Server) lookAtClock(ctx context.Context, b *kafkalog.Broker, l wal.Log, p wal.Partition) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clockLook/3, errors.New("the log did not answer in time"))
	defer cancel()
	return b.LookAtClock(ctx, l, p)
}

// somePartition is the n-th partition of all that are open, beginning anew after the last.
func (sp *spaces) somePartition(n int) (*space, wal.Partition, bool) {
	open := sp.opened()
	total := 0
	for _, x := range open {
		total += x.log.Info().Partitions
	}
	if total == 0 {
		return nil, 0, false
	}
	n %= total
	for _, x := range open {
		if k := x.log.Info().Partitions; n < k {
			return x, wal.Partition(n), true
		} else {
			n -= k
		}
	}
	return nil, 0, false
}

// clockUnready says why this machine's clock keeps it from taking writes: whoever brings no time with a write is given one of it.
func (s *Server) clockUnready() error {
	b, ok := s.broker.(*kafkalog.Broker)
	if !ok || !s.cfg.Role.Answers() {
		return nil
	}
	open := s.spaces.opened()
	if len(open) > 0 && !s.clockSeen.Load() {
		return errors.New("this machine's clock was not compared with the brokers' yet")
	}
	ahead := b.ClockAhead()
	for _, x := range open {
		most := x.ns.Config().Tokens.MaxDriftFuture
		if ahead.Abs() <= most {
			continue
		}
		how := "ahead of"
		if ahead < 0 {
			how = "behind"
		}
		return fmt.Errorf("this machine's clock is %v %s the brokers', more than tokens.max_drift_future of namespace %s, %v; set the clock, and see that it is kept by NTP",
			ahead.Abs().Round(time.Millisecond), how, x.entry.Name, most)
	}
	return nil
}
