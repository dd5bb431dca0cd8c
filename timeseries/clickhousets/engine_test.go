package clickhousets

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/timeseriestest"
	"github.com/headwater-db/headwater/wal"
)

func TestMain(m *testing.M) {
	// A random program of the suite is some 500 queries, and the engine runs one at a time.
	if err := flag.Set("rapid.checks", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// protocols are the variables of the environment that name a real ClickHouse.
var protocols = map[string]string{"HTTP": "HEADWATER_TEST_CLICKHOUSE", "Native": "HEADWATER_TEST_CLICKHOUSE_NATIVE"}

func connect(t testing.TB, variable string) *Cluster {
	t.Helper()
	c, err := Connect(ClusterConfig{Name: "test", URL: enginetest.Need(t, variable, "clickhouse"), MakeSchema: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// testStore remembers where it is.
type testStore struct {
	*Store
	cfg Config
}

func open(t timeseriestest.TB, cfg Config) *testStore {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &testStore{s, cfg}
}

func harness(dir string, c *Cluster) timeseriestest.Harness {
	return timeseriestest.Harness{
		Open: func(t timeseriestest.TB, partitions int) timeseries.Store {
			t.Helper()
			own, err := os.MkdirTemp(dir, "store")
			if err != nil {
				t.Fatal(err)
			}
			return open(t, Config{
				Ledger:  Config{}.Ledger,
				Cluster: c, Dataset: "it's a \"test\"",
			}.in(filepath.Join(own, "ts"), partitions))
		},
		Close: func(t timeseriestest.TB, l timeseries.Store) {
			s := l.(*testStore)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.Forget(context.Background(), s.cfg.Ledger.Dir); err != nil {
				t.Fatal(err)
			}
		},
		Reopen: func(t timeseriestest.TB, l timeseries.Store) timeseries.Store {
			s := l.(*testStore)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, s.cfg)
		},
		Saved: func(s timeseries.Store, p wal.Partition) (consumers.State, error) {
			return s.(*testStore).Saved(context.Background(), p)
		},
	}
}

func (c Config) in(dir string, partitions int) Config {
	c.Ledger.Dir, c.Ledger.Partitions, c.Ledger.MemTableBytes, c.Ledger.CacheBytes = dir, partitions, 256<<10, 1<<20
	return c
}

func TestEngineStore(t *testing.T) {
	t.Parallel()
	for name, variable := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeseriestest.Run(t, harness(t.TempDir(), connect(t, variable)))
		})
	}
}
