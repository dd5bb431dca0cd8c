package counter

import (
	"context"
	"math/bits"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Store holds the counters of one namespace, all its partitions. It is written
// by one applier per partition, through Batch; everything else may be called at
// any time by anyone. Use after Close is ErrClosed.
//
// The applier keeps what it has applied since its last flush in memory, so a
// store is behind what readers see; see Applier.
type Store interface {
	consumers.Ledger[TokenEntry]

	// Saved returns all that a partition's last committed batch saved of its state:
	// Applied and Folded are wal.NoOffset for a new store.
	Saved(ctx context.Context, p wal.Partition) (State, error)

	// Counters reads rows by name as of the last commit: rows[i] is that of
	// names[i], found[i] false where there is none. The slices have the length of
	// names. A name may stand twice.
	Counters(ctx context.Context, p wal.Partition, names [][]byte, rows []Row, found []bool) error

	// Reservation returns a reservation in any state.
	Reservation(ctx context.Context, p wal.Partition, id wal.TokenID) (Reservation, bool, error)

	// HeldReservations calls f for every reservation of a partition whose state is
	// Held, in no useful order.
	HeldReservations(ctx context.Context, p wal.Partition, f func(*Reservation) error) error

	// Begin starts a batch of changes of one partition. The next one may be begun,
	// and filled, while the last one is being committed by another goroutine;
	// commits of one partition are in order and one at a time.
	Begin(p wal.Partition) Batch

	// Snapshot is a view of a partition as of its last commit, which later commits
	// do not change. Close it.
	Snapshot(ctx context.Context, p wal.Partition) (Snapshot, error)

	// Sweep frees what the applier has no say in: token entries and ended
	// reservations from before Horizon, the windows of retired ids, and their bases
	// and marks once State.Folded is at or above the offset they were retired at.
	// In the goroutine of the partition's applier, while no commit is under way.
	Sweep(ctx context.Context, s *SweepRequest) (SweepResult, error)
}

// State is what a store saves of a partition with every commit.
type State struct {
	consumers.State
	// Folded is the highest offset whose events are in the bases and no longer
	// rows; wal.NoOffset for none.
	Folded wal.Offset
	// Expiring: a counter of the partition has, or had, a time to live, so that a
	// sweep has something to look for.
	Expiring bool
}

// Row is a counter as a store keeps it.
type Row struct {
	// ID names this life of the counter: its windows and events go by it. A
	// counter that expires and is added to again is another one.
	ID    uint64
	Value int64
	Held  int64 // sum of its reservations in state Held
	// ExpiresAt is the log time that the value disappears at, microseconds since
	// 1970; 0 is never. Fixed: set by the add that created it, and not moved by
	// later ones.
	ExpiresAt int64
	Fixed     bool
	// LastOffset is that of the last record that changed the row.
	LastOffset wal.Offset
	// LastEvent is the offset of the newest event row that names ID;
	// wal.NoOffset for none. It begins the chain that a recount follows.
	LastEvent wal.Offset
	// Open is the bucket of each kept window, in the namespace's order, that the
	// last adds fell into; one with Adds 0 is none.
	Open []OpenBucket
}

// OpenBucket is a window's bucket that is not written out yet.
type OpenBucket struct {
	Start int64 // microseconds since 1970
	Bucket
}

// Bucket sums the deltas of a time span, in 128 bits so that it cannot overflow.
type Bucket struct {
	Lo   uint64
	Hi   int64
	Adds int64
}

// Add adds one delta.
func (b *Bucket) Add(delta int64) { b.Merge(Bucket{Lo: uint64(delta), Hi: delta >> 63, Adds: 1}) }

// Merge adds another bucket.
func (b *Bucket) Merge(o Bucket) {
	var c uint64
	b.Lo, c = bits.Add64(b.Lo, o.Lo, 0)
	b.Hi += o.Hi + int64(c)
	b.Adds += o.Adds
}

// Sum is the sum of the deltas, held at the ends of int64.
func (b *Bucket) Sum() int64 {
	switch {
	case b.Hi == int64(b.Lo)>>63:
		return int64(b.Lo)
	case b.Hi < 0:
		return -1 << 63
	default:
		return 1<<63 - 1
	}
}

// Base is what the events of an id that are no longer kept come to.
type Base struct {
	// Cleared: an event among them set the value to 0, and Sum is what followed.
	// When a base is added to another, a cleared one replaces it.
	Cleared bool
	Sum     int64 // wraps around; the value that it leads to does not
	Events  int64
}

// Merge appends what happened after b.
func (b *Base) Merge(after Base) {
	if after.Cleared {
		b.Cleared, b.Sum = true, 0
	}
	b.Sum += after.Sum
	b.Events += after.Events
}

// Batch collects changes of one partition. It copies what it is given. Used by
// one goroutine at a time: it is filled by the applier and may be committed by
// another.
type Batch interface {
	consumers.Batch[State, TokenEntry]

	// SaveCounter replaces the row of a name.
	SaveCounter(name []byte, r *Row)
	// DropCounter removes the row of a name.
	DropCounter(name []byte)
	// Retire marks an id whose counter is gone as of the record at o: Sweep frees
	// its windows, and its base once events up to o are folded.
	Retire(id uint64, o wal.Offset)
	// AddWindow merges b into the bucket of size that begins at start.
	AddWindow(id uint64, size time.Duration, start int64, b Bucket)
	// SaveEvents writes the event row of a record; see EventReader.
	SaveEvents(o wal.Offset, row []byte)
	// DropEvents removes every event row up to and including o.
	DropEvents(o wal.Offset)
	// AddBase merges b into the base of id.
	AddBase(id uint64, b Base)
	// SaveReservation replaces a reservation.
	SaveReservation(r *Reservation)
}

// Snapshot is a view of one partition as of one commit. Used by one goroutine.
type Snapshot interface {
	State() State
	// Counter reads the row of a name.
	Counter(name []byte) (Row, bool, error)
	// List calls f with the rows whose names have prefix and are above after (nil:
	// from the first), in byte order, until f returns false. name is valid during
	// the call.
	List(prefix, after []byte, f func(name []byte, r *Row) bool) error
	// Windows calls f with the buckets of size that start in from <= start < to, in
	// order, until f returns false.
	Windows(id uint64, size time.Duration, from, to int64, f func(start int64, b Bucket) bool) error
	// Base reads the base of an id; zero where there is none.
	Base(id uint64) (Base, error)
	// Events reads the event row of a record. The slice is valid until the next
	// call.
	Events(o wal.Offset) ([]byte, bool, error)
	// EventsFrom calls f with the event rows at or above o, in order, until f
	// returns false. row is valid during the call.
	EventsFrom(o wal.Offset, f func(o wal.Offset, row []byte) bool) error
	Close() error
}

// SweepRequest bounds one sweep.
type SweepRequest struct {
	Partition wal.Partition
	// Horizon: a token logged before it judges nothing any more; microseconds
	// since 1970.
	Horizon int64
	Limit   int    // keys to look at
	Cursor  []byte // from the last sweep; nil starts over
}

// SweepResult says what a sweep did.
type SweepResult struct {
	Looked, Tokens, Reservations, Retired int
	Cursor                                []byte // nil when the sweep came round
}

// Usage is what a store holds, about.
type Usage = consumers.Usage
