package namespace

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/kafkalog"
)

func openKafka(t testing.TB, c *kfake.Cluster, prefix string) wal.Broker {
	t.Helper()
	b, err := kafkalog.Open(testContext(t), kafkalog.Config{Brokers: c.ListenAddrs(), TopicPrefix: prefix, CheckInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestProcessesOnKafkaAgree runs two registries with a broker client each, as two
// processes have, and the life of a namespace through both.
func TestProcessesOnKafkaAgree(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var rs []*Registry
	var bs []wal.Broker
	for range 2 {
		b := openKafka(t, cluster, "hw")
		r, err := Open(ctx, Options{Broker: b, TopicPrefix: "hw", Defaults: Defaults{Partitions: 3}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		rs, bs = append(rs, r), append(bs, b)
	}
	for round := range 5 {
		zero := uint64(0)
		var wg sync.WaitGroup
		errs, results := make([]error, 2), make([]Result, 2)
		for i, r := range rs {
			wg.Go(func() {
				results[i], errs[i] = r.Apply(ctx, kvDoc("a", fmt.Sprintf("description: by %d", i)), ApplyOptions{Base: &zero})
			})
		}
		wg.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		if errs[winner] != nil || !errors.Is(errs[1-winner], ErrConflict) {
			t.Fatalf("round %d: %v", round, errs)
		}
		for _, r := range rs {
			if err := r.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			e, ok := r.Get("a")
			if !ok || e.Version != results[winner].Version || e.Config.Description != fmt.Sprint("by ", winner) || e.Generation != uint64(round)+1 {
				t.Fatalf("round %d: %+v", round, e)
			}
		}
		e, _ := rs[0].Get("a")
		if i := topics(t, bs[1])[e.Topic]; i.Partitions != 3 || i.Incarnation != e.Incarnation {
			t.Fatalf("topic %+v of %+v", i, e)
		}
		res, err := rs[1-winner].Apply(ctx, kvDoc("a", "description: changed"), ApplyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for ev, err := range rs[winner].Watch(ctx, results[winner].Version) { // live in the other process
			if err != nil || ev.Version != res.Version || ev.Entry.Config.Description != "changed" {
				t.Fatalf("round %d: event %+v, %v", round, ev, err)
			}
			break
		}
		if _, err := rs[winner].Delete(ctx, "a", DeleteOptions{Confirm: "a", Base: &res.Version}); err != nil {
			t.Fatal(err)
		}
		if err := rs[winner].ReapLife(ctx, e); err != nil {
			t.Fatal(err)
		}
		if err := rs[1-winner].Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if ts := topics(t, bs[0]); len(ts) != 1 || ts["hw.system.namespaces.1"] != rs[0].Topic() {
		t.Fatalf("topics %v", ts)
	}
}

func TestInstallationsOfDifferentPrefixesShareNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := openBroker(t, vfs.NewMem())
	one := openRegistry(t, b)
	two, err := Open(ctx, Options{Broker: b, TopicPrefix: "other"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(two.Close)
	mustApply(t, one, kvDoc("a"))
	mustApply(t, two, kvDoc("a"))
	if _, err := one.Delete(ctx, "a", DeleteOptions{Confirm: "a"}); err != nil {
		t.Fatal(err)
	}
	if removed, err := one.Reap(ctx); err != nil || len(removed) != 2 {
		t.Fatalf("reap: %v, %v", removed, err)
	}
	e, ok := two.Get("a")
	if _, there := topics(t, b)[e.Topic]; !ok || !there || e.Topic != "other.kv.a.1" {
		t.Fatalf("the other installation: %+v", e)
	}
}
