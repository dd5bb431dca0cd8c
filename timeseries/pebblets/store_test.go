package pebblets

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/timeseriestest"
	"github.com/headwater-db/headwater/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func small(fs vfs.FS, partitions int) Config {
	return Config{FS: fs, Dir: "ts", Partitions: partitions, MemTableBytes: 256 << 10, CacheBytes: 1 << 20}
}

func TestStore(t *testing.T) {
	t.Parallel()
	timeseriestest.Run(t, timeseriestest.Harness{
		Conflicts: true,
		Open: func(t timeseriestest.TB, partitions int) timeseries.Store {
			return open(t, small(vfs.NewCrashableMem(), partitions))
		},
		Close: func(t timeseriestest.TB, s timeseries.Store) {
			if err := s.Close(); err != nil {
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
		Crash: func(t timeseriestest.TB, l timeseries.Store, percent int, seed uint64) timeseries.Store {
			cfg := l.(*testStore).cfg
			cfg.FS = cfg.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 1))})
			return open(t, cfg)
		},
		Saved: func(s timeseries.Store, p wal.Partition) (consumers.State, error) {
			return s.(*testStore).Saved(context.Background(), p)
		},
	})
}

// TestAWideSeriesIsTold once it lies in files, and only by a page that ends within it.
func TestAWideSeriesIsTold(t *testing.T) {
	t.Parallel()
	s := open(t, small(vfs.NewMem(), 1))
	defer func() { _ = s.Close() }()
	x := timeseries.Slice{Start: 0, End: 100, EventBuckets: 1}
	b := s.Begin(0)
	b.AddSlice(x)
	for i := range int64(100) {
		b.AddEvent(timeseries.Order{Index: int(i)}, x, []byte("s"), i, []byte("1"), timeseries.AppendItems(nil, []timeseries.Item{{Key: []byte("k"), Value: valueNumber(i)}}))
	}
	if err := b.Commit(t.Context(), consumers.State{}); err != nil {
		t.Fatal(err)
	}
	if err := s.DB.Flush(); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]bool{10: true, 1000: false} {
		page, err := s.Read(t.Context(), &timeseries.Query{Series: []byte("s"), End: 100, Limit: limit, MaxBytes: 1 << 20, WideBytes: 10})
		if err != nil || page.Wide != want {
			t.Errorf("a page of %d events: wide is %v, not %v (%v)", limit, page.Wide, want, err)
		}
		page, err = s.Read(t.Context(), &timeseries.Query{Series: []byte("s"), End: 100, Limit: limit, MaxBytes: 1 << 20, WideBytes: 1 << 20})
		if err != nil || page.Wide {
			t.Errorf("a page of %d events of a small series: wide is %v (%v)", limit, page.Wide, err)
		}
	}
}

func valueNumber(i int64) timeseries.Value { return timeseries.Value{Kind: timeseries.Int, Int: i} }
