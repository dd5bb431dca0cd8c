package clickhousets

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/clickhousestore"
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

func connect(t testing.TB, variable string) *clickhousestore.Cluster {
	t.Helper()
	c, err := clickhousestore.Connect(clickhousestore.ClusterConfig{Name: "test", URL: enginetest.Need(t, variable, "clickhouse"), MakeSchema: true}, Table)
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

func harness(dir string, c *clickhousestore.Cluster) timeseriestest.Harness {
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

// TestEngineRowsOfALostLogAreGone: after a restore from a copy other records have the offsets of
// those that were lost, and their rows do not come back. Alone: the engine runs one statement at
// a time, and a deletion that is waited for takes it ten seconds.
func TestEngineRowsOfALostLogAreGone(t *testing.T) {
	c := connect(t, protocols["Native"])
	h := harness(t.TempDir(), c)
	s := h.Open(t, 1).(*testStore)
	x := timeseries.Slice{End: 1000, EventBuckets: 1}
	items := timeseries.AppendItems(nil, []timeseries.Item{{Key: []byte("k"), Value: timeseries.Value{Kind: timeseries.Int, Int: 1}}})
	write := func(o wal.Offset, id string) {
		t.Helper()
		for tries := 0; ; tries++ {
			b := s.Begin(0)
			if o == 0 {
				b.AddSlice(x)
			}
			b.AddEvent(timeseries.Order{Decided: o, Record: o}, x, []byte("s"), int64(o), []byte(id), items)
			err := b.Commit(t.Context(), consumers.State{Applied: o})
			if err == nil {
				return
			}
			if tries == 5 || !errors.Is(err, consumers.ErrStoreAway) { // a deletion may take longer than a statement may
				t.Fatal(err)
			}
		}
	}
	for o := range wal.Offset(3) {
		write(o, "first")
	}
	// A copy of the ledger as of record 2, whose rows are there up to 5.
	ahead := s.Begin(0).(*batch)
	for o := wal.Offset(3); o < 6; o++ {
		ahead.AddEvent(timeseries.Order{Decided: o, Record: o}, x, []byte("s"), int64(o), []byte("lost"), items)
	}
	if err := s.insert(t.Context(), 0, &ahead.block); err != nil {
		t.Fatal(err)
	}
	ahead.Abort()
	s = h.Reopen(t, s).(*testStore)
	s.LogEndsAt(0, 4) // record 3 was applied and not saved, 4 and 5 are lost
	for o := wal.Offset(3); o < 7; o++ {
		id := "second"
		if o == 3 {
			id = "lost"
		}
		write(o, id)
	}
	page, err := s.Read(t.Context(), &timeseries.Query{Series: []byte("s"), End: 1000, Limit: 100, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range page.Events {
		got = append(got, fmt.Sprint(e.Time, " ", string(e.ID)))
	}
	if want := []string{"6 second", "5 second", "4 second", "3 lost", "2 first", "1 first", "0 first"}; !slices.Equal(got, want) {
		t.Errorf("the events are %q, not %q", got, want)
	}
	h.Close(t, s)
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
