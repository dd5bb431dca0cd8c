package cassandrakv

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/kvtest"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// cassandra is where a real one listens.
func cassandra(t testing.TB) string {
	return enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra")
}

var (
	shared  *cassandrastore.Cluster
	sharing sync.Once
)

// testKeyspace is one that no other run has. It is dropped when the tests end.
var testKeyspace = enginetest.NewKeyspace()

func cluster(t testing.TB) *cassandrastore.Cluster {
	at := cassandra(t)
	sharing.Do(func() {
		var err error
		shared, err = cassandrastore.Connect(cassandrastore.ClusterConfig{
			Name: "test", Hosts: []string{at}, Keyspace: testKeyspace, Replication: map[string]int{"datacenter1": 1}, MakeSchema: true,
		}, Tables...)
		if err != nil {
			t.Fatal(err)
		}
	})
	return shared
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if shared != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		if err := enginetest.DropKeyspace(os.Getenv("HEADWATER_TEST_CASSANDRA"), testKeyspace); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func mustOpen(t testing.TB, dir string, partitions int) *Store {
	t.Helper()
	s, err := Open(Config{Ledger: ledger.Config{Dir: dir, Partitions: partitions, CacheBytes: 1 << 20}, Cluster: cluster(t), Dataset: "a 'quoted'; data\nset"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEngineContract runs the suite of kv.Store. What is left out is what a store need not do whose data is
// not saved with its position, or what Cassandra does by itself.
func TestEngineContract(t *testing.T) { contract(t, nil) }

// TestEngineContractCached is TestEngineContract with a cache, so small that it is full all the time.
func TestEngineContractCached(t *testing.T) { contract(t, &CacheConfig{MaxBytes: 8 << 10}) }

func contract(t *testing.T, cached *CacheConfig) {
	cluster(t)
	if err := flag.Set("rapid.checks", "6"); err != nil {
		t.Fatal(err)
	}
	dirs := make(map[kv.Store]string)
	partitions := make(map[kv.Store]int)
	open := func(t testing.TB, dir string, n int) kv.Store {
		s := mustOpen(t, dir, n)
		dirs[s], partitions[s] = dir, n
		if err := s.SetCache(cached); err != nil {
			t.Fatal(err)
		}
		return s
	}
	kvtest.Run(t, kvtest.Harness{
		Open: func(t testing.TB, n int) kv.Store { return open(t, t.TempDir(), n) },
		Reopen: func(t testing.TB, s kv.Store) kv.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, dirs[s], partitions[s])
		},
		HidesDead: true, TiesOfEnds: true, Slow: true,
		Lacks: map[string]string{
			"of two writes of one version the later call wins":                         "Cassandra takes the one with the larger value; the log never has two",
			"a page over 300,000 dead items ends and progresses":                       "Cassandra refuses a read that looks at more than 100,000 tombstones",
			"a sweep frees what is expired, covered and settled, and no read can tell": "Cassandra frees items by itself",
			"a cursor that was tampered with is refused":                               "a sweep of items has no cursor",
		},
	})
}

// TestEngineLostDecisions: what was decided of records that the log lost is forgotten, and what it holds is not.
func TestEngineLostDecisions(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := mustOpen(t, dir, 1)
	if err := s.Decide(ctx, 0, &consumers.Decisions{To: 9, Looked: true, Rows: []consumers.ExceptionRow{{Offset: 4, Row: []byte("kept")}, {Offset: 7, Row: []byte("lost")}}}); err != nil {
		t.Fatal(err)
	}
	for _, end := range []wal.Offset{20, 10, 7} {
		s.LogEndsAt(0, end)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, 1)
		var rows []wal.Offset
		err := s.Exceptions(ctx, 0, 0, 100, func(o wal.Offset, _ []byte) error {
			rows = append(rows, o)
			return nil
		})
		to, toErr := s.decidedTo(ctx, 0)
		if want := min(end-1, 9); err != nil || toErr != nil || to != want || len(rows) != map[wal.Offset]int{9: 2, 6: 1}[want] {
			t.Errorf("a log of %d: decided to %d, rows %v, %v, %v", end, to, rows, err, toErr)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestEngineForget has the rows of one store dropped, and those of another stay.
func TestEngineForget(t *testing.T) {
	ctx := context.Background()
	dir, other := t.TempDir(), t.TempDir()
	s, o := mustOpen(t, dir, 2), mustOpen(t, other, 2)
	for _, x := range []*Store{s, o} {
		b := x.Begin(1)
		for i := range 50 {
			b.Put(fmt.Appendf(nil, "id %d", i), at(10), &kv.StoredItem{Key: []byte("k"), Value: []byte("v")})
		}
		b.SaveUpload(&kv.StoredUpload{ID: kv.UploadID{1}, Record: []byte("r"), Key: []byte("k")})
		b.SaveChunk(kv.UploadID{1}, 0, []byte("chunk"))
		if err := b.Commit(ctx, kv.State{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cluster(t).Forget(ctx, dir); err != nil {
		t.Fatal(err)
	}
	for x, want := range map[*Store]int{mustOpen(t, dir, 2): 0, o: 50} {
		page, err := x.Scan(ctx, &kv.ScanQuery{Partition: 1, MaxBytes: 1 << 20})
		if err != nil || len(page.Records) != want {
			t.Errorf("a scan finds %d records, %v; want %d", len(page.Records), err, want)
		}
		one, err := x.Get(ctx, &kv.Query{Partition: 1, ID: []byte("id 7"), MaxBytes: 1 << 20})
		if err != nil || len(one.Items) != min(want, 1) {
			t.Errorf("a record has %d items, %v", len(one.Items), err)
		}
		if _, err := x.ReadChunk(ctx, 1, kv.UploadID{1}, 0); (err == nil) != (want > 0) {
			t.Errorf("a chunk: %v", err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestEngineNothingIsMadeOnTheWay looks at a process that makes no schema: it names the command.
func TestEngineNothingIsMadeOnTheWay(t *testing.T) {
	c, err := cassandrastore.Connect(cassandrastore.ClusterConfig{
		Name: "bare", Hosts: []string{cassandra(t)}, Keyspace: "hw_never_made", Replication: map[string]int{"datacenter1": 1},
	}, Tables...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = c.Ready(context.Background())
	if err == nil || !strings.Contains(err.Error(), "headwater schema apply") || !strings.Contains(err.Error(), "keyspace hw_never_made") {
		t.Errorf("%v", err)
	}
}
