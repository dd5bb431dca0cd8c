package kv

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Options are the parts of a namespace's configuration that a DB acts on. They
// may change from one call to the next.
type Options struct {
	Version       uint64 // of the namespace; stamped on every record
	DriftPast     time.Duration
	DriftFuture   time.Duration
	TokenWindow   time.Duration
	MaxLiveTokens int64
	DefaultTTL    time.Duration
	Descending    bool
	// ReadMax is when a read answers with what it has, whatever its deadline; 0 is
	// never.
	ReadMax time.Duration
}

// DBConfig is what a DB is made of.
type DBConfig struct {
	Stream  *wal.Stream
	Store   Store
	Applier *Applier
	Clock   *wal.Clock       // makes generation times
	Now     func() time.Time // the log's clock; see wal.Broker.Now
	Options func() Options
	Origin  string // region that records are first written in
}

// DB is a key-value namespace as the API uses it. Writes return when the log has
// them (and, where there is something to decide, when it is decided); reads
// wait for the store to be as fresh as they ask. Safe for concurrent use.
type DB struct {
	cfg    DBConfig
	tokens atomic.Int64 // live tokens as of the last look; see NoteUsage
}

// NewDB returns a DB. The namespace must be caught up to the log's end as of
// start before its first write: only then does the store know every token.
func NewDB(cfg DBConfig) *DB {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &DB{cfg: cfg}
}

// Stream is the log of the namespace.
func (db *DB) Stream() *wal.Stream { return db.cfg.Stream }

// Store is the PRIMARY store of the namespace.
func (db *DB) Store() Store { return db.cfg.Store }

// NoteUsage tells the DB how many tokens are live, from time to time, so that it
// can shed writes above the limit.
func (db *DB) NoteUsage(liveTokens int64) { db.tokens.Store(liveTokens) }

// CatchUp returns once the store has everything that the log held when it was
// called.
func (db *DB) CatchUp(ctx context.Context) error {
	for i := range db.cfg.Stream.Info().Partitions {
		p := wal.Partition(i)
		b, err := db.cfg.Stream.Log().Bounds(ctx, p)
		if err != nil {
			return fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		if err := db.cfg.Stream.WaitApplied(ctx, p, b.End-1); err != nil {
			return err
		}
	}
	return nil
}

// parkedErr returns the error that a reader or decided write of key gets when it
// is parked, or nil.
func (db *DB) parkedErr(p wal.Partition, key []byte) error {
	q, ok := db.cfg.Applier.Parked(p, key)
	if !ok {
		return nil
	}
	return q.Err()
}
