package pebblekv

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/kvtest"
)

// stuckEnv marks a child process, which leaves goroutines of Pebble behind.
const stuckEnv = "HEADWATER_TEST_STUCK"

func TestMain(m *testing.M) {
	if os.Getenv(stuckEnv) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// small is a configuration with which flushes and compactions happen in tests.
func small(fs vfs.FS, partitions int) Config {
	return Config{FS: fs, Dir: "kv", Partitions: partitions, MemTableBytes: 256 << 10, CacheBytes: 1 << 20}
}

func mustOpen(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openCrashable(t testing.TB, partitions int) *Store {
	t.Helper()
	return mustOpen(t, small(vfs.NewCrashableMem(), partitions))
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, s.cfg)
}

// crash returns a store over what is left of one when the power fails now.
func crash(t testing.TB, s *Store, percent int, seed uint64) *Store {
	t.Helper()
	cfg, left := s.cfg, vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 1))}
	cfg.FS = cfg.FS.(*vfs.MemFS).CrashClone(left)
	return mustOpen(t, cfg)
}

func TestContract(t *testing.T) {
	kvtest.Run(t, kvtest.Harness{
		Open: func(t testing.TB, partitions int) kv.Store {
			return mustOpen(t, small(vfs.NewMem(), partitions))
		},
		Reopen: func(t testing.TB, s kv.Store) kv.Store { return reopen(t, s.(*Store)) },
	})
}
