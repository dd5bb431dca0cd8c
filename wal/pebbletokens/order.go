package pebbletokens

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// Order sorts the entries of a commit by identity before they are added, because
// neighbours are cheaper to write than strangers. The zero value is ready; it
// keeps its memory over Reset. It belongs to one goroutine at a time.
type Order struct{ places []place }

// place is the beginning of an identity and where its entry is.
type place struct {
	id uint64
	at int
}

// Add takes the identity of an entry which is at index at of the caller's.
func (o *Order) Add(n *wal.TokenID, at int) {
	o.places = append(o.places, place{binary.BigEndian.Uint64(n[:]), at})
}

// Sorted yields the indexes in the order in which to add their entries. Those of
// one identity come in ascending order of their indexes, so that the later one
// stays.
func (o *Order) Sorted() iter.Seq[int] {
	slices.SortFunc(o.places, func(x, y place) int {
		if c := cmp.Compare(x.id, y.id); c != 0 {
			return c
		}
		return cmp.Compare(x.at, y.at)
	})
	return func(yield func(int) bool) {
		for _, p := range o.places {
			if !yield(p.at) {
				return
			}
		}
	}
}

// Reset forgets all entries.
func (o *Order) Reset() { o.places = o.places[:0] }
