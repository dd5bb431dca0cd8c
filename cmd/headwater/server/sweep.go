package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
)

// upkeep is what Status tells about the trimming of a partition.
type upkeep struct {
	blockedBy string
	role      string    // of the store that blocks, or PRIMARY
	since     time.Time // of being blocked by a store or a parked record; zero when not
}

const (
	// sweepEvery is how long a partition is left alone after a round: what is swept is
	// invisible already, and a round looks at every key.
	sweepEvery = time.Minute
	// trimEvery is how often the log of a partition is trimmed.
	trimEvery = 10 * time.Second
	// keepEvery is how often a namespace's store is synced and its tokens and the size
	// of its log are counted.
	keepEvery = 5 * time.Second
	// trimLettersEvery is how often dead letters are trimmed: they wait for weeks, and a
	// look at their topic reads some of it.
	trimLettersEvery = time.Minute
	// tickTimeout bounds the append of a tick.
	tickTimeout = 10 * time.Second
)

// targets are what is done for the namespace in the background, each by itself: one
// of the namespace, which asks no broker, two of each partition, so that one whose
// broker does not answer holds no other, and one of its dead letters.
func (x *space) targets() []retention.Target {
	out := []retention.Target{{Name: x.target("keep", 0), Every: keepEvery, Sweep: x.keep}}
	if x.owners != nil {
		return out // the rest is the owners'
	}
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		out = append(out, retention.Target{Name: x.target("trim", p), Every: trimEvery, Sweep: func(ctx context.Context, _ int) (bool, error) {
			return x.trimPartition(ctx, p)
		}})
		out = append(out, retention.Target{Name: x.target("sweep", p), Every: sweepEvery, Sweep: func(ctx context.Context, limit int) (bool, error) {
			return x.sweepPartition(ctx, p, limit)
		}})
	}
	return append(out, retention.Target{Name: x.target("trim letters", 0), Every: trimLettersEvery, Sweep: x.trimLetters})
}

func (x *space) addTargets() {
	for _, t := range x.targets() {
		x.s.sweep.Add(t)
	}
}

func (x *space) removeTargets() {
	if x.log == nil {
		return
	}
	for _, t := range x.targets() {
		x.s.sweep.Remove(t.Name)
	}
}

func (x *space) target(what string, p wal.Partition) string {
	return fmt.Sprintf("%s %s/%d %s", what, x.ns.Name, p, x.entry.Incarnation)
}

// sweepPartition frees a part of a partition in the goroutine of its applier. An
// idle log stands still in time; when something would be due by now, a tick
// moves it on.
func (x *space) sweepPartition(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	if !x.holds(p) {
		return false, nil
	}
	for _, st := range x.all() { // one that has stopped holds no other
		err = errors.Join(err, st.doHere(ctx, p, func(ctx context.Context) error {
			again, err := st.backend.sweep(ctx, p, limit)
			more = more || again
			return err
		}))
	}
	if st := x.serves(p); st != nil && !more {
		err = errors.Join(err, st.tick(ctx, p))
	}
	return more, err
}

// tick moves an idle log on where something waits for its time: a record that
// does nothing else. What is not applied yet does so by itself.
func (st *store) tick(ctx context.Context, p wal.Partition) error {
	x := st.x
	if x.serves(p) != st {
		return nil
	}
	var due bool
	err := st.doHere(ctx, p, func(context.Context) error {
		due = st.backend.due(p, x.s.broker.Now().UnixMicro())
		return nil
	})
	if err != nil || !due || x.log.LastEnd(p).End-1 > x.progress.Applied(p) {
		return err
	}
	_, err = x.appendTick(ctx, p)
	return err
}

// appendTick appends a record that does nothing but move log time on.
func (x *space) appendTick(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindBarrier})
	r := x.log.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]
	if r.Err != nil {
		return wal.NoOffset, fmt.Errorf("append a tick: %w", r.Err)
	}
	return r.Offset, nil
}

// tick moves log time on to now, and returns when it is applied.
func (x *space) tick(ctx context.Context, p wal.Partition) error {
	o, err := x.appendTick(ctx, p)
	if err != nil {
		return err
	}
	return x.progress.Wait(ctx, p, o)
}

// keep syncs the stores, counts the namespace's tokens, and sheds writes while its
// log is at log.max_bytes. The size of a partition that cannot be asked is the one
// last known.
func (x *space) keep(ctx context.Context, _ int) (bool, error) {
	if err := x.syncStores(ctx); err != nil {
		return false, err
	}
	x.front.noteTokens(x.liveTokens())
	if x.group != nil { // other workers write some
		if err := x.ns.Letters.CatchUp(ctx); err != nil {
			return false, err
		}
	}
	var bytes int64
	for i := range x.log.Info().Partitions {
		b, _ := x.log.LastBounds(wal.Partition(i))
		bytes += max(b.Bytes, 0)
	}
	most := x.ns.Config().MaxLogBytes
	x.ns.SetLogFull(most > 0 && bytes >= most)
	return false, nil
}

// syncStores asks each store how far it is durable. One that follows and cannot
// tell stays where it was: it holds no other, and is detached when it holds too much.
func (x *space) syncStores(ctx context.Context) error {
	x.mu.Lock()
	before := x.durable
	x.mu.Unlock()
	durable := make(map[*store]map[wal.Partition]wal.Offset)
	for _, st := range x.all() {
		d, err := st.ledger.Sync(ctx)
		switch {
		case err == nil:
			durable[st] = d
		case st.hasRole(primary):
			return fmt.Errorf("sync store %s: %w", st.name, err)
		default:
			durable[st] = before[st]
		}
	}
	x.mu.Lock()
	x.durable = durable
	x.mu.Unlock()
	return nil
}

// trimPartition frees the log up to what its stores, tokens, parked records and
// retention need. more says that it has to wait for the next keep.
func (x *space) trimPartition(ctx context.Context, p wal.Partition) (more bool, err error) {
	if !x.holds(p) {
		return false, nil
	}
	b, _ := x.log.LastBounds(p)
	f, slowest, more, err := x.trimFloor(ctx, p, &b)
	if more || err != nil {
		return more, err
	}
	c := x.ns.Config()
	return false, x.trimTo(ctx, p, b, f, c.Tokens.Window, c.Retention, slowest)
}

// trimFloor is what the stores and parked records need of the log of a partition that has the bounds b, and the store that
// needs most. more: it is not known before the next keep.
func (x *space) trimFloor(ctx context.Context, p wal.Partition, b *wal.Bounds) (f retention.Floor, slowest *store, more bool, err error) {
	f = retention.Floor{Durable: int64(b.End), Parked: retention.Unparked}
	x.mu.Lock()
	durable := x.durable
	x.mu.Unlock()
	if len(durable) == 0 || x.serves(p) == nil { // what is parked is not known
		return f, nil, true, nil
	}
	if l, ok := x.unopened(); ok {
		return f, nil, true, x.holdFor(ctx, l, b)
	}
	for _, st := range x.all() {
		d, kept := durable[st]
		if !kept { // a store that was added since the last keep needs what it has not told yet
			return f, nil, true, nil
		}
		floor := int64(0)
		if o, ok := d[p]; ok {
			floor = int64(o + 1)
		}
		if floor < f.Durable && !st.hasRole(primary) && x.serves(p) != st && x.tooFarBehind(st.name, b, floor) {
			x.detach(ctx, st, p, floor, int64(b.End))
			continue
		}
		if s := x.standing(p); s.Marked && x.serves(p) == st && st.goesOn() { // as others know it
			floor = min(floor, int64(s.Applied+1))
		}
		if floor < f.Durable {
			f.Durable, slowest = floor, st
		}
		if w, ok := st.backend.(waiting); ok {
			o, err := w.oldest(ctx, p)
			if err != nil {
				return f, nil, false, err
			}
			if o != wal.NoOffset && int64(o) < f.Durable {
				f.Durable, slowest = int64(o), st
			}
		}
	}
	if _, lowest := x.front.ParkedKeys(p); lowest != wal.NoOffset {
		f.Parked = int64(lowest)
	}
	return f, slowest, false, nil
}

// standing is what the decisions topic says of p; nothing where there is none.
func (x *space) standing(p wal.Partition) decisions.Standing {
	if x.claims == nil {
		return decisions.Standing{}
	}
	return x.claims.Standing(p)
}

// unopened is a store of the registry that is not open here, and may be later.
func (x *space) unopened() (namespace.StoreLife, bool) {
	e, ok := x.s.names.Get(x.entry.Name)
	if !ok {
		return namespace.StoreLife{}, false
	}
	for _, l := range e.Applied() {
		if st := x.store(l.Name); l.State != namespace.Failed && (st == nil || st.generation != l.Generation) {
			return l, true
		}
	}
	return namespace.StoreLife{}, false
}

// holdFor keeps the log for a store that is not open, up to its max_lag.
func (x *space) holdFor(ctx context.Context, l namespace.StoreLife, b *wal.Bounds) error {
	if l.Name == x.ns.Config().Primary() || !x.tooFarBehind(l.Name, b, int64(b.Start)) {
		return nil
	}
	err := x.failStore(ctx, l.Name, l.Generation, errors.New("it could not be opened for so long that the log would hold more for it than max_lag allows"))
	x.changedStores()
	return err
}

// trimTo trims a partition to f once it has in it where the token window and the
// retention begin. slowest is the store that f.Durable is of; nil: any.
func (x *space) trimTo(ctx context.Context, p wal.Partition, b wal.Bounds, f retention.Floor, window, keep time.Duration, slowest *store) error {
	now := x.s.broker.Now()
	for _, t := range []struct {
		to   *int64
		back time.Duration
	}{{&f.Window, window}, {&f.Retention, keep}} {
		o, err := x.log.OffsetAt(ctx, p, now.Add(-t.back).UnixMicro())
		if err != nil {
			return fmt.Errorf("offset of %v ago in partition %d: %w", t.back, p, err)
		}
		*t.to = int64(o)
	}
	to, blockedBy := f.TrimTo(int64(b.Start))
	if to > int64(b.Start) {
		if err := x.log.Trim(ctx, p, wal.Offset(to)); err != nil {
			return fmt.Errorf("trim partition %d to %d: %w", p, to, err)
		}
		if err := x.trimExceptions(ctx, p, wal.Offset(to)); err != nil {
			return err
		}
	}
	if err := x.freeDecisions(ctx, p, wal.Offset(max(to, int64(b.Start)))); err != nil {
		return err
	}
	if to >= int64(b.End) {
		blockedBy = ""
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t := &x.upkeep[p]
	t.blockedBy, t.role = blockedBy, primary
	passes := blockedBy != "store" && blockedBy != "parked" // by itself
	if blockedBy == "store" && slowest != nil {
		t.blockedBy, t.role = "store "+slowest.name, slowest.roleNow()
	}
	switch {
	case passes:
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = now
	}
	return nil
}

func (x *space) trimBlocked(p wal.Partition) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.upkeep[p].blockedBy
}

// trimExceptions removes what was decided of records that the log no longer holds.
func (x *space) trimExceptions(ctx context.Context, p wal.Partition, before wal.Offset) error {
	var errs []error
	for _, st := range x.all() { // one that has stopped holds no other
		errs = append(errs, st.doHere(ctx, p, func(ctx context.Context) error {
			part := st.loop.Part(p)
			if part == nil {
				return nil
			}
			return part.TrimExceptions(ctx, before)
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("trim the exceptions of partition %d: %w", p, err)
	}
	return nil
}

// tooFarBehind reports whether more of the log would be held for a store that
// follows than its max_lag.
func (x *space) tooFarBehind(store string, b *wal.Bounds, floor int64) bool {
	c := x.ns.Config()
	limit := c.MaxLogBytes / 2
	if s := storeConfig(c, store); s.MaxLag > 0 {
		limit = s.MaxLag
	}
	records := int64(b.End - b.Start)
	if limit == 0 || b.Bytes <= 0 || records <= 0 {
		return false
	}
	held := float64(b.Bytes) * float64(int64(b.End)-floor) / float64(records)
	return held*float64(len(x.serving)) > float64(limit)
}

// detach gives a store up that follows too far behind: the log is trimmed past it.
func (x *space) detach(ctx context.Context, st *store, p wal.Partition, floor, end int64) {
	cause := fmt.Errorf("it fell further behind than max_lag allows: it lacks records %d to %d of partition %d", floor, end-1, p)
	if err := x.failStore(ctx, st.name, st.generation, cause); err != nil {
		x.s.log.Error("a store that is too far behind cannot be detached", "namespace", x.ns.Name, "store", st.name, "reason", err)
		return
	}
	x.changedStores()
}

// liveTokens is how many tokens the stores that serve remember.
func (x *space) liveTokens() (n int64) {
	if x.owners != nil {
		return x.owners.LiveTokens()
	}
	for p := range wal.Partition(len(x.serving)) {
		if st := x.serves(p); st != nil {
			n += st.ledger.LiveTokens(p)
		}
	}
	return n
}
