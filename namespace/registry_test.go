package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // only to end a test that hangs
	t.Cleanup(cancel)
	return ctx
}

func openBroker(t testing.TB, fs vfs.FS) wal.Broker {
	t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{FS: fs, Dir: "log", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !errors.Is(err, wal.ErrClosed) {
			t.Error(err)
		}
	})
	return b
}

func openRegistry(t testing.TB, b wal.Broker) *Registry {
	t.Helper()
	r, err := Open(testContext(t), Options{Broker: b, MaxBackoff: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func kvDoc(name string, lines ...string) string {
	return "namespace: " + name + "\nabstraction: kv\n" + strings.Join(lines, "\n")
}

func mustApply(t testing.TB, r *Registry, doc string) Result {
	t.Helper()
	res, err := r.Apply(testContext(t), doc, ApplyOptions{By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func topics(t testing.TB, b wal.Broker) map[string]wal.TopicInfo {
	t.Helper()
	ts, err := b.Topics(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]wal.TopicInfo)
	for _, i := range ts {
		m[i.Name] = i
	}
	return m
}

func TestApplyCreatesTheTopicAndIsThereAfterReopen(t *testing.T) {
	t.Parallel()
	ctx, fs := testContext(t), vfs.NewMem()
	b := openBroker(t, fs)
	r := openRegistry(t, b)
	res := mustApply(t, r, kvDoc("plays", "log: {partitions: 2}"))
	if !res.Created || res.Version == 0 || len(res.Changes) == 0 {
		t.Fatalf("result %+v", res)
	}
	e, ok := r.Get("plays")
	if !ok || e.Generation != 1 || e.Topic != "headwater.kv.plays.1" || e.Config.Partitions != 2 || e.Config.Version != res.Version || e.By != "test" {
		t.Fatalf("entry %+v", e)
	}
	if i := topics(t, b)[e.Topic]; i.Partitions != 2 || i.Incarnation != e.Incarnation {
		t.Fatalf("topic %+v", i)
	}
	if i := topics(t, b)[e.DeadLetterTopic]; i.Partitions != 1 {
		t.Fatalf("dead-letter topic %+v", i)
	}
	again := mustApply(t, r, kvDoc("plays", "log: {partitions: 2}"))
	if !again.Unchanged || again.Version != res.Version || len(again.Changes) != 0 {
		t.Fatalf("second apply %+v", again)
	}
	changed := mustApply(t, r, kvDoc("plays", "kv: {default_ttl: 1h}"))
	if changed.Version <= res.Version || len(changed.Changes) != 1 || changed.Changes[0] != (Change{Path: "kv.default_ttl", From: "0", To: "1h"}) {
		t.Fatalf("change %+v", changed)
	}
	r.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	r = openRegistry(t, openBroker(t, fs))
	e2, ok := r.Get("plays")
	if !ok || e2.Version != changed.Version || e2.Config.KV.DefaultTTL != time.Hour || e2.Config.Partitions != 2 || e2.Incarnation != e.Incarnation {
		t.Fatalf("after reopen %+v", e2)
	}
	old, err := r.At(ctx, "plays", res.Version)
	if err != nil || old.KV.DefaultTTL != 0 || old.Version != res.Version {
		t.Fatalf("first version %+v, %v", old, err)
	}
	if _, err := r.At(ctx, "plays", changed.Version+1); !errors.Is(err, ErrNotFound) {
		t.Fatalf("version to come: %v", err)
	}
}

func TestOfTwoRegistriesExactlyOneWins(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := openBroker(t, vfs.NewMem())
	rs := []*Registry{openRegistry(t, b), openRegistry(t, b)}
	base := mustApply(t, rs[0], kvDoc("plays")).Version
	for round := range 30 {
		create := fmt.Sprintf("n%d", round)
		zero := uint64(0)
		var wg sync.WaitGroup
		created, changed := make([]error, 2), make([]error, 2)
		versions := make([]uint64, 2)
		for i, r := range rs {
			wg.Go(func() {
				_, created[i] = r.Apply(ctx, kvDoc(create, fmt.Sprintf("log: {partitions: 2} # by %d", i)), ApplyOptions{Base: &zero})
				res, err := r.Apply(ctx, kvDoc("plays", fmt.Sprintf("description: round %d of %d", round, i)), ApplyOptions{Base: &base})
				versions[i], changed[i] = res.Version, err
			})
		}
		wg.Wait()
		for what, errs := range map[string][]error{"create": created, "change": changed} {
			won, lost := 0, 0
			for _, err := range errs {
				var c *ConflictError
				switch {
				case err == nil:
					won++
				case errors.As(err, &c) && c.Current > 0:
					lost++
				}
			}
			if won != 1 || lost != 1 {
				t.Fatalf("round %d: %s: %v", round, what, errs)
			}
		}
		base = max(versions[0], versions[1])
		for _, r := range rs {
			if err := r.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if e, _ := r.Get("plays"); e.Version != base {
				t.Fatalf("version %d, want %d", e.Version, base)
			}
			e, _ := r.Get(create)
			if i := topics(t, b)[e.Topic]; i.Partitions != e.Config.Partitions || i.Incarnation != e.Incarnation {
				t.Fatalf("topic %+v of %+v", i, e)
			}
		}
	}
	if _, err := rs[0].Reap(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(topics(t, b)); n != 1+2*31 {
		t.Fatalf("%d topics are left: %v", n, topics(t, b))
	}
}
