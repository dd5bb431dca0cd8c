package consumers

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// ErrClosed: a store was used after its Close.
var ErrClosed = errors.New("store is closed")

// ErrStoreAway: the server that has the data of a store does not answer, or refuses. It passes:
// what is in the log is applied when it is back.
var ErrStoreAway = errors.New("the server of a store does not answer")

// State is how far a partition is applied. An abstraction that saves more of a
// partition embeds it in a state of its own.
type State struct {
	Applied wal.Offset // highest offset applied, wal.NoOffset for none
	LogTime int64      // running maximum of the log time, microseconds since 1970
	MaxTime int64      // largest version time applied, microseconds since 1970
	// Follows: this store follows the decisions of another above Applied. One that
	// does not decides those records itself: it is the PRIMARY there.
	Follows bool
	// Step is that of the last promotion that was applied; see Control.
	Step uint64
	// FirstException is the offset from which on the exceptions are complete: the
	// records below it were applied by a build that kept none. 0 for a new log.
	FirstException wal.Offset
	Sources        Sources
}

// Usage is what a store holds, about.
type Usage struct {
	DiskBytes int64
	Tokens    int64
	Parked    int64 // queues
}

// Ledger is what a store keeps of each partition beside its data. E is the
// abstraction's entry of a token. All of it may be called at any time by any
// goroutine. Use after Close is ErrClosed, a partition that the store does not
// have wal.ErrNoPartition.
type Ledger[E wal.Decided] interface {
	// State returns what the last commit of a partition saved; Applied is
	// wal.NoOffset before the first.
	State(ctx context.Context, p wal.Partition) (State, error)

	// Token returns the newest entry (by offset) of an identity in a partition,
	// whatever its age, from the moment that its commit returned. It costs no I/O
	// for an identity that was never seen, nearly always.
	Token(ctx context.Context, p wal.Partition, n wal.TokenID) (E, bool, error)

	// Parked returns the queues of parked records of a partition, by key.
	Parked(ctx context.Context, p wal.Partition) ([]ParkedQueue, error)

	// Exceptions calls f with the rows of from <= o < to, in order, all as of one
	// moment. row is valid until f returns. An error of f ends the walk and is
	// returned as it is.
	Exceptions(ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset, row []byte) error) error

	// LiveTokens is how many token entries a partition holds, about; 0 for one that
	// the store does not have.
	LiveTokens(p wal.Partition) int64

	// SetTokenWindow tells how long tokens are kept from now on.
	SetTokenWindow(window time.Duration)

	// Sync makes everything that was committed before the call durable and returns
	// the offset that each partition is durable at.
	Sync(ctx context.Context) (map[wal.Partition]wal.Offset, error)

	// Usage reports what the store holds.
	Usage(ctx context.Context) (Usage, error)

	// Close waits for the calls that are under way. What was committed is durable
	// when it returns nil. A second Close does nothing.
	Close() error
}

// Batch is what a batch of changes of one partition has beside the changes of
// the data. S is the abstraction's state. It copies what it is given, and is used
// by one goroutine at a time.
type Batch[S any, E wal.Decided] interface {
	// SaveToken remembers what a token did.
	SaveToken(e *E)
	// SaveException replaces the row of a record that did not do as it says.
	SaveException(o wal.Offset, row []byte)
	// TrimExceptions removes the rows below an offset.
	TrimExceptions(before wal.Offset)
	// SaveParked changes the queue of a key.
	SaveParked(c *ParkedChange)
	// Empty reports whether nothing has been added.
	Empty() bool
	// Commit makes the changes and the state visible together, to survive kill -9
	// as one: after a crash the store is as of some commit, with everything before
	// it. It is durable after the next Sync. The batch is used up.
	Commit(ctx context.Context, s S) error
	// Abort gives the batch up. Allowed after Commit, where it does nothing.
	Abort()
}
