package consumers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// LoopConfig is what a Loop is made of.
type LoopConfig struct {
	Log     wal.Log // read again when parked records are redriven
	Letters DeadLetters
	// Kinds of the abstraction's own records.
	Kinds []wal.Kind
	// Machine makes that of a partition.
	Machine func(p *Part) Machine
	// Clock learns of the times of versions, so that later ones are above; may be
	// nil.
	Clock *wal.Clock
	// MaxParked is how many records may wait behind one poisonous key before its
	// partition is held. Default 100,000.
	MaxParked int
	// Applied is told that readers can see everything up to st.Applied. In the
	// partition's goroutine.
	Applied func(p wal.Partition, st *State)
	// Ledger is the store's own.
	Ledger Exceptions
	// Ahead is the store's own where its effects and position are not saved as one; nil where they are.
	Ahead Ahead
	// Siblings are the stores of the namespace that decide alike; nil where there
	// is one.
	Siblings *Siblings
	// TakesOver reports whether this store is to decide a partition that it follows,
	// because the one that a record named is gone; see Part.Forsaken. Nil: never.
	TakesOver func(p *Part) bool
	// Store names this store in control records.
	Store string
	// Left is what this store leaves out while it follows; nil: nothing.
	Left *LeftOut
}

// LeftOut is what a store that follows does not do though it was decided: some writes, or
// all records before the one that it begins with. What refers to those has no effect
// either.
type LeftOut struct {
	// Tokens are the nonces of the writes. What was answered to them stands.
	Tokens map[wal.Nonce]bool
}

// AdvanceOf returns an Applied that raises the watermarks of g.
func AdvanceOf(g *wal.Progress) func(p wal.Partition, st *State) {
	return func(p wal.Partition, st *State) { g.Advance(p, st.Applied, st.LogTime) }
}

// Stats counts decisions since the process started. Refused: by a condition, a
// bound, overflow, a reservation. Safe for concurrent use.
type Stats struct {
	Applied, Duplicates, Conflicts, TooOld, Refused, Parked atomic.Int64
}

// Loop applies the log to one store: what the appliers of all abstractions do
// alike. It is the Applier of a Runner. Each partition is loaded when it is
// assigned, and given up when it is revoked.
type Loop struct {
	cfg   LoopConfig
	parts []atomic.Pointer[Part]
	// limits are the last records that are applied, by partition; see Limit.
	limits []atomic.Int64
	stats  Stats
}

// NewLoop returns a loop that has no partitions yet.
func NewLoop(cfg LoopConfig) *Loop {
	if cfg.Clock == nil {
		cfg.Clock = &wal.Clock{}
	}
	if cfg.Applied == nil {
		cfg.Applied = func(wal.Partition, *State) {}
	}
	n := cfg.Log.Info().Partitions
	l := &Loop{cfg: cfg, parts: make([]atomic.Pointer[Part], n), limits: make([]atomic.Int64, n)}
	for p := range n {
		l.limits[p].Store(noHold)
	}
	return l
}

// Part is one partition of a loop. Its fields belong to the goroutine of the
// partition, but for the parking and saved.
type Part struct {
	l       *Loop
	p       wal.Partition
	m       Machine
	st      State
	parking *Parking
	saved   *wal.Watermark
	// panicked are the calls that made this build panic: they are parked without
	// another try.
	panicked map[wal.Ref]error
	// lost: the record in hand failed after it had changed something.
	lost  bool
	run   Run
	rows  decidedRows // of a store that follows, and of records that are repeated
	ahead ahead
	hold  atomic.Int64
	// What others ask of the state; see Forsaken.
	follows atomic.Bool
	step    atomic.Uint64
	told    atomic.Int64 // offset that was told last
	// repeatsTo is that of ahead.
	repeatsTo atomic.Int64
}

// Stats returns the counts of decisions; they may be read at any time.
func (l *Loop) Stats() *Stats { return &l.stats }

// Assign loads a partition: what the store has, and what is parked.
func (l *Loop) Assign(ctx context.Context, p wal.Partition) error {
	q := &Part{l: l, p: p, panicked: make(map[wal.Ref]error), saved: wal.NewWatermark(wal.NoOffset)}
	q.hold.Store(noHold)
	q.repeatsTo.Store(int64(wal.NoOffset))
	q.parking = NewParking(ParkingConfig{
		Partition: p, Letters: q, Log: l.cfg.Log, MaxParked: l.cfg.MaxParked,
		Save:  func(c *ParkedChange) { q.m.SaveParked(c) },
		Again: q.again,
	})
	q.m = l.cfg.Machine(q)
	q.lost = true
	if err := q.load(ctx); err != nil {
		return err
	}
	l.parts[p].Store(q)
	l.cfg.Applied(p, &q.st)
	return nil
}

// Revoke saves what was applied of a partition, and forgets it. No Apply of the
// partition may be under way or follow.
func (l *Loop) Revoke(ctx context.Context, p wal.Partition) error {
	q := l.parts[p].Swap(nil)
	if q == nil {
		return nil
	}
	q.saved.Fail(ErrNotAssigned)
	if err := q.save(ctx); !errors.Is(err, ErrStoreAway) {
		return err
	}
	return nil // the log has it
}

// ErrNotAssigned: the partition is not this loop's, or is no longer.
var ErrNotAssigned = errors.New("the partition is not assigned here")

// Limit has a partition applied up to o and no further, from the next Assign on: a store that is about to take it over
// repeats what another has decided. NoLimit ends that.
func (l *Loop) Limit(p wal.Partition, o wal.Offset) { l.limits[p].Store(int64(o)) }

// NoLimit is no limit of Loop.Limit.
const NoLimit wal.Offset = noHold

// Part returns a partition that is assigned, nil otherwise.
func (l *Loop) Part(p wal.Partition) *Part { return l.parts[p].Load() }

// Partition is the number of the partition.
func (q *Part) Partition() wal.Partition { return q.p }

// State is how far the partition is applied. In its goroutine.
func (q *Part) State() State { return q.st }

// Machine is the partition's own rules.
func (q *Part) Machine() Machine { return q.m }

// Parking is what is set aside.
func (q *Part) Parking() *Parking { return q.parking }

// Saved says that the store has everything up to o. Any goroutine.
func (q *Part) Saved(o wal.Offset) {
	q.saved.Advance(o)
	if s := q.l.cfg.Siblings; s != nil {
		s.moved()
	}
}

// Unsettled reports whether what was decided is not told yet, or letters of what was applied are not written:
// then nothing of it may be saved. In the partition's goroutine.
func (q *Part) Unsettled() bool { return q.lost || q.parking.Owes() || q.ahead.from != wal.NoOffset }

// RepeatsTo is up to where the partition repeats what was decided before, wal.NoOffset where it does not. Any goroutine.
func (q *Part) RepeatsTo() wal.Offset { return wal.Offset(q.repeatsTo.Load()) }

// SavedOffset is what Saved was told last. Any goroutine.
func (q *Part) SavedOffset() wal.Offset { return q.saved.Applied() }

// load begins with what the store has.
func (q *Part) load(ctx context.Context) error {
	st, queues, kept, err := q.m.Load(ctx, q.lost)
	if err != nil {
		return fmt.Errorf("load partition %d: %w", q.p, err)
	}
	q.lost = false
	if kept {
		return nil
	}
	q.st = st
	q.toldTurn()
	q.l.cfg.Clock.Observe(st.MaxTime)
	q.parking.Load(queues)
	q.Saved(st.Applied)
	return q.loadAhead(ctx)
}

// Resume says where a partition goes on: the offset after the last one applied.
// After an error of Apply it is the way back to a state that is known.
func (l *Loop) Resume(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	q := l.parts[p].Load()
	if q == nil {
		return wal.NoOffset, ErrNotAssigned
	}
	if err := q.load(ctx); err != nil {
		return wal.NoOffset, err
	}
	// Letters that could not be written are tried again.
	if err := q.commit(ctx); err != nil {
		return wal.NoOffset, err
	}
	return q.st.Applied + 1, nil
}

// maxBatch bounds the changes that are committed together, in records.
const maxBatch = 8192

// Apply applies entries of one partition, which follow what was applied before,
// and returns how many: fewer than it was given where a record made another
// store decide what comes after it. On nil they can be read, and LoopConfig.Applied
// was told. On an error a part of them may be applied; call Resume before the
// next Apply. wal.ErrUnknownVersion, wal.ErrCorrupt, ErrCannotFollow: the
// partition cannot go on; anything else may pass.
func (l *Loop) Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) (n int, err error) {
	q := l.parts[p].Load()
	if q == nil {
		return 0, ErrNotAssigned
	}
	if q.st.Follows {
		if err := q.readDecisions(ctx, entries); err != nil {
			return 0, fmt.Errorf("read what was decided of partition %d: %w", p, err)
		}
	} else if err := q.readRepeated(ctx, entries); err != nil {
		return 0, fmt.Errorf("read what was decided of partition %d: %w", p, err)
	}
	follows := q.st.Follows
	for n = range entries {
		if err := q.entry(ctx, &entries[n]); err != nil {
			return n, fmt.Errorf("apply partition %d offset %d: %w", p, entries[n].Offset, err)
		}
		if q.st.Follows != follows {
			return n + 1, q.turned(ctx)
		}
		if n%maxBatch == maxBatch-1 {
			if err := q.commit(ctx); err != nil {
				return n, err
			}
		}
	}
	return len(entries), q.commit(ctx)
}

// turned makes the record that turned the partition over durable in the store at
// once: the other store waits for it.
func (q *Part) turned(ctx context.Context) error {
	if err := q.commit(ctx); err != nil {
		return err
	}
	if q.tellOlder(); q.ahead.from != wal.NoOffset {
		if err := q.commit(ctx); err != nil {
			return err
		}
	}
	return q.save(ctx)
}

// entry applies one record and moves the state past it.
func (q *Part) entry(ctx context.Context, e *wal.Entry) error {
	if q.st.Applied >= 0 && e.Offset <= q.st.Applied {
		return fmt.Errorf("offset %d is already applied (at %d)", e.Offset, q.st.Applied)
	}
	r := &q.run
	*r = Run{Part: q, Entry: e, Record: r.Record, LogTime: max(q.st.LogTime, e.LogTime), row: r.row[:0], decided: r.decided[:0]}
	q.beginAhead(r)
	decides := !r.Follows()
	err := q.decisionsOf(r)
	if err == nil {
		err = q.dispatch(ctx, r)
	}
	if err != nil {
		q.lost = q.lost || r.changed
		q.parking.Forget(e.Offset)
		return err
	}
	if len(r.row) > 0 {
		q.m.SaveException(e.Offset, r.row)
	}
	if decides {
		q.noteAhead(e.Offset, r.row)
	}
	q.st.Applied, q.st.LogTime = e.Offset, r.LogTime
	q.noteSource(r)
	q.m.Moved(&q.st)
	return nil
}

func (q *Part) dispatch(ctx context.Context, r *Run) error {
	rec := &r.Record
	err := wal.DecodeRecord(r.Entry.Data, rec)
	if errors.Is(err, wal.ErrUnknownVersion) {
		return err
	}
	if r.AcceptedAt = rec.AcceptedAt; r.AcceptedAt == 0 {
		r.AcceptedAt = r.LogTime
	}
	if beginErr := q.m.Begin(ctx, r); beginErr != nil {
		return beginErr
	}
	if err != nil {
		key, keyErr := wal.RoutingKeyOf(r.Entry.Data)
		if keyErr != nil {
			key = nil
		}
		return q.parkWhole(ctx, r, key, err)
	}
	switch {
	case rec.Kind == wal.KindBarrier:
		return nil
	case rec.Kind == wal.KindControl:
		return q.control(ctx, r)
	case slices.Contains(q.l.cfg.Kinds, rec.Kind):
		err := error(nil)
		counts := true
		if rec.Origin != "" {
			counts, err = q.fromSource(r)
		}
		if counts && err == nil {
			err = q.m.Record(ctx, r)
		}
		if !errors.Is(err, ErrPoison) {
			return err
		}
		return q.parkWhole(ctx, r, rec.RoutingKey, err)
	default:
		return q.parkWhole(ctx, r, rec.RoutingKey, fmt.Errorf("a record of kind %s does not belong here", rec.Kind))
	}
}

// parkWhole parks a record that could not be taken apart.
func (q *Part) parkWhole(ctx context.Context, r *Run, key []byte, cause error) error {
	if aside, err := r.Aside(wal.WholeRecord, key); aside || err != nil {
		return err
	}
	return r.Park(wal.WholeRecord, key, cause)
}

// commit makes durable what was decided and then its letters, lets readers see it, and tells how far
// the partition is applied.
func (q *Part) commit(ctx context.Context) error {
	if err := q.decideAhead(ctx); err != nil {
		q.lost = true
		return err
	}
	if err := q.parking.Flush(ctx); err != nil {
		return fmt.Errorf("partition %d: %w", q.p, err)
	}
	if err := q.m.Commit(ctx, &q.st); err != nil {
		q.lost = true
		return fmt.Errorf("commit partition %d at %d: %w", q.p, q.st.Applied, err)
	}
	q.committedAhead()
	q.l.cfg.Clock.Observe(q.st.MaxTime)
	q.told.Store(int64(q.st.Applied))
	q.l.cfg.Applied(q.p, &q.st)
	return nil
}

// save returns when the store has what was applied.
func (q *Part) save(ctx context.Context) error {
	if q.Unsettled() {
		return nil // the log has it
	}
	if err := q.m.Save(ctx, &q.st); err != nil {
		q.lost = true
		return fmt.Errorf("save partition %d at %d: %w", q.p, q.st.Applied, err)
	}
	return nil
}

// TrimExceptions removes what was decided of the records below before, which the log
// no longer holds. In the partition's goroutine.
func (q *Part) TrimExceptions(ctx context.Context, before wal.Offset) error {
	q.m.TrimExceptions(before)
	return q.commit(ctx)
}

// Drain saves what was applied of every partition. After the runner has ended,
// before the store is closed.
func (l *Loop) Drain(ctx context.Context) error {
	var errs []error
	for i := range l.parts {
		if q := l.parts[i].Load(); q != nil {
			errs = append(errs, q.save(ctx))
		}
	}
	return errors.Join(errs...)
}

// Put implements DeadLetters for the parking of the partition: a store that
// follows writes none, since the one that decided did.
func (q *Part) Put(ctx context.Context, letters []DeadLetter) error {
	if q.st.Follows {
		return nil
	}
	return q.l.cfg.Letters.Put(ctx, letters)
}

// Parked returns the queue of a key, and whether it is parked. Any goroutine.
func (l *Loop) Parked(p wal.Partition, key []byte) (ParkedQueue, bool) {
	if q := l.parts[p].Load(); q != nil {
		return q.parking.Find(key)
	}
	return ParkedQueue{}, false
}

// ParkedKeys returns how many keys of a partition are parked, and the lowest
// offset that only the log still holds for them (wal.NoOffset when none). Any
// goroutine.
func (l *Loop) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	if q := l.parts[p].Load(); q != nil {
		return q.parking.Len(), q.parking.Lowest()
	}
	return 0, wal.NoOffset
}

// ParkedVersion changes whenever other keys of a partition are parked; see Parking.Version. Any goroutine.
func (l *Loop) ParkedVersion(p wal.Partition) uint64 {
	if q := l.parts[p].Load(); q != nil {
		return q.parking.Version()
	}
	return 0
}

// ParkedHeads calls do with the queue of each parked key of a partition; see
// Parking.Heads. Any goroutine.
func (l *Loop) ParkedHeads(p wal.Partition, do func(*ParkedQueue)) {
	if q := l.parts[p].Load(); q != nil {
		q.parking.Heads(do)
	}
}
