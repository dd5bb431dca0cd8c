package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/wal"
)

// holding is which partitions of a namespace this process applies, where others may take them: those that it has
// claimed last.
type holding struct {
	parts []heldPart
}

type heldPart struct {
	sync.Mutex              // held while the partition is begun or given up, and while a store is opened
	epoch      atomic.Int64 // of the claim by which it is applied here; wal.NoOffset: it is not
}

func newHolding(partitions int) *holding {
	h := &holding{parts: make([]heldPart, partitions)}
	for i := range h.parts {
		h.parts[i].epoch.Store(int64(wal.NoOffset))
	}
	return h
}

// epoch is that of the claim by which p is applied here, wal.NoOffset where it is not.
func (h *holding) epoch(p wal.Partition) wal.Offset { return wal.Offset(h.parts[p].epoch.Load()) }

// lockAll keeps partitions from being begun and given up until unlock.
func (h *holding) lockAll() (unlock func()) {
	for i := range h.parts {
		h.parts[i].Lock()
	}
	return func() {
		for i := range h.parts {
			h.parts[i].Unlock()
		}
	}
}

// holds reports whether this process applies p.
func (x *space) holds(p wal.Partition) bool {
	return x.holding == nil || x.holding.epoch(p) != wal.NoOffset
}

// heldHere are the partitions that this process applies.
func (x *space) heldHere() (held []wal.Partition) {
	for p := range wal.Partition(x.log.Info().Partitions) {
		if x.holds(p) {
			held = append(held, p)
		}
	}
	return held
}

// wants reports whether p is to be applied here: the group says so, or this is the home.
func (x *space) wants(p wal.Partition) bool {
	if x.group != nil {
		return x.group.Assigned(x.entry.Topic, p) || x.wasOurs(p)
	}
	return x.mayOwn() == nil
}

// wasOurs reports whether the newest claim of p is of an earlier start on this data directory: the group need not be
// waited for, which may give it to another later.
func (x *space) wasOurs(p wal.Partition) bool {
	c, ok := x.claims.Holder(p)
	return ok && c.Home == x.s.id && c.Process != x.s.process && !x.s.draining.Load()
}

// hold claims p, begins it as the decisions topic says, and starts to apply it.
func (x *space) hold(ctx context.Context, p wal.Partition) (err error) {
	h := &x.holding.parts[p]
	h.Lock()
	defer h.Unlock()
	defer func() {
		if err != nil || x.holding.epoch(p) == wal.NoOffset {
			x.giveUp(p)
		}
	}()
	if err := x.ns.Letters.CatchUp(ctx); err != nil {
		return err
	}
	x.progress.Resume(p)
	first := !x.goesOn() // then there is nothing to learn by a claim, and who asks finds it applied
	if first {
		if err := x.begin(ctx, p, nil); err != nil {
			return err
		}
	}
	s, newest, err := x.claimOnce(ctx, p)
	if err != nil || !newest || first {
		return err
	}
	return x.begin(ctx, p, &s)
}

// claimOnce claims p, which is held by that claim from then on if it is the newest; s is as of it, or later. The
// partition is locked.
func (x *space) claimOnce(ctx context.Context, p wal.Partition) (s decisions.Standing, newest bool, err error) {
	c, err := decisions.Append(ctx, x.decisions, p, x.own())
	if err != nil {
		return s, false, err
	}
	if s, err = x.claims.Reach(ctx, p, c.Epoch); err != nil || s.Claim.Epoch != c.Epoch {
		return s, false, err
	}
	x.holding.parts[p].epoch.Store(int64(c.Epoch))
	return s, true, nil
}

// goesOn reports whether a store of the namespace goes on where another process has ended.
func (x *space) goesOn() bool {
	return slices.ContainsFunc(x.all(), (*store).goesOn)
}

// begin starts to apply p to every store. The partition is locked.
func (x *space) begin(ctx context.Context, p wal.Partition, s *decisions.Standing) error {
	for _, st := range x.all() {
		if err := st.begin(ctx, p, s); err != nil {
			return fmt.Errorf("begin partition %d in store %s: %w", p, st.name, err)
		}
	}
	return nil
}

// begin starts to apply p to the store. The partition is locked.
func (st *store) begin(ctx context.Context, p wal.Partition, s *decisions.Standing) error {
	if st.goesOn() {
		b, err := st.x.log.Bounds(ctx, p)
		if err != nil {
			return fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		if s.Marked && s.To >= b.End {
			return fmt.Errorf("record %d of the log of namespace %s, partition %d, was decided, and the log ends at %d: it has lost records; restore the topic, or delete the namespace and write it again",
				s.To, st.x.entry.Name, p, b.End)
		}
		start, err := st.beginsAt(ctx, p, s, b.Start)
		if err != nil {
			return err
		}
		if err := st.backend.(taker).take(ctx, p, s, start); err != nil {
			return err
		}
	}
	return st.runner.Start(st.run, p)
}

// beginsAt is where a store begins that has nothing of p here: with the records of one token window, of what is parked, and
// of what the shared store lacks. start is that of the log. The window ends with what s is as of, the claim
// or a mark of the last records, by the brokers' clock: by this machine's, were it ahead, it would be too short.
func (st *store) beginsAt(ctx context.Context, p wal.Partition, s *decisions.Standing, start wal.Offset) (wal.Offset, error) {
	if at := st.registered(); !s.Marked || at.Life == "" || at.Life != s.Life {
		return start, nil // all of it: what the marks call applied is in other rows
	}
	c := st.x.ns.Config().Tokens
	o, err := st.x.log.OffsetAt(ctx, p, s.ReadTime-(c.Window+c.MaxDriftFuture).Microseconds())
	if err != nil {
		return start, fmt.Errorf("where the token window of partition %d begins: %w", p, err)
	}
	if o = min(o, s.Applied+1); s.Parked != wal.NoOffset {
		o = min(o, s.Parked)
	}
	return max(start, o), nil
}

// taker is a backend whose stores go on where another process has ended.
type taker interface {
	// goesOn reports whether it is so of this one.
	goesOn() bool
	take(ctx context.Context, p wal.Partition, s *decisions.Standing, start wal.Offset) error
}

// errGivenAway is why nobody can wait for a partition here.
var errGivenAway = fmt.Errorf("the partition is another process's now: %w", consumers.ErrOwnerAway)

// lose stops applying p, which another process has claimed.
func (x *space) lose(p wal.Partition) {
	h := &x.holding.parts[p]
	h.Lock()
	defer h.Unlock()
	if c, ok := x.claims.Holder(p); !ok || c.Epoch <= x.holding.epoch(p) {
		return
	}
	x.giveUp(p)
}

// giveUp stops applying p. What was decided and not marked is forgotten. The partition is locked.
func (x *space) giveUp(p wal.Partition) {
	x.holding.parts[p].epoch.Store(int64(wal.NoOffset))
	x.progress.Interrupt(p, errGivenAway)
	for _, st := range x.all() {
		if err := st.runner.Stop(context.Background(), p); err != nil {
			x.s.log.Warn("a partition was not stopped in good order", "namespace", x.ns.Name, "store", st.name, "partition", uint32(p), "reason", err)
		}
	}
	x.turning.Lock()
	x.serving[p].Store(nil)
	x.turning.Unlock()
	if f, ok := x.front.(interface{ Clear(p wal.Partition) }); ok {
		f.Clear(p)
	}
}

// holdAll claims every partition of a home, side by side. What only waits for a server is tried again by tend.
func (x *space) holdAll(ctx context.Context) error {
	errs := make([]error, len(x.holding.parts))
	var work sync.WaitGroup
	for i := range x.holding.parts {
		work.Go(func() {
			if err := x.hold(ctx, wal.Partition(i)); !opensLater(err) {
				errs[i] = err
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// tend claims p while it is to be applied here and is not, and gives it up when another process has claimed it,
// until ctx is done.
func (x *space) tend(ctx context.Context, p wal.Partition) {
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	var lost time.Time
	for ctx.Err() == nil {
		claimed, assigned := x.claims.Changed(), x.assignments()
		c, _ := x.claims.Holder(p)
		var again <-chan time.Time
		switch wait := claimAgainAfter - time.Since(lost); {
		case x.holds(p) && c.Epoch > x.holding.epoch(p):
			x.lose(p)
			lost = time.Now()
			continue
		case x.holds(p) || !x.wants(p):
		case !lost.IsZero() && wait > 0:
			again = time.After(wait)
		default:
			err := x.claimNow(ctx, p)
			if err == nil {
				bo.Reset()
				if !x.holds(p) { // another one was quicker
					lost = time.Now()
				}
				continue
			}
			if ctx.Err() != nil {
				return
			}
			x.s.log.Warn("a partition cannot be applied here yet; it is tried again", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			again = time.After(bo.NextBackOff())
		}
		select {
		case <-claimed:
		case <-assigned:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// claimNow holds p, if what is known here of who may is new enough.
func (x *space) claimNow(ctx context.Context, p wal.Partition) (err error) {
	taken := x.s.taking.begin()
	defer func() {
		if err != nil || !x.holds(p) {
			taken()
			return
		}
		x.work.Go(func() {
			defer taken()
			ctx, cancel := context.WithTimeout(x.run, takingMost)
			defer cancel()
			_ = x.progress.Wait(ctx, p, x.claims.Standing(p).To) // however it ends, others may go on
		})
	}()
	if x.group != nil {
		if !x.wasOurs(p) {
			if err := x.prepare(ctx, p); errors.Is(err, consumers.ErrStoreAway) {
				return err // who applies it now may go on without the server that has the rows, and nobody can begin
			}
		}
		return x.hold(ctx, p)
	}
	// A process that was a home before may not know yet that it is not.
	if err := x.s.names.Sync(ctx); err != nil {
		return err
	}
	if x.mayOwn() != nil {
		return errGivenAway // what follows the registry closes the namespace
	}
	return x.hold(ctx, p)
}

const (
	// prepareFor bounds how long a partition is prepared, and prepareRounds how often it is begun for that.
	prepareFor    = 15 * time.Second
	prepareRounds = 4
	// nearlyThere is how many records may be left for after the claim.
	nearlyThere = 100
)

// prepare applies p here up to where another process has decided it, while that one goes on: reads wait after the claim
// for what is left. The error is what keeps it from that.
func (x *space) prepare(ctx context.Context, p wal.Partition) error {
	ctx, cancel := context.WithTimeout(ctx, prepareFor)
	defer cancel()
	for range prepareRounds {
		s := x.claims.Standing(p)
		st := x.primary()
		if st == nil || !s.Marked || s.To-st.ledgerAt(ctx, p) <= nearlyThere {
			return nil
		}
		if err := x.prepareOnce(ctx, st, p, &s); err != nil {
			x.s.log.Debug("a partition was not prepared before it is claimed", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			return err
		}
	}
	return nil
}

// ledgerAt is up to where the ledger of the store has p, wal.NoOffset where that cannot be read.
func (st *store) ledgerAt(ctx context.Context, p wal.Partition) wal.Offset {
	state, err := st.ledger.State(ctx, p)
	if err != nil {
		return wal.NoOffset
	}
	return state.Applied
}

func (x *space) prepareOnce(ctx context.Context, st *store, p wal.Partition, s *decisions.Standing) (err error) {
	h := &x.holding.parts[p]
	h.Lock()
	defer h.Unlock()
	if x.holds(p) {
		return nil
	}
	st.loop.Limit(p, s.To)
	defer st.loop.Limit(p, consumers.NoLimit)
	defer x.giveUp(p)
	x.progress.Resume(p)
	if err := st.begin(ctx, p, s); err != nil {
		return err
	}
	return st.progress.Wait(ctx, p, s.To)
}

// assignments is closed when the group assigns other partitions; nil where there is no group.
func (x *space) assignments() <-chan struct{} {
	if x.group == nil {
		return nil
	}
	return x.group.Changed()
}

// manyMarks is after how many entries of the decisions topic a partition is claimed once more, so that the topic can
// be freed below.
const manyMarks = 4096

// freeDecisions frees what the decisions topic says of records that the log no longer holds.
func (x *space) freeDecisions(ctx context.Context, p wal.Partition, start wal.Offset) error {
	if x.holding == nil || !x.holds(p) {
		return nil
	}
	if s := x.claims.Standing(p); s.Entries() > manyMarks {
		if err := x.renew(ctx, p); err != nil {
			return err
		}
	}
	return x.claims.Free(ctx, p, start)
}

// renew claims p once more, between two marks.
func (x *space) renew(ctx context.Context, p wal.Partition) error {
	st := x.serves(p)
	if st == nil {
		return nil
	}
	return st.doHere(ctx, p, func(ctx context.Context) error {
		h := &x.holding.parts[p]
		if !h.TryLock() { // it is being given up, which waits for this goroutine
			return nil
		}
		defer h.Unlock()
		if s := x.claims.Standing(p); s.Claim.Epoch != x.holding.epoch(p) {
			return nil
		}
		_, _, err := x.claimOnce(ctx, p)
		return err
	})
}
