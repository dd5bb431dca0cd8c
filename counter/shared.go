package counter

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// A shared store is one on this machine that has a copy on another server, for who takes a partition over. It remembers
// what it has changed until somebody has published that. Example: the row of counter c as of record 40 is published; its
// next owner reads it, applies records 31 to 50 for their tokens, and leaves out what the row has of c.

// SharedStore is a Store whose rows may have been written by another process, as of records above its position: a
// row covers what is at or below its LastOffset, and what is held follows from the reservations alone. Batches are
// SharedBatches.
type SharedStore interface {
	Store
	// Covered is up to which record every row of p, and every missing one, covers its counter; wal.NoOffset for none.
	Covered(p wal.Partition) wal.Offset
}

// Beginning says where a partition goes on with what another process has had.
type Beginning struct {
	Start   wal.Offset // the first record that is applied
	Covered wal.Offset // see SharedStore
	// WholeFrom: the windows of a life that began at or below it are in the copy alone.
	WholeFrom wal.Offset
}

// SharedBatch is the Batch of a SharedStore.
type SharedBatch interface {
	Batch
	// ShareWindow keeps, to be published, what the record at o has added to the bucket of size that begins at start.
	ShareWindow(id uint64, size time.Duration, start int64, o wal.Offset, b Bucket)
}

// Mark names a change that is to be published, and which one of several of the same row.
type Mark struct{ Key, Value []byte }

// Unpublished is what a store has changed and nobody has published, as of one commit. Its calls give the changes of a
// kind, in no useful order; arguments are valid during the call. Used by one goroutine.
type Unpublished interface {
	State() State
	// Windows gives what single records have added to windows.
	Windows(ctx context.Context, f func(w *WindowPart, m Mark) error) error
	// Counters gives rows; nil of a counter that is gone, or one of ID 0.
	Counters(ctx context.Context, f func(name []byte, r *Row, m Mark) error) error
	Reservations(ctx context.Context, f func(v *Reservation, m Mark) error) error
	// Retired gives ids whose windows are to be freed.
	Retired(ctx context.Context, f func(id uint64, m Mark) error) error
	Close() error
}

// WindowPart is what one record has added to a bucket of a window.
type WindowPart struct {
	ID    uint64
	Size  time.Duration
	Start int64 // microseconds since 1970
	At    wal.Offset
	Bucket
}

// Copied is what a partition begins with that another process has had: rows of its counters, and reservations.
type Copied interface {
	Counters(ctx context.Context, f func(name []byte, r *Row) error) error
	Reservations(ctx context.Context, f func(v *Reservation) error) error
}

// LifeBegan is the record that began a life of a counter; see Row.ID.
func LifeBegan(id uint64) wal.Offset { return wal.Offset(id>>14) - 1 }

// Amount is what the row says at log time t. What is held by a lease that has ended may be in it.
func (row *Row) Amount(t int64) Amount { return Amount{row.value(t), row.Held} }

// WindowParts are parts of the windows of one size of a life, from several places: one that comes twice counts once.
type WindowParts struct {
	// UpTo: what records above it have added is left out.
	UpTo  wal.Offset
	parts map[partAt]Bucket
}

type partAt struct {
	start int64
	at    wal.Offset
}

// Take takes a part.
func (w *WindowParts) Take(part *WindowPart) {
	if part.At > w.UpTo {
		return
	}
	if w.parts == nil {
		w.parts = make(map[partAt]Bucket)
	}
	w.parts[partAt{part.Start, part.At}] = part.Bucket
}

// Each calls f with the buckets in the order of their starts, until it returns false.
func (w *WindowParts) Each(f func(start int64, b Bucket) bool) {
	sums := make(map[int64]Bucket)
	for at, b := range w.parts {
		sum := sums[at.start]
		sum.Merge(b)
		sums[at.start] = sum
	}
	for _, start := range slices.Sorted(maps.Keys(sums)) {
		if !f(start, sums[start]) {
			return
		}
	}
}
