package delivery

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// TokenEntry is what a store remembers of the token of a message.
type TokenEntry struct {
	ID      wal.TokenID
	Hash    wal.Hash
	Offset  wal.Offset // of the message
	LogTime int64      // of its record; the entry is forgotten one window after it
	Time    int64      // the token's generation time
}

// Request implements wal.Decided.
func (e TokenEntry) Request() (wal.Hash, int64) { return e.Hash, e.LogTime }

// Batch is what one batch of the applier changes.
type Batch interface {
	consumers.Batch[consumers.State, TokenEntry]
	OutboxBatch
}

// Store is the ledger of one log namespace, all its partitions: the messages
// themselves are in the log. It is written by one applier per partition, through
// Batch, and by Sweep in the same goroutine.
type Store interface {
	consumers.Ledger[TokenEntry]
	Outbox

	// Begin starts a batch of changes of one partition. One batch per partition is
	// open at a time.
	Begin(p wal.Partition) Batch

	// Sweep evicts the tokens of records older than horizon, microseconds of log
	// time, about, and returns how many. What ended before ended, in microseconds
	// since 1970, is forgotten, and what died before dead; more: there is more of it than one call removes.
	Sweep(ctx context.Context, p wal.Partition, horizon, ended, dead int64) (tokens int64, more bool, err error)
}
