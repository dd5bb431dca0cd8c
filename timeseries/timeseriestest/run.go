package timeseriestest

import (
	"context"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/ledgertest"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// TB is what a Harness needs of a test.
type TB interface {
	Helper()
	Fatal(args ...any)
	Context() context.Context
}

// Harness makes the stores that are tested.
type Harness struct {
	// Open makes an empty store.
	Open func(t TB, partitions int) timeseries.Store
	// Close ends the use of a store.
	Close func(t TB, s timeseries.Store)
	// Reopen closes a store and opens it again.
	Reopen func(t TB, s timeseries.Store) timeseries.Store
	// Crash is the store as a power cut leaves it, with a share of what was not synced. Nil:
	// it cannot be cut off.
	Crash func(t TB, s timeseries.Store, percent int, seed uint64) timeseries.Store
	// Conflicts: the store counts them.
	Conflicts bool
	// Saved is the state of a partition as it would be read after a restart.
	Saved func(s timeseries.Store, p wal.Partition) (consumers.State, error)
}

// Run tests stores.
func Run(t *testing.T, h Harness) {
	t.Run("Ledger", func(t *testing.T) {
		t.Parallel()
		testLedger(t, h)
	})
	t.Run("Model", func(t *testing.T) {
		t.Parallel()
		testModel(t, h)
	})
}

type ledger = consumers.Ledger[timeseries.TokenEntry]

func testLedger(t *testing.T, h Harness) {
	l := ledgertest.Harness[consumers.State, timeseries.TokenEntry]{
		Open:   func(t testing.TB, partitions int) ledger { return h.Open(t, partitions) },
		Reopen: func(t testing.TB, l ledger) ledger { return h.Reopen(t, l.(timeseries.Store)) },
		Begin: func(l ledger, p wal.Partition) consumers.Batch[consumers.State, timeseries.TokenEntry] {
			return l.(timeseries.Store).Begin(p)
		},
		Fresh: consumers.State{Applied: wal.NoOffset},
		State: func(st consumers.State, _ int) consumers.State { return st },
		Saved: func(l ledger, p wal.Partition) (consumers.State, error) {
			return h.Saved(l.(timeseries.Store), p)
		},
		Entry: func(n wal.TokenID, o wal.Offset, logTime int64, i int) timeseries.TokenEntry {
			return timeseries.TokenEntry{ID: n, Hash: wal.Hash{byte(i), 15: 1}, Offset: o, LogTime: logTime, Time: logTime - int64(i), Refused: string(make([]byte, i%3))}
		},
		Key: func(e *timeseries.TokenEntry) (wal.TokenID, wal.Offset) { return e.ID, e.Offset },
		Evict: func(l ledger, p wal.Partition, horizon int64) (int, error) {
			r := timeseries.SweepRequest{Partition: p, Horizon: horizon, Limit: 10, Drop: func(timeseries.Slice) bool { return false }}
			res, err := l.(timeseries.Store).Sweep(context.Background(), &r)
			return res.Tokens, err
		},
	}
	if h.Crash != nil {
		l.Crash = func(t testing.TB, l ledger, percent int, seed uint64) ledger {
			return h.Crash(t, l.(timeseries.Store), percent, seed)
		}
	}
	ledgertest.Run(t, l)
}
