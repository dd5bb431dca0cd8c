package pebblestore_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblecompact/compacttest"
	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// small is a configuration with which flushes and compactions happen in tests.
func small(fs vfs.FS, partitions int) pebblestore.Config {
	return pebblestore.Config{FS: fs, Partitions: partitions, MemTableBytes: 64 << 10, CacheBytes: 1 << 20}
}

func commitOne(s *store, n int) error {
	b := s.Begin(0)
	defer b.Abort()
	row := make([]byte, 2000)
	row[n%len(row)] = byte(n)
	b.SaveException(wal.Offset(n), row)
	b.SaveToken(&entry{wal.TokenID{byte(n), byte(n >> 8), 1}, int64(n), wal.Offset(n)})
	return b.Commit(context.Background(), state{State: consumers.State{Applied: wal.Offset(n)}})
}

func TestOpenDoesNotWaitForCompactions(t *testing.T) {
	t.Parallel()
	compacttest.Open(t, func(fs vfs.FS) (*store, error) { return open(small(fs, 2)) }, commitOne)
}

// TestAFailedDiskIsSaidAndNotTriedAgain leaves goroutines behind.
func TestAFailedDiskIsSaidAndNotTriedAgain(t *testing.T) {
	t.Parallel()
	failtest.Disk(t, func(fs vfs.FS) (*store, error) { return open(small(fs, 2)) }, commitOne, nil)
}

// TestFailedSyncStopsTheStore fails every n-th sync of a file in turn, once, and
// lets later ones succeed: nothing may be called durable after it. It leaves
// goroutines behind.
func TestFailedSyncStopsTheStore(t *testing.T) {
	t.Parallel()
	nothing := func(*pebblestore.Sweep[state]) error { return nil }
	failures := 0
	for n := range 25 {
		mem := vfs.NewCrashableMem()
		var mu sync.Mutex
		armed, count := false, 0
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData && op.Kind != errorfs.OpFileSyncTo {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if armed {
				if count++; count == n+1 {
					return errInjected
				}
			}
			return nil
		}))
		told := make(chan error, 2)
		cfg := small(fs, 1)
		cfg.MemTableBytes = 16 << 10
		cfg.OnFail = func(err error) { told <- err }
		s := mustOpen(t, cfg)
		mu.Lock()
		armed = true
		mu.Unlock()
		durable := wal.NoOffset
		var err error
		for i := 0; i < 60 && err == nil; i++ {
			if err = commitOne(s, i); err == nil && i%3 == 0 {
				var at map[wal.Partition]wal.Offset
				if at, err = s.Sync(t.Context()); err == nil {
					durable = at[0]
				}
			}
		}
		if err == nil {
			if err := s.Close(); err == nil {
				continue // fewer syncs than n
			}
			if got := <-told; got == nil {
				t.Fatal("OnFail was called without an error")
			}
		} else {
			failures++
			if got := <-told; got == nil {
				t.Fatal("OnFail was called without an error")
			}
			if err := commitOne(s, 1000); err == nil {
				t.Fatalf("sync %d: a commit after the failure succeeds", n)
			}
			if _, err := s.Sync(t.Context()); err == nil {
				t.Fatalf("sync %d: a sync after the failure succeeds", n)
			}
			if _, err := s.Sweep(t.Context(), 0, 1<<40, 10, nothing); err == nil {
				t.Fatalf("sync %d: a sweep after the failure succeeds", n)
			}
			if err := s.Close(); err == nil {
				t.Fatalf("sync %d: the store closes as if nothing had been", n)
			}
		}
		select {
		case err := <-told:
			t.Fatalf("OnFail was called twice: %v", err)
		default:
		}
		s = mustOpen(t, small(mem.CrashClone(vfs.CrashCloneCfg{}), 1))
		st, err := s.State(t.Context(), 0)
		if err != nil || st.Applied < durable {
			t.Fatalf("sync %d: after the crash the store is at %d (%v), synced was %d", n, st.Applied, err, durable)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if failures == 0 {
		t.Fatal("no injected error was noticed")
	}
}

func TestOpenRefusesWhatItIsNotFor(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	if _, err := open(pebblestore.Config{FS: fs}); err == nil {
		t.Error("no partitions: no error")
	}
	if _, err := open(small(fs, 1<<16+1)); err == nil {
		t.Error("too many partitions: no error")
	}
	s := mustOpen(t, small(fs, 2))
	if _, err := open(small(fs, 2)); err == nil {
		t.Error("a second opener: no error")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(small(fs, 3)); !errors.Is(err, wal.ErrPartitionCount) {
		t.Errorf("another number of partitions: %v", err)
	}
	for name, c := range map[string]struct {
		key, value []byte
		want       error
	}{
		"a later format":               {[]byte{pebblestore.TableFormat}, []byte{9, 0, 0, 0, 2}, wal.ErrUnknownVersion},
		"a format of another length":   {[]byte{pebblestore.TableFormat}, []byte{7}, wal.ErrCorrupt},
		"a state of no known form":     {pebblestore.StateKey(1), []byte("x"), wal.ErrCorrupt},
		"a state with something after": {pebblestore.StateKey(1), []byte{1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, wal.ErrCorrupt},
	} {
		fs := vfs.NewMem()
		if err := mustOpen(t, small(fs, 2)).Close(); err != nil {
			t.Fatal(err)
		}
		db, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set(c.key, c.value, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := open(small(fs, 2)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
