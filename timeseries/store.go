package timeseries

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Limits of what an applier takes. The gateway refuses the same.
const (
	MaxSeriesBytes = 1024
	MaxIDBytes     = 256
)

// WideBytes is how much of a series in one slice is told to be wide: so much is better cut
// into shorter slices or more series. See Query.WideBytes.
const WideBytes = 64 << 20

// TokenEntry is what a store remembers of a token.
type TokenEntry struct {
	ID      wal.TokenID
	Hash    wal.Hash
	Offset  wal.Offset
	LogTime int64  // of the record; the entry is forgotten one window after it
	Time    int64  // the token's generation time
	Refused string // what was left out of the call; see AppendRefusals
}

// Request implements wal.Decided.
func (e TokenEntry) Request() (wal.Hash, int64) { return e.Hash, e.LogTime }

// Store holds the events of one namespace, all its partitions. It is written by one
// applier per partition, through Batch, and by Sweep in the same goroutine; everything
// else may be called at any time by anyone. Use after Close is consumers.ErrClosed.
type Store interface {
	consumers.Ledger[TokenEntry]

	// Begin starts a batch of changes of one partition. One batch per partition is open
	// at a time.
	Begin(p wal.Partition) Batch

	// Slices are those of a partition as of its last commit.
	Slices(p wal.Partition) Slices

	// Measure says what each slice of a partition holds, by start. It looks at every event.
	Measure(ctx context.Context, p wal.Partition) ([]SliceSize, error)

	// Read reads a page of one series.
	Read(ctx context.Context, q *Query) (*Page, error)

	// Search reads a page of events over all series of a partition.
	// context.DeadlineExceeded: not one slice was searched by q.Deadline.
	Search(ctx context.Context, q *SearchQuery) (*Found, error)

	// Aggregate adds the events that meet q to into, all of them or an error:
	// ErrTooManyGroups, ErrGroupMemory, ErrAcrossTime.
	Aggregate(ctx context.Context, q *AggregateQuery, into *Groups) error

	// List reads series by name.
	List(ctx context.Context, q *ListQuery) (list []Series, more bool, err error)

	// Snapshot is a view of a partition as of its last commit, which later commits do
	// not change. Close it.
	Snapshot(ctx context.Context, p wal.Partition) (Snapshot, error)

	// Conflicts is how many events came, since the store was opened, with another value of an
	// item that they had; 0 where the store does not look.
	Conflicts() int64

	// Sweep frees what nobody can see any more, in the goroutine of the partition's
	// applier and between its batches.
	Sweep(ctx context.Context, s *SweepRequest) (SweepResult, error)
}

// Batch collects changes of one partition. It copies what it is given. Order matters:
// of two items of one event and key the first holds, and a deletion is of what precedes
// it. Used by one goroutine.
type Batch interface {
	consumers.Batch[consumers.State, TokenEntry]

	// AddSlice makes a slice. It overlaps none that there is.
	AddSlice(x Slice)
	// AddEvent adds an event to the slice that holds its time, or its items to the event
	// of its identity. items are as AppendItems writes them. Orders rise from call to call.
	AddEvent(at Order, in Slice, series []byte, t int64, id, items []byte)
	// DeleteSeries deletes the events of a series in a slice that were added before, at a
	// cost that does not depend on their number.
	DeleteSeries(at Order, in Slice, series []byte)
}

// Order is where a change stands in what is applied of a partition: it is the same
// whenever the log is applied again, however it is cut into batches. A store that cannot
// save a position with its effect tells copies by it.
type Order struct {
	Decided wal.Offset // of the record that is applied: of a redriven one, the control record
	Record  wal.Offset // of the record that has the change
	Index   int        // of the change in its record
}

// SliceSize is what a slice holds.
type SliceSize struct {
	Slice
	Events int64
	Bytes  int64 // of series, times, ids and items as they are encoded
}

// Query asks for a page of one series.
type Query struct {
	Partition  wal.Partition
	Series     []byte
	Start, End int64 // start <= t < end
	Oldest     bool  // oldest first; else newest first
	Filters    []Item
	Limit      int        // events
	MaxBytes   int        // of their encodings; one that is larger comes alone
	WideBytes  int64      // of the series in one slice, as they lie in files: above it the page says Wide
	After      *Mark      // the last event of the page before
	Open       OpenSlices // which slices are read
	Deadline   time.Time  // the page ends early, Partial; zero: never
}

// Mark is the place of an event in its series.
type Mark struct {
	Time int64
	ID   []byte
}

// Page is an answer to a Query.
type Page struct {
	Events []Event // whose Series is that of the query
	// Next is where the next page goes on; nil on the last one.
	Next *Mark
	// Partial: the page ended early, at its deadline.
	Partial bool
	// Wide: the page ended within a slice in which the series has more than Query.WideBytes. Then
	// WideBuckets are the event buckets of that slice.
	Wide        bool
	WideBuckets int
}

// ListQuery asks for series of one partition by name.
type ListQuery struct {
	Partition wal.Partition
	Prefix    []byte
	Above     []byte // only names above it; nil: from the first
	// Start and End: only series with an event of start <= t < end, where HasInterval.
	Start, End  int64
	HasInterval bool
	Limit       int
	Open        OpenSlices
}

// Series is one series of a list: its first and last event, in the interval of the query.
type Series struct {
	Name        []byte
	First, Last int64
}

// Snapshot is a view of one partition as of one commit. Used by one goroutine.
type Snapshot interface {
	// State is that of the commit.
	State() consumers.State
	// Scan calls f with each event of slices that open lets through: by slice, then length
	// and name of the series, newest first, id. e is valid until f returns.
	Scan(ctx context.Context, open OpenSlices, f func(in Slice, e *Event) error) error
	Close() error
}

// SweepRequest bounds a sweep of one partition.
type SweepRequest struct {
	Partition wal.Partition
	// Drop reports whether a slice goes, with all that it holds.
	Drop func(Slice) bool
	// Horizon: tokens of records older than it are evicted, microseconds of log time.
	Horizon int64
	Limit   int    // series that are looked at
	Cursor  []byte // where the last sweep of the round ended; nil begins one
}

// SweepResult is what a sweep did.
type SweepResult struct {
	Tokens, Slices, Series int
	Cursor                 []byte // nil: the round is over
}

// ErrAcrossTime: an interval has more slices than a read may look at.
var ErrAcrossTime = errors.New("the interval has too many slices")
