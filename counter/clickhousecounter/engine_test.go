package clickhousecounter

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/countertest"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type opened struct {
	*Events
	dir string
	n   int
}

func harness(t *testing.T, c *clickhousestore.Cluster) countertest.EventsHarness {
	root, made := t.TempDir(), 0
	open := func(t testing.TB, dir string, n int) counter.EventStore {
		t.Helper()
		s, err := Open(dir, c, "it's a \"test\"", n)
		if err != nil {
			t.Fatal(err)
		}
		return &opened{s, dir, n}
	}
	return countertest.EventsHarness{
		Open: func(t testing.TB, partitions int) counter.EventStore {
			made++
			dir := filepath.Join(root, strconv.Itoa(made))
			t.Cleanup(func() {
				if err := c.Forget(context.Background(), dir); err != nil {
					t.Error(err)
				}
			})
			return open(t, dir, partitions)
		},
		Reopen: func(t testing.TB, s counter.EventStore) counter.EventStore {
			o := s.(*opened)
			return open(t, o.dir, o.n)
		},
	}
}

// TestEngineEvents runs the contract over a real ClickHouse, by both protocols.
func TestEngineEvents(t *testing.T) {
	for name, variable := range map[string]string{"HTTP": "HEADWATER_TEST_CLICKHOUSE", "Native": "HEADWATER_TEST_CLICKHOUSE_NATIVE"} {
		t.Run(name, func(t *testing.T) {
			url := enginetest.Need(t, variable, "clickhouse")
			c, err := clickhousestore.Connect(clickhousestore.ClusterConfig{Name: "test", URL: url, MakeSchema: true}, Table)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
			countertest.RunEvents(t, harness(t, c))
		})
	}
}
