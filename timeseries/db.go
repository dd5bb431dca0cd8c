package timeseries

import (
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Options are the parts of a namespace's configuration that a DB acts on. They may
// change from one call to the next.
type Options struct {
	consumers.FrontOptions
	Settings
	// ReadMax is when a read answers with what it has, whatever its deadline; 0 is never.
	ReadMax time.Duration
}

// DBConfig is what a DB is made of.
type DBConfig struct {
	Stream       *wal.Stream
	Owner        Owner
	Clock        *wal.Clock       // makes generation times
	Now          func() time.Time // the log's clock; see wal.Broker.Now
	Options      func() *Options
	BufferedLoss time.Duration // see wal.Broker.BufferedLoss
	// Wide, if not nil, is told the event buckets of a slice in which a series was found to be wide.
	// It does not block.
	Wide func(eventBuckets int)
}

// DB is a time-series namespace as the API uses it. Safe for concurrent use.
type DB struct {
	*consumers.Front[TokenEntry]
	cfg  DBConfig
	wide atomic.Int64
}

// NewDB returns a DB. The namespace must be caught up to the log's end as of start
// before its first write: only then does the owner know every token.
func NewDB(cfg DBConfig) *DB {
	return &DB{Front: &consumers.Front[TokenEntry]{Stream: cfg.Stream, Owner: cfg.Owner, Clock: cfg.Clock, Now: cfg.Now}, cfg: cfg}
}

// WidePages is how many pages of reads said that they are Wide.
func (db *DB) WidePages() int64 { return db.wide.Load() }

// BufferedLoss is what a crash loses at most of what WriteBuffered has queued.
func (db *DB) BufferedLoss() time.Duration { return db.cfg.BufferedLoss }
