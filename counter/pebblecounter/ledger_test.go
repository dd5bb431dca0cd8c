package pebblecounter

import (
	"context"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/ledgertest"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

type testLedger = consumers.Ledger[counter.TokenEntry]

// ledgerEntry is as the applier makes it, with an answer and without.
func ledgerEntry(n wal.TokenID, o wal.Offset, logTime int64, i int) counter.TokenEntry {
	e := counter.TokenEntry{
		ID: n, Hash: wal.Hash{byte(i), 15: 1}, Offset: o, LogTime: logTime, AcceptedAt: logTime - 5, Time: logTime - 7,
		Outcome: counter.Applied,
	}
	if i%3 == 0 {
		e.Value, e.Held, e.AppliedDelta = int64(i), 7, int64(-i)
	}
	return e
}

func ledgerState(st consumers.State, i int) counter.State {
	return counter.State{State: st, Folded: wal.Offset(i) << 40, Expiring: i%2 == 1}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, ledgertest.Harness[counter.State, counter.TokenEntry]{
		Open:   func(t testing.TB, partitions int) testLedger { return openCrashable(t, partitions) },
		Reopen: func(t testing.TB, l testLedger) testLedger { return reopen(t, l.(*Store)) },
		Crash: func(t testing.TB, l testLedger, percent int, seed uint64) testLedger {
			return crash(t, l.(*Store), percent, seed)
		},
		Begin: func(l testLedger, p wal.Partition) consumers.Batch[counter.State, counter.TokenEntry] {
			return l.(*Store).Begin(p)
		},
		Fresh: counter.State{State: consumers.State{Applied: wal.NoOffset}, Folded: wal.NoOffset},
		State: ledgerState,
		Saved: func(l testLedger, p wal.Partition) (counter.State, error) {
			return l.(*Store).Saved(context.Background(), p)
		},
		Entry: ledgerEntry,
		Key:   func(e *counter.TokenEntry) (wal.TokenID, wal.Offset) { return e.ID, e.Offset },
		Evict: func(l testLedger, p wal.Partition, horizon int64) (n int, err error) {
			r := counter.SweepRequest{Partition: p, Horizon: horizon, Limit: 10}
			for {
				res, err := l.(*Store).Sweep(context.Background(), &r)
				if n += res.Tokens; err != nil || res.Cursor == nil {
					return n, err
				}
				r.Cursor = res.Cursor
			}
		},
	})
}
