package pebblekv

import (
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

func TestContract(t *testing.T) {
	kvtest.Run(t, kvtest.Harness{
		Open: func(t testing.TB, partitions int) kv.Store {
			return mustOpen(t, small(vfs.NewMem(), partitions))
		},
		Reopen: func(t testing.TB, s kv.Store) kv.Store {
			old := s.(*Store)
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			return mustOpen(t, old.cfg)
		},
	})
}
