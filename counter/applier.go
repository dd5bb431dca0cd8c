package counter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Settings are the parts of a namespace's configuration that decide what a
// record does. A record is applied under the version it was accepted under.
type Settings struct {
	TokenWindow time.Duration
	// TTL: a counter that is idle for so long disappears; 0 is never.
	TTL time.Duration
	// Bounds stand for every add of the namespace.
	Bounds Bounds
}

// ApplierConfig is what an Applier is made of.
type ApplierConfig struct {
	consumers.LoopConfig
	Store Store
	// Events has the events; nil: Store has them.
	Events EventStore
	// Settings returns the settings of a namespace version. An error is transient:
	// the record waits until the version is known.
	Settings func(version uint64) (Settings, error)
	// Windows that are kept, smallest first; they never change in the life of a
	// namespace.
	Windows []time.Duration
	// HotBytes bounds the memory of counters kept in memory, all partitions
	// together, about. Default 128 MiB.
	HotBytes int64
	// FlushCounters: so many changed counters of a partition are flushed without
	// waiting for Flush. Default 65,536.
	FlushCounters int
}

// Applier applies the log to a Rollup for each partition, and flushes what it
// decided to the store: from time to time, so that a counter that is added to a
// thousand times is written once. It is the loop that all abstractions share, with
// a machine for each partition.
//
// What is applied can be read at once, from memory; what is saved is behind it,
// and a crash costs the reading of the log from there. Flush, Sweep and Due are
// called by one goroutine for each partition, as the loop is.
type Applier struct {
	*consumers.Loop
	cfg     ApplierConfig
	flushes atomic.Int64
}

// machine is the rules of one partition. What its goroutine changes under mu,
// readers see under mu; what it keeps to itself needs no lock.
type machine struct {
	a    *Applier
	part *consumers.Part
	p    wal.Partition

	mu     sync.RWMutex // guards rollup against its readers
	rollup *Rollup

	underWay *flush // to the store, or nil
	// away is a flush whose events could not be saved. It is tried again, and none comes before it.
	away *flush
	// broken: memory may hold a part of a record, or a flush failed. It is read back
	// from the store before anything else happens.
	broken bool
	cursor sweepCursor

	call    Call // of the loop, to save allocations
	scratch scratch
}

// flush is a batch on its way to the store.
type flush struct {
	done   chan struct{} // closed when err is set
	batch  Batch
	state  State
	events *EventBlock // nil: the batch has them
	err    error
	// away: the events could not be saved, and the batch is as it was.
	away bool
}

// NewApplier returns an applier that has no partitions yet; see Loop.Assign.
func NewApplier(cfg ApplierConfig) *Applier {
	if cfg.HotBytes == 0 {
		cfg.HotBytes = 128 << 20
	}
	if cfg.FlushCounters == 0 {
		cfg.FlushCounters = 1 << 16
	}
	a := &Applier{}
	cfg.Kinds = []wal.Kind{wal.KindCounter}
	cfg.Machine = func(p *consumers.Part) consumers.Machine {
		return &machine{a: a, part: p, p: p.Partition()}
	}
	a.cfg = cfg
	a.Loop = consumers.NewLoop(cfg.LoopConfig)
	return a
}

// machine returns that of a partition, consumers.ErrNotAssigned.
func (a *Applier) machine(p wal.Partition) (*machine, error) {
	q := a.Part(p)
	if q == nil {
		return nil, consumers.ErrNotAssigned
	}
	return q.Machine().(*machine), nil
}

// Flushes counts the batches that reached the store.
func (a *Applier) Flushes() int64 { return a.flushes.Load() }

// Load implements consumers.Machine. Where nothing was lost, memory is kept: it is
// ahead of the store.
func (m *machine) Load(ctx context.Context, lost bool) (st consumers.State, queues []consumers.ParkedQueue, kept bool, err error) {
	m.broken = m.broken || lost
	if m.rollup != nil && !m.broken {
		return m.rollup.state.State, nil, true, nil
	}
	if err := m.wait(ctx); err != nil && m.away == nil {
		return st, nil, false, err
	}
	if f := m.away; f != nil { // the log has it
		m.away = nil
		f.batch.Abort()
	}
	store := m.a.cfg.Store
	saved, err := store.Saved(ctx, m.p)
	if err != nil {
		return st, nil, false, fmt.Errorf("read the state: %w", err)
	}
	if queues, err = store.Parked(ctx, m.p); err != nil {
		return st, nil, false, fmt.Errorf("read the parked records: %w", err)
	}
	r := NewRollup(m.a.cfg.Windows, saved)
	if shared, ok := store.(SharedStore); ok {
		r.shared, r.coveredTo = true, shared.Covered(m.p)
	}
	err = store.HeldReservations(ctx, m.p, func(v *Reservation) error {
		kept := *v
		kept.Counter = append([]byte(nil), v.Counter...)
		r.leases.add(&kept)
		return nil
	})
	if err != nil {
		return st, nil, false, fmt.Errorf("read the reservations: %w", err)
	}
	m.mu.Lock()
	m.rollup = r
	m.mu.Unlock()
	m.broken = false
	return saved.State, queues, false, nil
}

// SaveParked implements consumers.Machine.
func (m *machine) SaveParked(c *consumers.ParkedChange) {
	m.rollup.parked = append(m.rollup.parked, *c)
}

// SaveException implements consumers.Machine.
func (m *machine) SaveException(o wal.Offset, row []byte) { m.rollup.except(o, row) }

// TrimExceptions implements consumers.Machine.
func (m *machine) TrimExceptions(before wal.Offset) { m.rollup.trim = max(m.rollup.trim, before) }

// Moved implements consumers.Machine: readers see the record from here on.
func (m *machine) Moved(st *consumers.State) {
	m.mu.Lock()
	m.rollup.move(st)
	m.mu.Unlock()
}

// Commit implements consumers.Machine: what was applied is in memory, where readers
// look.
func (m *machine) Commit(context.Context, *consumers.State) error { return nil }

// Save implements consumers.Machine.
func (m *machine) Save(ctx context.Context, _ *consumers.State) error {
	if err := m.wait(ctx); err != nil {
		return err
	}
	if err := m.again(ctx); err != nil {
		return err
	}
	if m.broken || !m.rollup.changed(m.part.SavedOffset()) {
		return nil
	}
	m.flush()
	return m.wait(ctx)
}

// again tries a flush that did not land once more, and waits for it.
func (m *machine) again(ctx context.Context) error {
	if m.away == nil {
		return nil
	}
	m.flush()
	return m.wait(ctx)
}

// makeRoom flushes what has changed before the record in hand, where that is so
// much that it should not grow.
func (m *machine) makeRoom(ctx context.Context, r *consumers.Run) error {
	eventBytes := 16 << 20
	if m.a.cfg.Events != nil { // they take some ten times as much on their way
		eventBytes = 2 << 20
	}
	if !m.rollup.full(m.a.cfg.FlushCounters, eventBytes) {
		return nil
	}
	if err := r.Settled(ctx); err != nil {
		return err
	}
	if err := m.wait(ctx); err != nil {
		return err
	}
	if err := m.again(ctx); err != nil {
		return err
	}
	m.flush()
	return nil
}

// Flush begins to write what was applied to the store, unless nothing was or a
// flush is under way. In the partition's goroutine (consumers.Runner.Do), about
// once a second; it does not wait for the store.
func (a *Applier) Flush(ctx context.Context, p wal.Partition) error {
	m, err := a.machine(p)
	if err != nil {
		return err
	}
	if m.underWay != nil {
		select {
		case <-m.underWay.done:
		default:
			return nil
		}
	}
	if err := m.wait(ctx); err != nil || m.broken || m.part.Unsettled() {
		return err
	}
	if m.away != nil || m.rollup.changed(m.part.SavedOffset()) {
		m.flush()
	}
	return nil
}

// evict brings the memory of counters below its bound, as far as they are saved
// and nothing is on its way to the store.
func (m *machine) evict() {
	const atOnce = 1024 // so that readers are not kept waiting
	limit := m.a.cfg.HotBytes / int64(m.a.cfg.Log.Info().Partitions)
	for range 2*len(m.rollup.hand)/atOnce + 1 { // the first time round the hand only takes note
		if m.rollup.hotBytes <= limit {
			return
		}
		m.mu.Lock()
		m.rollup.evict(limit, atOnce)
		m.mu.Unlock()
	}
}

// flush cuts the rollup and has it committed by a goroutine of its own; a flush that did not land
// goes first, and alone. No flush is under way.
func (m *machine) flush() {
	f := m.away
	if f == nil {
		f = m.cut()
	}
	m.away = nil
	m.underWay = &flush{done: make(chan struct{}), batch: f.batch, state: f.state, events: f.events}
	go m.commit(m.underWay)
}

// cut is what has changed, for a flush.
func (m *machine) cut() *flush {
	m.evict()
	f := &flush{batch: m.a.cfg.Store.Begin(m.p)}
	m.rollup.fill(f.batch)
	if m.a.cfg.Events == nil {
		m.rollup.fillEvents(f.batch)
	} else {
		f.events = m.rollup.takeEvents()
	}
	m.mu.Lock()
	f.state = m.rollup.cut()
	m.mu.Unlock()
	return f
}

// commit saves a flush: first the events, where they are elsewhere, so that the store never has a
// position that they do not. A flush that has begun is finished: it is what the next start saves
// reading.
func (m *machine) commit(f *flush) {
	defer close(f.done)
	ctx := context.Background()
	if f.events != nil && !f.events.Empty() {
		if err := m.a.cfg.Events.SaveEvents(ctx, m.p, f.events); err != nil {
			if f.err, f.away = err, true; !errors.Is(err, consumers.ErrStoreAway) { // as where it has no table
				f.err = fmt.Errorf("%w: %w", consumers.ErrStoreAway, err)
			}
			return
		}
	}
	defer f.batch.Abort()
	if f.err = f.batch.Commit(ctx, f.state); f.err == nil {
		m.a.flushes.Add(1)
		m.part.Saved(f.state.Applied)
	}
}

// wait returns when no flush is under way. An error is that of the flush: what it
// was to write is not saved. Where its events could not be saved it is tried again; else
// memory is read back from the store.
func (m *machine) wait(ctx context.Context) error {
	f := m.underWay
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	m.underWay = nil
	if f.err != nil {
		if f.away {
			m.away = f
		} else {
			m.broken = true
		}
		return fmt.Errorf("flush partition %d at %d: %w", m.p, f.state.Applied, f.err)
	}
	m.mu.Lock()
	m.rollup.landed()
	m.mu.Unlock()
	return nil
}
