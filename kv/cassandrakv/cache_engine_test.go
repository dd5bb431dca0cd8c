package cassandrakv

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

func cachedStore(t *testing.T, dir string, cfg CacheConfig) *Store {
	t.Helper()
	s := mustOpen(t, dir, 1)
	if err := s.SetCache(&cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

// commit puts values under keys of record r, "" deletes.
func commit(t *testing.T, s *Store, o wal.Offset, time int64, values map[string]string) {
	t.Helper()
	b := s.Begin(0)
	for k, v := range values {
		ver := wal.Version{Time: time, Nonce: wal.Nonce{1}}
		if v == "" {
			ver.Class = wal.Deleted
		}
		b.Put([]byte("r"), ver, &kv.StoredItem{Key: []byte(k), Value: []byte(v)})
	}
	if err := b.Commit(context.Background(), kv.State{Applied: o, LogTime: time, MaxTime: time}); err != nil {
		t.Fatal(err)
	}
}

// value reads a key, "" where it is absent.
func value(t *testing.T, s *Store, k string) string {
	t.Helper()
	page, err := s.Get(context.Background(), &kv.Query{ID: []byte("r"), HasKeys: true, Keys: [][]byte{[]byte(k)}, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) == 0 {
		return ""
	}
	return string(page.Items[0].Value)
}

// TestEngineCacheHits counts: what was read is a hit, also after writes, deletes, a restart, and of keys that are
// not there.
func TestEngineCacheHits(t *testing.T) {
	dir := t.TempDir()
	s := cachedStore(t, dir, CacheConfig{})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	commit(t, s, 0, 10, map[string]string{"a": "1", "b": "1", "c": "1"})
	expect := func(k, want string, hits, misses int64) {
		t.Helper()
		before := s.CacheStats()
		if got := value(t, s, k); got != want {
			t.Errorf("%s is %q, not %q", k, got, want)
		}
		if st := s.CacheStats(); st.Hits-before.Hits != hits || st.Misses-before.Misses != misses {
			t.Errorf("%s: %d hits and %d misses, not %d and %d", k, st.Hits-before.Hits, st.Misses-before.Misses, hits, misses)
		}
	}
	expect("a", "1", 0, 1)
	expect("a", "1", 1, 0)
	expect("none", "", 0, 1)
	expect("none", "", 1, 0)
	commit(t, s, 1, 20, map[string]string{"a": "2", "none": "2", "b": "2"})
	expect("a", "2", 1, 0)
	expect("none", "2", 1, 0)
	expect("b", "2", 0, 1)
	commit(t, s, 2, 30, map[string]string{"a": ""})
	expect("a", "", 1, 0)
	commit(t, s, 3, 25, map[string]string{"b": "late"}) // older than the newest delete, and newer than what is there
	expect("b", "late", 1, 0)
	commit(t, s, 4, 26, map[string]string{"a": "hidden"})
	if got := value(t, s, "a"); got != "" {
		t.Errorf("a write under a tombstone is read: %q", got)
	}
	// All of a record at once, and then each key of it, whether it is there or not.
	for range 2 {
		page, err := s.Get(context.Background(), &kv.Query{ID: []byte("r"), MaxBytes: 1 << 20})
		if err != nil || len(page.Items) != 3 {
			t.Fatalf("%+v, %v", page, err)
		}
	}
	expect("c", "1", 1, 0)
	expect("never", "", 1, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = cachedStore(t, dir, CacheConfig{})
	expect("c", "1", 1, 0)
	expect("never", "", 1, 0)
	// Turned off and on, it is empty: what was written meanwhile did not reach it.
	if err := s.SetCache(nil); err != nil {
		t.Fatal(err)
	}
	commit(t, s, 5, 50, map[string]string{"c": "5"})
	if err := s.SetCache(&CacheConfig{}); err != nil {
		t.Fatal(err)
	}
	expect("c", "5", 0, 1)
	expect("c", "5", 1, 0)
}

// TestEngineCacheFillsBesideCommits has a commit come between a miss's read of Cassandra and the keeping of its
// answer, and a miss between a commit's write to Cassandra and its end: what is kept is never older than the
// position.
func TestEngineCacheFillsBesideCommits(t *testing.T) {
	s := cachedStore(t, t.TempDir(), CacheConfig{})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	commit(t, s, 0, 10, map[string]string{"a": "1", "b": "1"})
	s.onRead = func() {
		s.onRead = nil
		commit(t, s, 1, 20, map[string]string{"a": "2"})
	}
	if got := value(t, s, "a"); got != "1" {
		t.Errorf("the read beside the commit finds %q", got)
	}
	if got := value(t, s, "a"); got != "2" {
		t.Errorf("a read after the commit finds %q", got)
	}
	if n := s.CacheStats().Unkept; n != 1 {
		t.Errorf("%d answers were not kept, want 1", n)
	}
	s.onWritten = func() {
		s.onWritten = nil
		_ = value(t, s, "b") // of Cassandra, either way
	}
	commit(t, s, 2, 30, map[string]string{"b": "3"})
	for range 2 {
		if got := value(t, s, "b"); got != "3" {
			t.Errorf("a read after the commit finds %q", got)
		}
	}
	if n := s.CacheStats().Unkept; n != 2 {
		t.Errorf("%d answers were not kept, want 2", n)
	}
}

// TestEngineCacheIsBounded fills more than it may hold, and has what is old swept.
func TestEngineCacheIsBounded(t *testing.T) {
	const most = 200 << 10
	s := cachedStore(t, t.TempDir(), CacheConfig{MaxBytes: most, TTL: time.Hour})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	id := func(i int) []byte { return fmt.Appendf(nil, "id %d", i) }
	b := s.Begin(0)
	for i := range 1000 {
		b.Put(id(i), at(10), &kv.StoredItem{Key: []byte("k"), Value: make([]byte, 1000)})
	}
	if err := b.Commit(ctx, kv.State{LogTime: 10, MaxTime: 10}); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		page, err := s.Get(ctx, &kv.Query{ID: id(i), MaxBytes: 1 << 20})
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%+v, %v", page, err)
		}
	}
	st := s.CacheStats()
	if st.Bytes > most+2000 || st.Evicted == 0 || st.Filled != 1000 {
		t.Errorf("%+v", st)
	}
	s.cache.Load().cfg.TTL = -time.Hour // all is older than that
	for range 3 {
		if _, err := s.Sweep(ctx, &kv.SweepRequest{LogTime: 20, Limit: 100}); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.CacheStats(); st.Bytes != 0 || st.Evicted != 1000 {
		t.Errorf("after the sweep: %+v", st)
	}
}
