package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/wal"
)

// openDecisions opens the topic in which processes that share the log claim partitions, and
// reads who holds which.
func (x *space) openDecisions(ctx context.Context) (err error) {
	s := x.s
	if !s.shared() {
		return nil
	}
	topic := x.entry.DecisionsTopic
	x.decisions, err = s.broker.Create(ctx, wal.TopicSpec{Name: topic, Partitions: x.log.Info().Partitions})
	if err != nil {
		return fmt.Errorf("open topic %s: %w", topic, err)
	}
	x.claims = decisions.Follow(x.decisions, s.log)
	x.ns.Owner = func(p wal.Partition) (string, int64) {
		c, ok := x.claims.Holder(p)
		if !ok {
			return "", 0
		}
		return c.Address, int64(c.Epoch)
	}
	if s.cfg.Role.applies() {
		if x.hasHome() {
			x.holding = newHolding(x.log.Info().Partitions)
		}
		return nil
	}
	x.owners = remote.New(remote.Config{
		Namespace: x.entry.Name, Info: x.log.Info(), Progress: x.progress, Book: x.claims, Peers: s.peers, Logger: s.log,
		Hold: func() bool { return remotePrimary(x.ns.Config()) },
	})
	return nil
}

// own is this process's claim.
func (x *space) own() decisions.Claim {
	return decisions.Claim{Process: x.s.process, Home: x.s.id, Address: x.s.advertised()}
}

// claim says that this process holds the partitions that it is to apply, and goes on to do so until the namespace is
// closed. A namespace without a home, which any process may apply for itself, is claimed only by one that others can ask:
// by the last one that has opened it, and then by the one that the group of its abstraction has for each partition.
func (x *space) claim(ctx context.Context) error {
	if x.decisions == nil || !x.hasHome() && x.s.advertised() == "" {
		return nil
	}
	x.s.spaces.holders.Store(string(x.entry.Incarnation[:]), x)
	if x.holding != nil {
		return x.claimHeld(ctx)
	}
	if err := x.claimEach(ctx, func(wal.Partition) bool { return true }); err != nil || x.s.cfg.Role != Worker {
		return err
	}
	g, err := x.s.groups.of(x.entry)
	if err != nil {
		return err
	}
	x.work.Go(func() { x.claimAssigned(x.run, g) })
	return nil
}

// claimEach claims the partitions that are wanted, side by side.
func (x *space) claimEach(ctx context.Context, wanted func(p wal.Partition) bool) error {
	n := x.log.Info().Partitions
	errs := make(chan error, n)
	for p := range wal.Partition(n) {
		if !wanted(p) {
			errs <- nil
			continue
		}
		go func() {
			_, err := decisions.Append(ctx, x.decisions, p, x.own())
			errs <- err
		}()
	}
	var all error
	for range n {
		all = errors.Join(all, <-errs)
	}
	return all
}

// claimAssigned claims the partitions of a namespace without a home that the group has for this process and another one
// holds, until ctx is done: that one may be gone.
func (x *space) claimAssigned(ctx context.Context, g *membership) {
	g.Add(x.entry.Topic)
	defer g.Remove(x.entry.Topic)
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		claimed, assigned := x.claims.Changed(), g.Changed()
		var again <-chan time.Time
		err := x.claimEach(ctx, func(p wal.Partition) bool {
			c, ok := x.claims.Holder(p)
			return g.Assigned(x.entry.Topic, p) && (!ok || c.Process != x.s.process)
		})
		if err != nil && ctx.Err() == nil {
			x.s.log.Warn("partitions cannot be claimed yet; it is tried again", "namespace", x.ns.Name, "reason", err)
			again = time.After(bo.NextBackOff())
		} else {
			bo.Reset()
		}
		select {
		case <-claimed:
		case <-assigned:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// claimHeld is claim of a namespace whose partitions other processes may take: those of a home are claimed before it
// returns, those of a group when it assigns them.
func (x *space) claimHeld(ctx context.Context) error {
	if x.group != nil {
		x.group.Add(x.entry.Topic)
	} else if err := x.holdAll(ctx); err != nil {
		return err
	}
	for i := range x.holding.parts {
		x.work.Go(func() { x.tend(x.run, wal.Partition(i)) })
	}
	return nil
}

// claimAgainAfter is how long a newer claim of another process stands before it is looked into.
const claimAgainAfter = time.Second

// ownerState says whether every partition has an owner that tells how far it is.
func (x *space) ownerState() (state, reason string) {
	for p := range wal.Partition(x.log.Info().Partitions) {
		if err := x.progress.Stopped(p); err != nil {
			return "stopped", err.Error()
		}
		switch c, ok := x.claims.Holder(p); {
		case !ok:
			return "retrying", fmt.Sprintf("no worker has claimed partition %d; start one with headwater consume", p)
		case c.Address == "":
			return "retrying", fmt.Sprintf("partition %d is held by a process that has no internal listener", p)
		case x.owners.Silent(p):
			return "retrying", fmt.Sprintf("the worker at %s, which holds partition %d, does not answer", c.Address, p)
		}
	}
	return "running", ""
}

// lookFor asks the registry's end about a name that is not known here: another process may have made the
// namespace a moment ago. It returns when it is served here, or there is none.
func (s *Server) lookFor(ctx context.Context, name string) error {
	if err := s.names.ReachEnd(ctx); err != nil {
		return err
	}
	e, ok := s.names.Get(name)
	if !ok {
		return nil
	}
	return s.spaces.wait(ctx, name, e.ChangedAt())
}

// ownersSoon is how long a change of a namespace waits for workers that are about to claim it.
const ownersSoon = 2 * time.Second

// ownersAgain is how often it is looked meanwhile whether they can be asked.
const ownersAgain = 10 * time.Millisecond

// waitOwners returns when each partition has an owner that can be asked, or after a moment: a
// namespace that was just made can be read then, where there is a worker for it.
func (x *space) waitOwners(ctx context.Context) {
	if x.owners == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ownersSoon)
	defer cancel()
	again := time.NewTicker(ownersAgain)
	defer again.Stop()
	for {
		changed := x.claims.Changed()
		if held := x.heldPartitions(); held == x.log.Info().Partitions {
			return
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// heldPartitions is how many have an owner that can be asked.
func (x *space) heldPartitions() (n int) {
	for p := range wal.Partition(x.log.Info().Partitions) {
		if c, ok := x.claims.Holder(p); ok && c.Address != "" && x.owners.Heard(p) {
			n++
		}
	}
	return n
}
