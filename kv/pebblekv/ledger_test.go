package pebblekv

import (
	"context"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/ledgertest"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

type testLedger = consumers.Ledger[kv.TokenEntry]

// ledgerEntry is as the applier makes it, in each of its forms.
func ledgerEntry(n wal.TokenID, o wal.Offset, logTime int64, i int) kv.TokenEntry {
	e := kv.TokenEntry{
		ID: n, Hash: wal.Hash{byte(i), 15: 1}, Offset: o, LogTime: logTime, AcceptedAt: logTime - 5, Time: logTime - 7,
		Outcome: kv.Applied,
	}
	if i%3 == 0 {
		e.Outcome, e.Current = kv.ConditionFailed, wal.Version{Time: logTime, Class: wal.Expiring, Expiry: 99, Nonce: nonceOf(3)}
	}
	if i%2 == 0 { // other entries are as they were before it was kept
		e.DefaultTTL = int64(i/2) * 1e6
	}
	return e
}

func TestLedger(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, ledgertest.Harness[kv.State, kv.TokenEntry]{
		Open:   func(t testing.TB, partitions int) testLedger { return openCrashable(t, partitions) },
		Reopen: func(t testing.TB, l testLedger) testLedger { return reopen(t, l.(*Store)) },
		Crash: func(t testing.TB, l testLedger, percent int, seed uint64) testLedger {
			return crash(t, l.(*Store), percent, seed)
		},
		Begin: func(l testLedger, p wal.Partition) consumers.Batch[kv.State, kv.TokenEntry] {
			return l.(*Store).Begin(p)
		},
		Fresh: kv.State{Applied: wal.NoOffset},
		State: func(st consumers.State, _ int) kv.State { return st },
		Saved: func(l testLedger, p wal.Partition) (kv.State, error) {
			return l.(*Store).Saved(context.Background(), p)
		},
		Entry: ledgerEntry,
		Key:   func(e *kv.TokenEntry) (wal.TokenID, wal.Offset) { return e.ID, e.Offset },
		Evict: func(l testLedger, p wal.Partition, horizon int64) (n int, err error) {
			r := kv.SweepRequest{Partition: p, LogTime: horizon, Horizon: horizon, Limit: 10}
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
