package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// small is a namespace of one partition in memory whose default time to live
// follows its version.
type small struct {
	db  *kv.DB
	log wal.Log
	a   *kv.Applier

	mu      sync.Mutex // guards version
	version uint64
}

// defaults are the default times to live by version.
var defaults = map[uint64]time.Duration{1: time.Hour, 2: 0, 3: 24 * time.Hour}

func openSmall(t *testing.T) *small {
	t.Helper()
	closeIt := func(what string, f func() error) {
		t.Cleanup(func() {
			if err := f(); err != nil {
				t.Errorf("close %s: %v", what, err)
			}
		})
	}
	b, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", FreeSpaceFloor: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	closeIt("log", b.Close)
	store, err := pebblekv.Open(pebblekv.Config{FS: vfs.NewMem(), Dir: "kv", Partitions: 1, MemTableBytes: 64 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	closeIt("store", store.Close)
	s := &small{version: 1}
	if s.log, err = b.Create(t.Context(), wal.TopicSpec{Name: "headwater.kv.small.1", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	letters, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.dlq.small.1", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	dlq, err := consumers.OpenDeadLetters(t.Context(), letters, nil)
	if err != nil {
		t.Fatal(err)
	}
	progress, clock := wal.NewProgress(1), &wal.Clock{}
	s.a = kv.NewApplier(kv.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: s.log, Letters: dlq, Applied: consumers.AdvanceOf(progress), Clock: clock, Ledger: store}, Store: store,
		Settings: func(v uint64) (kv.Settings, error) {
			ttl, ok := defaults[v]
			if !ok {
				return kv.Settings{}, fmt.Errorf("no version %d", v)
			}
			return kv.Settings{TokenWindow: time.Hour, DefaultTTL: ttl}, nil
		}})
	if err := s.a.Assign(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.db = kv.NewDB(kv.DBConfig{
		Stream: wal.NewStream(wal.StreamConfig{Namespace: "small", Log: s.log, Progress: progress}),
		Owner:  kv.NewLocal(progress, &kv.Replica{Store: store, Applier: s.a}), Clock: clock, Now: b.Now,
		Options: func() kv.Options {
			s.mu.Lock()
			defer s.mu.Unlock()
			o := consumers.FrontOptions{Version: s.version, DriftPast: time.Hour, DriftFuture: time.Hour, TokenWindow: time.Hour}
			return kv.Options{FrontOptions: o, DefaultTTL: defaults[s.version]}
		},
	})
	return s
}

func (s *small) change(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
}

// run applies the log until the test ends.
func (s *small) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	rd, err := s.log.Read(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			entries, err := rd.Next(ctx)
			if err == nil {
				_, err = s.a.Apply(ctx, 0, entries)
			}
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("apply: %v", err)
				}
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := rd.Close(); err != nil {
			t.Errorf("close reader: %v", err)
		}
	})
}

// TestDuplicateIsAnsweredByTheFirstDefaultTTL: the default time to live changes
// between two copies of a request. What the first one got stands, in the store
// and in the answer to every other.
func TestDuplicateIsAnsweredByTheFirstDefaultTTL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		condition kv.Condition
		applied   bool // before the second copy
		versions  [2]uint64
	}{
		{"applied, default gone", kv.Condition{}, true, [2]uint64{1, 2}},
		{"applied, default new", kv.Condition{}, true, [2]uint64{2, 3}},
		{"applied, default longer", kv.Condition{}, true, [2]uint64{1, 3}},
		{"not applied, default gone", kv.Condition{}, false, [2]uint64{1, 2}},
		{"not applied, default new", kv.Condition{}, false, [2]uint64{2, 3}},
		{"conditional, default gone", kv.Condition{Kind: kv.IfAbsent}, true, [2]uint64{1, 2}},
		{"conditional, default new", kv.Condition{Kind: kv.IfAbsent}, true, [2]uint64{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := openSmall(t)
			token := wal.Token{Nonce: wal.NewNonce()}
			put := func() kv.Result {
				return s.db.Write(t.Context(), []*kv.Request{{Token: token, Mutations: []kv.Mutation{{
					Op: kv.OpPut, ID: []byte("id"), Condition: c.condition,
					Items: []kv.Item{{Key: []byte("default"), Value: []byte("v")}, {Key: []byte("own"), Value: []byte("v"), TTL: 5e6}},
				}}}})[0]
			}
			if c.applied {
				s.run(t)
			}
			s.change(c.versions[0])
			first := put()
			if first.Err != nil || len(first.Versions) != 2 {
				t.Fatalf("first: %+v", first)
			}
			if c.applied {
				if err := s.db.Stream.Barrier(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			}
			s.change(c.versions[1])
			copied := make(chan kv.Result, 1)
			go func() { copied <- put() }()
			if !c.applied {
				// A chance to answer too soon; it must wait, and passes whenever it comes.
				for range 10_000 {
					runtime.Gosched()
				}
				s.run(t)
			}
			second := <-copied
			if second.Err != nil || !second.Duplicate || fmt.Sprint(second.Versions) != fmt.Sprint(first.Versions) {
				t.Errorf("second: %+v\nfirst:  %+v", second, first)
			}
			page, _, err := s.db.Get(t.Context(), &kv.Query{ID: []byte("id"), MaxBytes: 1 << 20}, &kv.ReadPoint{})
			if err != nil || len(page.Items) != 2 {
				t.Fatalf("read: %+v, %v", page, err)
			}
			for i := range page.Items {
				if page.Items[i].Version != first.Versions[i] {
					t.Errorf("item %s is stored at %s, told %s", page.Items[i].Key, page.Items[i].Version, first.Versions[i])
				}
			}
		})
	}
}
