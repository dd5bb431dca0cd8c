package counter

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Accuracy is how right a count is. See the package comment.
type Accuracy uint8

// The accuracies.
const (
	BestEffort Accuracy = 1
	Eventual   Accuracy = 2
	Accurate   Accuracy = 3
)

// Options are the parts of a namespace's configuration that a DB acts on. They
// may change from one call to the next.
type Options struct {
	consumers.FrontOptions
	// Accuracy of the namespace: of reads that ask for none, and BestEffort makes
	// adds that nobody waits for buffered.
	Accuracy Accuracy
	Windows  []time.Duration // kept windows, smallest first
	// Events: the namespace has a store of role EVENTS, which series of other spans than those of
	// the windows are answered from.
	Events bool
}

// DBConfig is what a DB is made of.
type DBConfig struct {
	Stream  *wal.Stream
	Owner   Owner
	Clock   *wal.Clock       // makes generation times
	Now     func() time.Time // the log's clock; see wal.Broker.Now
	Options func() Options
	// BufferedLoss is the longest time that a buffered add waits to be durable.
	BufferedLoss time.Duration
	// Published reads what the owner has published, for reads that ask for the latest rollup while it is away; nil: nothing is.
	Published PublishedCounts
}

// PublishedCounts is Owner.Counts of what an owner has published: each count is as of the state or later.
type PublishedCounts func(ctx context.Context, p wal.Partition, names []string, now int64, out []Amount) (State, error)

// DB is a counter namespace as the API uses it. Adds return when the log has
// them (BestEffort: when they are queued for it), calls that answer a count when
// they are applied. Safe for concurrent use.
type DB struct {
	*consumers.Front[TokenEntry]
	cfg DBConfig
}

// NewDB returns a DB. The namespace must be caught up to the log's end as of
// start before its first write: only then is every token known.
func NewDB(cfg DBConfig) *DB {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &DB{&consumers.Front[TokenEntry]{Stream: cfg.Stream, Owner: cfg.Owner, Clock: cfg.Clock, Now: cfg.Now}, cfg}
}

// AsOf is the position and time that an answer is exact as of.
type AsOf = wal.AsOf

// Count is a counter's value and how right it is.
type Count struct {
	Value, Held int64
	Accuracy    Accuracy
	AsOf        AsOf
	Pending     int64 // records of its partition not yet applied, an upper bound; -1 unknown
}

// Request is one call that answers a count, or a clear. Op is any but OpAdd.
type Request struct {
	// Token with a zero Nonce is made by the server; with a zero GenerationTime
	// the server gives it one.
	Token wal.Token
	Call  Call
}

// Result is what became of a write.
type Result struct {
	Token     wal.Token
	Position  string // empty when Buffered
	Buffered  bool
	Duplicate bool
	Unsure    bool // whether it is a copy, or which one came first, is not known; see wal.Stream.Unsure
	Err       error
	// Unknown: Err does not say whether the write took place; resend it with the
	// same token.
	Unknown bool

	// Of calls that answer a count:
	Count        Count
	AppliedDelta int64
	Violation    Violation
	ExpiresAt    int64       // of OpReserve, microseconds since 1970
	Reservation  wal.TokenID // of OpReserve
}

// Named is a counter of a list.
type Named struct {
	Name  []byte
	Count Count
	// Parked: records of the counter wait behind one that cannot be applied, so that
	// Count is older than what was acknowledged.
	Parked bool
}

// Point is one window of a series.
type Point struct {
	Start int64 // microseconds since 1970
	Sum   int64 // held at the ends of int64
	Adds  int64
}

// SeriesQuery asks for the windows of one counter in From <= t < To.
type SeriesQuery struct {
	Counter     []byte
	From, To    int64 // microseconds since 1970
	Granularity time.Duration
	Location    *time.Location // of whole days; nil: UTC
	Accuracy    Accuracy       // 0: the namespace's
	After       wal.Position
}

// Verification is what a recount found.
type Verification struct {
	Stored    Count
	Recounted int64
	Drift     int64 // Stored.Value less Recounted
	Events    int64 // counted again
}

// BufferedLoss is the longest time that a buffered add waits to be durable.
func (db *DB) BufferedLoss() time.Duration { return db.cfg.BufferedLoss }
