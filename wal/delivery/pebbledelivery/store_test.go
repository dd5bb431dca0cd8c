package pebbledelivery

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/ledgertest"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type testLedger = consumers.Ledger[delivery.TokenEntry]

// testStore remembers where it is.
type testStore struct {
	*Store
	cfg Config
}

func open(t testing.TB, cfg Config) *testStore {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &testStore{s, cfg}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, ledgertest.Harness[consumers.State, delivery.TokenEntry]{
		Open: func(t testing.TB, partitions int) testLedger {
			return open(t, Config{FS: vfs.NewCrashableMem(), Dir: "log", Partitions: partitions, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
		},
		Reopen: func(t testing.TB, l testLedger) testLedger {
			s := l.(*testStore)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, s.cfg)
		},
		Crash: func(t testing.TB, l testLedger, percent int, seed uint64) testLedger {
			cfg := l.(*testStore).cfg
			cfg.FS = cfg.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 1))})
			return open(t, cfg)
		},
		Begin: func(l testLedger, p wal.Partition) consumers.Batch[consumers.State, delivery.TokenEntry] {
			return l.(*testStore).Begin(p)
		},
		Fresh: consumers.State{Applied: wal.NoOffset},
		State: func(st consumers.State, _ int) consumers.State { return st },
		Saved: func(l testLedger, p wal.Partition) (consumers.State, error) {
			return l.(*testStore).Saved(context.Background(), p)
		},
		Entry: func(n wal.TokenID, o wal.Offset, logTime int64, i int) delivery.TokenEntry {
			return delivery.TokenEntry{ID: n, Hash: wal.Hash{byte(i), 15: 1}, Offset: o, LogTime: logTime, Time: logTime - int64(i)}
		},
		Key: func(e *delivery.TokenEntry) (wal.TokenID, wal.Offset) { return e.ID, e.Offset },
		Evict: func(l testLedger, p wal.Partition, horizon int64) (int, error) {
			n, _, err := l.(*testStore).Sweep(context.Background(), p, horizon, 0, 0)
			return int(n), err
		},
	})
}
