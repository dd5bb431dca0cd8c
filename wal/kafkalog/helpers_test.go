package kafkalog

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
)

// A step of a random program costs several round trips and a look at the
// cluster's metadata, so fewer programs than rapid's hundred are run unless
// -rapid.checks asks for more.
const programs = "15"

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", programs); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// limit bounds a test that would otherwise hang; nothing is asserted about it.
const limit = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func newCluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func fakeConfig(c *kfake.Cluster) Config {
	return Config{Brokers: c.ListenAddrs(), CheckInterval: 100 * time.Millisecond}
}

func openBroker(t testing.TB, cfg Config) *Broker {
	t.Helper()
	b, err := Open(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func createLog(t testing.TB, b *Broker, name string, partitions int) *Log {
	t.Helper()
	l, err := b.Create(testContext(t), wal.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*Log)
}

func record(i int) []byte { return fmt.Appendf(nil, "record-%06d", i) }

func appendOne(t testing.TB, l *Log, p wal.Partition, data []byte) wal.Offset {
	t.Helper()
	r := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Partition: p, Data: data}})[0]
	if r.Err != nil {
		t.Fatalf("append: %v", r.Err)
	}
	return r.Offset
}

// readN reads n entries from offset from.
func readN(t testing.TB, l *Log, p wal.Partition, from wal.Offset, n int) []wal.Entry {
	t.Helper()
	ctx := testContext(t)
	r, err := l.Read(ctx, p, from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []wal.Entry
	for len(all) < n {
		entries, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		for _, e := range entries {
			e.Data = append([]byte(nil), e.Data...)
			all = append(all, e)
		}
	}
	return all
}
