package counter

import (
	"context"
	"sync/atomic"
	"time"

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
	Letters  wal.DeadLetters
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

// Stats counts decisions since the process started.
type Stats struct {
	Applied, Duplicates, Conflicts, TooOld, Refused, Parked atomic.Int64 // Refused: by a bound, overflow, reservation
	Flushes                                                 atomic.Int64
}

// Applier applies the log to the rollup, and flushes the rollup to the store.
type Applier struct{ cfg ApplierConfig }

// NewApplier loads where the store is.
func NewApplier(ctx context.Context, cfg ApplierConfig) (*Applier, error) { panic("soon") }

func (a *Applier) Resume(ctx context.Context, p wal.Partition) (wal.Offset, error) { panic("soon") }
func (a *Applier) Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) error {
	panic("soon")
}

// Stats returns the counts of decisions; they may be read at any time.
func (a *Applier) Stats() *Stats { panic("soon") }

// Flush begins to write what was applied to the store, unless nothing was or a
// flush is under way. In the partition's goroutine (consumers.Runner.Do), about
// once a second; it does not wait for the store.
func (a *Applier) Flush(ctx context.Context, p wal.Partition) error { panic("soon") }

// Drain flushes everything and waits for it. Call it for each partition after the runner has ended,
// before the store is closed.
func (a *Applier) Drain(ctx context.Context) error { panic("soon") }

// Sweep frees what nobody can see any more, by log time: expired counters,
// tokens and ended reservations from before the window, events older than
// eventRetention (0: kept for ever). In the partition's goroutine. more says
// that the round is not over.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, window, eventRetention time.Duration, limit int) (more bool, err error) {
	panic("soon")
}

// Due reports whether the log of p should be moved on by a tick: at log time now
// (microseconds since 1970) a lease, a counter or a token is due that only a
// record can end. In the partition's goroutine.
func (a *Applier) Due(p wal.Partition, now int64) bool { panic("soon") }

// Parked returns the queue of a counter, and whether it is parked. Any goroutine.
func (a *Applier) Parked(p wal.Partition, key []byte) (q wal.ParkedQueue, ok bool) { panic("soon") }

// ParkedKeys returns how many counters of a partition are parked, and the lowest
// offset that only the log still holds for them (wal.NoOffset when none).
func (a *Applier) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) { panic("soon") }
