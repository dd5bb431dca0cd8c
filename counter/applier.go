package counter

import (
	"context"
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
	Store    Store
	Log      wal.Log // read again when parked records are redriven
	Letters  consumers.DeadLetters
	Progress *wal.Progress
	// Settings returns the settings of a namespace version. An error is transient:
	// the record waits until the version is known.
	Settings func(version uint64) (Settings, error)
	// Windows that are kept, smallest first; they never change in the life of a
	// namespace.
	Windows []time.Duration
	// Clock learns of the times of tokens, so that later ones are above; may be
	// nil.
	Clock *wal.Clock
	// MaxParked is how many records may wait behind one poisonous counter before
	// its partition is held. Default 100,000.
	MaxParked int
	// HotBytes bounds the memory of counters kept in memory, all partitions
	// together, about. Default 128 MiB.
	HotBytes int64
	// FlushCounters: so many changed counters of a partition are flushed without
	// waiting for Flush. Default 65,536.
	FlushCounters int
}

// Stats counts decisions since the process started. Adds are counted one by
// one, everything else by call.
type Stats struct {
	Applied, Duplicates, Conflicts, TooOld, Refused, Parked atomic.Int64 // Refused: by a bound, overflow, reservation
	Flushes                                                 atomic.Int64
}

// Applier applies the log to a Rollup for each partition, and flushes what it
// decided to the store: from time to time, so that a counter that is added to a
// thousand times is written once. It is the one place that decides what a call
// did, and it reads no clock but the log's.
//
// What is applied can be read at once, from memory; what is saved is behind it,
// and a crash costs the reading of the log from there. Apply, Resume, Flush,
// Sweep and Due are called by one goroutine for each partition, everything else
// by anyone.
type Applier struct {
	cfg   ApplierConfig
	parts []*partApplier
	stats Stats
}

// partApplier is one partition. What its goroutine changes under mu, readers see
// under mu; what it keeps to itself needs no lock.
type partApplier struct {
	a *Applier
	p wal.Partition

	mu     sync.RWMutex // guards rollup against its readers
	rollup *Rollup

	parking *consumers.Parking
	saved   *wal.Watermark // what the store has
	flight  *flight        // under way, or nil
	// broken: memory may hold a part of a record. It is read back from the store
	// before anything else happens.
	broken bool
	// partial: the record in hand has changed something. When it fails then, memory
	// holds a part of it.
	partial bool
	// panicked are the calls that made this build panic: they are parked without
	// another try.
	panicked map[wal.Ref]error
	cursor   sweepCursor

	record  wal.Record // of the loop, to save allocations
	call    Call
	scratch scratch
}

// flight is a flush on its way to the store.
type flight struct {
	done chan struct{} // closed when err is set
	upTo wal.Offset
	err  error
}

// NewApplier loads where the store is and what is parked.
func NewApplier(ctx context.Context, cfg ApplierConfig) (*Applier, error) {
	if cfg.HotBytes == 0 {
		cfg.HotBytes = 128 << 20
	}
	if cfg.FlushCounters == 0 {
		cfg.FlushCounters = 1 << 16
	}
	if cfg.Clock == nil {
		cfg.Clock = &wal.Clock{}
	}
	a := &Applier{cfg: cfg}
	for i := range cfg.Log.Info().Partitions {
		p := wal.Partition(i)
		pa := &partApplier{a: a, p: p, panicked: make(map[wal.Ref]error), saved: wal.NewWatermark(wal.NoOffset)}
		pa.parking = consumers.NewParking(consumers.ParkingConfig{
			Partition: p, Letters: cfg.Letters, MaxParked: cfg.MaxParked,
			Save: func(c *consumers.ParkedChange) {
				pa.rollup.parked, pa.partial = append(pa.rollup.parked, *c), true
			},
			Log:   cfg.Log,
			Again: pa.again,
		})
		if err := pa.load(ctx); err != nil {
			return nil, err
		}
		a.parts = append(a.parts, pa)
		cfg.Progress.Advance(p, pa.rollup.state.Applied, pa.rollup.state.LogTime)
	}
	return a, nil
}

// load begins with what the store has, forgetting what is in memory.
func (pa *partApplier) load(ctx context.Context) error {
	store := pa.a.cfg.Store
	st, err := store.Saved(ctx, pa.p)
	if err != nil {
		return fmt.Errorf("read the state of partition %d: %w", pa.p, err)
	}
	queues, err := store.Parked(ctx, pa.p)
	if err != nil {
		return fmt.Errorf("read the parked records of partition %d: %w", pa.p, err)
	}
	r := NewRollup(pa.a.cfg.Windows, st)
	err = store.HeldReservations(ctx, pa.p, func(v *Reservation) error {
		kept := *v
		kept.Counter = append([]byte(nil), v.Counter...)
		r.leases.add(&kept)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the reservations of partition %d: %w", pa.p, err)
	}
	pa.a.cfg.Clock.Observe(st.MaxTime)
	pa.mu.Lock()
	pa.rollup = r
	pa.mu.Unlock()
	pa.parking.Load(queues)
	pa.broken = false
	pa.saved.Advance(st.Applied)
	return nil
}

// Stats returns the counts of decisions; they may be read at any time.
func (a *Applier) Stats() *Stats { return &a.stats }

// Resume says where a partition goes on: the offset after the last one applied.
func (a *Applier) Resume(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	pa := a.parts[p]
	if pa.broken {
		if err := pa.wait(ctx); err != nil {
			return wal.NoOffset, err
		}
		if err := pa.load(ctx); err != nil {
			return wal.NoOffset, err
		}
	}
	if err := pa.settle(ctx); err != nil {
		return wal.NoOffset, err
	}
	return pa.rollup.state.Applied + 1, nil
}

// Apply applies entries of one partition, which follow what was applied before.
// On nil the progress has advanced past them and readers see them; the store
// has them after a flush. On an error a part of them may be applied; call
// Resume before the next Apply. wal.ErrUnknownVersion, wal.ErrCorrupt: the
// partition cannot go on; anything else may pass.
func (a *Applier) Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) error {
	pa := a.parts[p]
	if pa.broken { // since a flush failed: what it was to write is in no later one
		return fmt.Errorf("apply partition %d: %w", p, ErrReloading)
	}
	for i := range entries {
		if err := pa.entry(ctx, &entries[i]); err != nil {
			return fmt.Errorf("apply partition %d offset %d: %w", p, entries[i].Offset, err)
		}
		if pa.rollup.full(a.cfg.FlushCounters) {
			if err := pa.settle(ctx); err != nil {
				return err
			}
			if err := pa.wait(ctx); err != nil {
				return err
			}
			pa.flush()
		}
	}
	return pa.settle(ctx)
}

// settle makes the letters of what was refused durable, and then lets everybody
// know how far the partition is applied.
func (pa *partApplier) settle(ctx context.Context) error {
	if err := pa.parking.Flush(ctx); err != nil {
		return fmt.Errorf("partition %d: %w", pa.p, err)
	}
	st := &pa.rollup.state
	pa.a.cfg.Clock.Observe(st.MaxTime)
	pa.a.cfg.Progress.Advance(pa.p, st.Applied, st.LogTime)
	return nil
}

// Flush begins to write what was applied to the store, unless nothing was or a
// flush is under way. In the partition's goroutine (consumers.Runner.Do), about
// once a second; it does not wait for the store.
func (a *Applier) Flush(ctx context.Context, p wal.Partition) error {
	pa := a.parts[p]
	if pa.flight != nil {
		select {
		case <-pa.flight.done:
		default:
			return nil
		}
	}
	if err := pa.wait(ctx); err != nil || pa.broken || pa.parking.Owes() {
		return err
	}
	if pa.rollup.changed(pa.saved.Applied()) {
		pa.flush()
	}
	return nil
}

// evict brings the memory of counters below its bound, as far as they are saved
// and nothing is on its way to the store.
func (pa *partApplier) evict() {
	const atOnce = 1024 // so that readers are not kept waiting
	limit := pa.a.cfg.HotBytes / int64(len(pa.a.parts))
	for range 2*len(pa.rollup.hand)/atOnce + 1 { // the first time round the hand only takes note
		if pa.rollup.hotBytes <= limit {
			return
		}
		pa.mu.Lock()
		pa.rollup.evict(limit, atOnce)
		pa.mu.Unlock()
	}
}

// flush cuts the rollup and has it committed by a goroutine of its own. No flush
// is under way.
func (pa *partApplier) flush() {
	pa.evict()
	b := pa.a.cfg.Store.Begin(pa.p)
	pa.rollup.fill(b)
	pa.mu.Lock()
	st := pa.rollup.cut()
	pa.mu.Unlock()
	f := &flight{done: make(chan struct{}), upTo: st.Applied}
	pa.flight = f
	go func() {
		defer close(f.done)
		defer b.Abort()
		// A flush that has begun is finished: it is what the next start saves reading.
		if f.err = b.Commit(context.Background(), st); f.err == nil {
			pa.a.stats.Flushes.Add(1)
			pa.saved.Advance(st.Applied)
		}
	}()
}

// wait returns when no flush is under way. An error is that of the flush: what it
// was to write is not saved, and memory is read back from the store.
func (pa *partApplier) wait(ctx context.Context) error {
	f := pa.flight
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	pa.flight = nil
	if f.err != nil {
		pa.broken = true
		return fmt.Errorf("flush partition %d at %d: %w", pa.p, f.upTo, f.err)
	}
	pa.mu.Lock()
	pa.rollup.landed()
	pa.mu.Unlock()
	return nil
}

// Drain flushes everything and waits for it. After the runner has ended, before
// the store is closed.
func (a *Applier) Drain(ctx context.Context) error {
	for _, pa := range a.parts {
		if err := pa.wait(ctx); err != nil {
			return err
		}
		if pa.broken || pa.parking.Owes() || !pa.rollup.changed(pa.saved.Applied()) {
			continue // the log has it
		}
		pa.flush()
		if err := pa.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Parked returns the queue of a counter, and whether it is parked. Any goroutine.
func (a *Applier) Parked(p wal.Partition, key []byte) (q consumers.ParkedQueue, ok bool) {
	return a.parts[p].parking.Find(key)
}

// ParkedKeys returns how many counters of a partition are parked, and the lowest
// offset that only the log still holds for them (wal.NoOffset when none).
func (a *Applier) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	k := a.parts[p].parking
	return k.Len(), k.Lowest()
}
