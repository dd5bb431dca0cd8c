package counter

import (
	"github.com/headwater-db/headwater/wal"
)

// Adds collects the adds of one call, partition by partition, already encoded.
// Used by one goroutine; get one from DB.NewAdds.
type Adds struct {
	parts   []addsPart
	n       int
	size    int
	tokened bool
}

type addsPart struct {
	first []byte // name of the first add
	buf   []byte
}

// Len is how many adds there are.
func (a *Adds) Len() int { return a.n }

// Add puts an add in. What add.Counter points to is copied.
func (a *Adds) Add(add *Add) { panic("soon") }

// NewAdds returns an empty collection for one AddCounts.
func (db *DB) NewAdds() *Adds { panic("soon") }

var _ = wal.NoOffset
