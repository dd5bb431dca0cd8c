package kv

import (
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Options are the parts of a namespace's configuration that a DB acts on. They
// may change from one call to the next.
type Options struct {
	consumers.FrontOptions
	DefaultTTL time.Duration
	// ReadMax is when a read answers with what it has, whatever its deadline; 0 is
	// never.
	ReadMax time.Duration
}

// DBConfig is what a DB is made of.
type DBConfig struct {
	Stream  *wal.Stream
	Owner   Owner
	Clock   *wal.Clock       // makes generation times
	Now     func() time.Time // the log's clock; see wal.Broker.Now
	Options func() Options
}

// DB is a key-value namespace as the API uses it. Writes return when the log has
// them (and, where there is something to decide, when it is decided); reads
// wait for the store to be as fresh as they ask. Safe for concurrent use.
type DB struct {
	*consumers.Front[TokenEntry]
	cfg DBConfig
}

// NewDB returns a DB. The namespace must be caught up to the log's end as of
// start before its first write: only then does the owner know every token.
func NewDB(cfg DBConfig) *DB {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &DB{&consumers.Front[TokenEntry]{Stream: cfg.Stream, Owner: cfg.Owner, Clock: cfg.Clock, Now: cfg.Now}, cfg}
}
