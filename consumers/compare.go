package consumers

import (
	"context"
	"fmt"
	"strings"

	"github.com/headwater-db/headwater/wal"
)

// Difference is one place where a store that follows is not what the PRIMARY is.
type Difference struct {
	Partition wal.Partition
	Key       string // as a person reads it: record and item, or counter
	Detail    string // what each of the two has
}

// maxDifferenceKey bounds the key of a difference, bytes, so that the report of a
// store fits an answer.
const maxDifferenceKey = 256

// MaxDifferences is how many differences a report carries; all are counted.
const MaxDifferences = 1000

// Report is what a comparison found. Each is safe to read when the comparison is
// over.
type Report struct {
	Items       int64 // that were compared
	Differences int64
	Examples    []Difference // the first MaxDifferences
}

// Differ counts a difference.
func (r *Report) Differ(p wal.Partition, key, format string, args ...any) {
	r.Differences++
	if len(r.Examples) < MaxDifferences {
		if len(key) > maxDifferenceKey {
			key = strings.ToValidUTF8(key[:maxDifferenceKey], "") + "..."
		}
		r.Examples = append(r.Examples, Difference{p, key, fmt.Sprintf(format, args...)})
	}
}

// Add puts what another comparison found into r.
func (r *Report) Add(o *Report) {
	r.Items += o.Items
	r.Differences += o.Differences
	r.Examples = append(r.Examples, o.Examples[:min(len(o.Examples), MaxDifferences-len(r.Examples))]...)
}

// AtOnePosition calls f while a partition of two stores can be looked at as of one
// position: a is any store, b one that follows. snapA and snapB take a snapshot in
// the goroutine of the partition, a's first; each returns the position that it is
// of. b is held between the two.
func AtOnePosition(ctx context.Context, b *Part, snapA func(context.Context) (wal.Offset, error), waitB func(context.Context, wal.Offset) error) error {
	b.Hold(b.SavedOffset())
	defer b.Release()
	// b may be at a batch that began before the hold: what it has when that ends is
	// at or below what a has, since it never passes a.
	o, err := snapA(ctx)
	if err != nil {
		return err
	}
	b.Hold(o)
	return waitB(ctx, o)
}
