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
	"pgregory.net/rapid"

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

func rapidBroker(t *rapid.T, fs vfs.FS) wal.Broker {
	b, err := pebblelog.Open(pebblelog.Config{FS: fs, Dir: "log", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
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

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := openBroker(t, vfs.NewMem())
	r := openRegistry(t, b)
	res, err := r.Apply(ctx, kvDoc("a"), ApplyOptions{DryRun: true})
	if err != nil || !res.Created || res.Version != 0 || len(res.Changes) == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if len(r.List()) != 0 || len(topics(t, b)) != 1 || r.Version() != 0 {
		t.Fatalf("a dry run left %v and %v", r.List(), topics(t, b))
	}
	v := mustApply(t, r, kvDoc("a")).Version
	res, err = r.Apply(ctx, kvDoc("a", "description: x"), ApplyOptions{DryRun: true})
	if err != nil || res.Created || res.Version != v || len(res.Changes) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, err = r.Apply(ctx, kvDoc("a", "kv: {order: descending}"), ApplyOptions{DryRun: true}); !errors.Is(err, ErrNotLive) {
		t.Fatalf("not live: %v", err)
	}
	if _, err = r.Apply(ctx, kvDoc("a", "kv: {orde: descending}"), ApplyOptions{DryRun: true}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("invalid: %v", err)
	}
	old := v + 7
	if _, err = r.Apply(ctx, kvDoc("a", "description: x"), ApplyOptions{DryRun: true, Base: &old}); !errors.Is(err, ErrConflict) {
		t.Fatalf("conflict: %v", err)
	}
	if e, _ := r.Get("a"); e.Version != v || r.Version() != v {
		t.Fatalf("version %d, registry %d, want %d", e.Version, r.Version(), v)
	}
}

func TestARefusedChangeLeavesTheOldVersion(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r := openRegistry(t, openBroker(t, vfs.NewMem()))
	v := mustApply(t, r, kvDoc("a")).Version
	for doc, want := range map[string]error{
		kvDoc("a", "log: {partitions: 5}"):       ErrNotLive,
		kvDoc("a", "kv: {order: descending}"):    ErrNotLive,
		"namespace: a\nabstraction: log\n":       ErrNotLive,
		"namespace: a\nabstraction: counter":     ErrNotLive,
		"namespace: a\nabstraction: time-series": ErrInvalid,
		kvDoc("dlq"):                             ErrInvalid,
		"":                                       ErrInvalid,
	} {
		if _, err := r.Apply(ctx, doc, ApplyOptions{}); !errors.Is(err, want) {
			t.Errorf("%q: %v", doc, err)
		}
	}
	missing := uint64(3)
	var c *ConflictError
	if _, err := r.Apply(ctx, kvDoc("b"), ApplyOptions{Base: &missing}); !errors.As(err, &c) || c.Current != 0 {
		t.Errorf("change of what does not exist: %v", err)
	}
	zero := uint64(0)
	if _, err := r.Apply(ctx, kvDoc("a", "description: x"), ApplyOptions{Base: &zero}); !errors.As(err, &c) || c.Current != v {
		t.Errorf("creation of what exists: %v", err)
	}
	if e, _ := r.Get("a"); e.Version != v || len(r.List()) != 1 || r.Version() != v {
		t.Errorf("%+v", r.List())
	}
}

func TestANewLifeIsANewGeneration(t *testing.T) {
	t.Parallel()
	ctx, fs := testContext(t), vfs.NewMem()
	b := openBroker(t, fs)
	r := openRegistry(t, b)
	first := mustApply(t, r, kvDoc("a")).Version
	one, _ := r.Get("a")
	if _, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "b"}); !errors.Is(err, ErrConfirm) {
		t.Fatalf("delete of another: %v", err)
	}
	if _, err := r.Delete(ctx, "b", DeleteOptions{Confirm: "b"}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("delete of nothing: %v", err)
	}
	stale := first + 1
	if _, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "a", Base: &stale}); !errors.Is(err, ErrConflict) {
		t.Fatalf("delete of another version: %v", err)
	}
	if err := r.ReapLife(ctx, one); err == nil {
		t.Fatal("the topics of a living namespace were given up")
	}
	deleted, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "a", Base: &first})
	if err != nil || deleted <= first {
		t.Fatalf("delete: %d, %v", deleted, err)
	}
	if _, ok := r.Get("a"); ok {
		t.Fatal("a deleted namespace is there")
	}
	if _, err := r.At(ctx, "a", first); !errors.Is(err, ErrNotFound) {
		t.Fatalf("version of a life that is over: %v", err)
	}
	if _, ok := topics(t, b)[one.Topic]; !ok {
		t.Fatal("the topic went before its reader gave it up")
	}

	// The topics outlive a crash and go at the next start.
	r.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, fs)
	r = openRegistry(t, b)
	second := mustApply(t, r, kvDoc("a", "log: {partitions: 7}")).Version
	two, _ := r.Get("a")
	if two.Generation != 2 || second <= deleted || two.Incarnation == one.Incarnation || two.Topic != "headwater.kv.a.2" {
		t.Fatalf("second life %+v", two)
	}
	if err := r.ReapLife(ctx, one); err != nil {
		t.Fatal(err)
	}
	if removed, err := r.Reap(ctx); err != nil || len(removed) != 0 {
		t.Fatalf("reap: %v, %v", removed, err)
	}
	if ts := topics(t, b); len(ts) != 3 || ts[two.Topic].Partitions != 7 {
		t.Fatalf("topics %v", ts)
	}
	if _, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "a"}); err != nil {
		t.Fatal(err)
	}
	if removed, err := r.Reap(ctx); err != nil || len(removed) != 2 || len(topics(t, b)) != 1 {
		t.Fatalf("reap: %v, %v", removed, err)
	}
	mustApply(t, r, "namespace: a\nabstraction: log\n")
	if e, _ := r.Get("a"); e.Generation != 3 || e.Topic != "headwater.log.a.3" {
		t.Fatalf("third life %+v", e)
	}
}

func TestOneDataDirectoryOwnsANamespace(t *testing.T) {
	t.Parallel()
	ctx, fs := testContext(t), vfs.NewMem()
	b := openBroker(t, fs)
	rs := []*Registry{openRegistry(t, b), openRegistry(t, b)}
	v := mustApply(t, rs[0], kvDoc("a")).Version
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, r := range rs {
		wg.Go(func() { errs[i] = r.Claim(ctx, "a", fmt.Sprint("dir-", i)) })
	}
	wg.Wait()
	winner := 0
	if errs[0] != nil {
		winner = 1
	}
	var o *OwnedError
	if errs[winner] != nil || !errors.As(errs[1-winner], &o) || !errors.Is(o, ErrOwned) || o.Owner != fmt.Sprint("dir-", winner) {
		t.Fatalf("claims: %v", errs)
	}
	if err := rs[0].Claim(ctx, "a", fmt.Sprint("dir-", winner)); err != nil {
		t.Fatalf("the owner claims again: %v", err)
	}
	for _, id := range []string{"", strings.Repeat("x", 129)} {
		if err := rs[0].Claim(ctx, "a", id); err == nil {
			t.Fatalf("claim by %q", id)
		}
	}
	if err := rs[0].Claim(ctx, "none", "x"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("claim of nothing: %v", err)
	}
	// The version is the configuration's: a claim does not change it, and a change
	// keeps the owner.
	e, _ := rs[0].Get("a")
	if e.Version != v {
		t.Fatalf("a claim made version %d of %d", e.Version, v)
	}
	mustApply(t, rs[0], kvDoc("a", "description: x"))
	r := openRegistry(t, b)
	if e, _ := r.Get("a"); e.Owner != fmt.Sprint("dir-", winner) {
		t.Fatalf("owner %q", e.Owner)
	}
	if _, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "a"}); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r, kvDoc("a"))
	if e, _ := r.Get("a"); e.Owner != "" {
		t.Fatalf("a new life is owned by %q", e.Owner)
	}
}

func TestWatchLosesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	b := openBroker(t, vfs.NewMem())
	writer, reader := openRegistry(t, b), openRegistry(t, b)
	mustApply(t, writer, kvDoc("a"))
	mustApply(t, writer, kvDoc("b"))
	if err := reader.Sync(ctx); err != nil {
		t.Fatal(err)
	}

	// Each event asks for the next change, in another process: it arrives live.
	var got []string
	var last uint64
	for e, err := range reader.Watch(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Version <= last {
			t.Fatalf("version %d after %d", e.Version, last)
		}
		last = e.Version
		got = append(got, fmt.Sprintf("%s %v", e.Name, e.Entry != nil))
		switch len(got) {
		case 2:
			mustApply(t, writer, kvDoc("a", "description: x"))
		case 3:
			if e.Entry.Config.Description != "x" {
				t.Fatalf("entry %+v", e.Entry)
			}
			if _, err := writer.Delete(ctx, "b", DeleteOptions{Confirm: "b"}); err != nil {
				t.Fatal(err)
			}
		case 4:
			cancel()
		}
	}
	if fmt.Sprint(got) != "[a true b true a true b false]" {
		t.Fatalf("events %v", got)
	}
}

func TestASlowWatchSeesTheLastState(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r := openRegistry(t, openBroker(t, vfs.NewMem()))
	mustApply(t, r, kvDoc("a"))
	mustApply(t, r, kvDoc("gone"))
	since := mustApply(t, r, kvDoc("still")).Version
	for i := range 50 {
		mustApply(t, r, kvDoc("a", fmt.Sprintf("description: d%d", i)))
	}
	for _, name := range []string{"gone", "a"} {
		if _, err := r.Delete(ctx, name, DeleteOptions{Confirm: name}); err != nil {
			t.Fatal(err)
		}
	}
	mustApply(t, r, kvDoc("a", "description: again"))
	want := []string{"gone", "a 2 again"}
	for e, err := range r.Watch(ctx, since) {
		if err != nil {
			t.Fatal(err)
		}
		got := e.Name
		if e.Entry != nil {
			got = fmt.Sprint(e.Name, " ", e.Entry.Generation, " ", e.Entry.Config.Description)
		}
		if got != want[0] {
			t.Fatalf("event %q, want %q", got, want[0])
		}
		if want = want[1:]; len(want) == 0 {
			break
		}
	}
	for _, err := range r.Watch(ctx, r.Version()+1) {
		if !errors.Is(err, ErrAhead) {
			t.Fatalf("watch from a version to come: %v", err)
		}
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r := openRegistry(t, openBroker(t, vfs.NewMem()))
	mustApply(t, r, kvDoc("a"))
	for e, err := range r.Watch(ctx, 0) {
		if e.Entry != nil {
			r.Close()
			r.Close()
		} else if !errors.Is(err, ErrClosed) {
			t.Fatalf("watch: %v", err)
		}
	}
	if _, err := r.Apply(ctx, kvDoc("b"), ApplyOptions{}); !errors.Is(err, ErrClosed) {
		t.Fatalf("apply: %v", err)
	}
	if _, ok := r.Get("a"); !ok {
		t.Fatal("what was known is forgotten")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for range openRegistry(t, openBroker(t, vfs.NewMem())).Watch(gone, 0) { //nolint:errcheck // an iterator, not an error
		t.Fatal("a watch without a context yields")
	}
}

func TestOldVersionsAreReadFromTheLog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := openBroker(t, vfs.NewMem())
	r := openRegistry(t, b)
	var versions []uint64
	for i := range 3 * recentVersions {
		versions = append(versions, mustApply(t, r, kvDoc("a", fmt.Sprintf("description: d%d", i))).Version)
	}
	e, _ := r.Get("a")
	if len(e.recent) > 2*recentVersions {
		t.Fatalf("%d configurations are in memory", len(e.recent))
	}
	if cfg, known := e.at(versions[0]); cfg != nil || !known {
		t.Fatal("the first version is in memory, so nothing is tested here")
	}
	for _, r := range []*Registry{r, openRegistry(t, b)} {
		for range 2 {
			for i := 0; i < len(versions); i += 5 { // more than the cache keeps
				v := versions[i]
				cfg, err := r.At(ctx, "a", v)
				if err != nil || cfg.Version != v || cfg.Description != fmt.Sprintf("d%d", i) {
					t.Fatalf("version %d: %+v, %v", v, cfg, err)
				}
			}
		}
		if len(r.cache) > cacheSize {
			t.Fatalf("%d configurations are cached", len(r.cache))
		}
	}
	for _, v := range []uint64{0, versions[len(versions)-1] + 1, 1 << 60} {
		if _, err := r.At(ctx, "a", v); !errors.Is(err, ErrNotFound) {
			t.Fatalf("version %d: %v", v, err)
		}
	}
	mustApply(t, r, kvDoc("b"))
	v := mustApply(t, r, kvDoc("b", "description: x")).Version
	if _, err := r.At(ctx, "a", v); !errors.Is(err, ErrNotFound) {
		t.Fatalf("version of another namespace: %v", err)
	}
}
