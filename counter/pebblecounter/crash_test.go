package pebblecounter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/countertest"
	"github.com/headwater-db/headwater/wal"
)

// inChild runs the test in a process of its own, where goroutines may be left
// behind, and reports whether it did.
func inChild(t *testing.T) bool {
	if os.Getenv(stuckEnv) != "" {
		return false
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprint("-test.short=", testing.Short()))
	cmd.Env = append(os.Environ(), stuckEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return true
}

// commitOne is record n of partition 0, and the same for a model.
func commitOne(s *Store, m *countertest.Model, n int) error {
	o := wal.Offset(n)
	st := counter.State{State: consumers.State{Applied: o, LogTime: int64(n)}, Folded: wal.NoOffset, NextID: uint64(n) + 2}
	b := s.Begin(0)
	defer b.Abort()
	row := benchRow(n)
	events := make([]byte, 2000)
	events[n%len(events)] = byte(n)
	e := counter.TokenEntry{Nonce: wal.Nonce{byte(n), byte(n >> 8), 1}, Offset: o, LogTime: int64(n), Outcome: counter.Applied}
	b.SaveCounter(fmt.Append(nil, n), &row)
	b.AddWindow(1, 60e9, 0, counter.Bucket{Lo: 1, Adds: 1})
	b.SaveEvents(o, events)
	b.SaveToken(&e)
	if m != nil {
		m.SaveCounter(fmt.Append(nil, n), &row)
		m.AddWindow(1, 60e9, 0, counter.Bucket{Lo: 1, Adds: 1})
		m.SaveEvents(o, events)
		m.SaveToken(&e)
		m.SetState(st)
	}
	return b.Commit(context.Background(), st)
}

// TestFailedSyncStopsTheStore fails every n-th sync of a file in turn, once, and
// lets later ones succeed: nothing may be called durable after it.
func TestFailedSyncStopsTheStore(t *testing.T) {
	t.Parallel()
	if inChild(t) {
		return
	}
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
					return errors.New("injected: input/output error")
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
			if err = commitOne(s, nil, i); err == nil && i%3 == 0 {
				var at map[wal.Partition]wal.Offset
				if at, err = s.Sync(context.Background()); err == nil {
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
			if err := commitOne(s, nil, 1000); err == nil {
				t.Fatalf("sync %d: a commit after the failure succeeds", n)
			}
			if _, err := s.Sync(context.Background()); err == nil {
				t.Fatalf("sync %d: a sync after the failure succeeds", n)
			}
			if _, err := s.Sweep(context.Background(), &counter.SweepRequest{Horizon: 1 << 40, Limit: 10}); err == nil {
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
		st, err := s.State(context.Background(), 0)
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

// TestDamageIsNeverAnotherAnswer flips bytes in each file of a store: it must
// not open, or answer as before, or say that it is corrupt.
func TestDamageIsNeverAnotherAnswer(t *testing.T) {
	t.Parallel()
	if inChild(t) { // a compaction of Pebble's that fails leaves goroutines
		return
	}
	mem := vfs.NewMem()
	s := mustOpen(t, small(mem, 1))
	m := countertest.NewModel()
	history := make(map[wal.Offset]*countertest.Model)
	write := func(from int) {
		for i := from; i < from+50; i++ {
			if err := commitOne(s, m, i); err != nil {
				t.Fatal(err)
			}
			history[wal.Offset(i)] = m.Clone()
		}
	}
	write(0)
	if err := s.DB.Flush(); err != nil {
		t.Fatal(err)
	}
	write(50)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("counter")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	answers := map[string]int{}
	for _, name := range names {
		data, err := mem.UnsafeGetFileDataBuffer("counter/" + name)
		if err != nil || len(data) == 0 {
			continue
		}
		places := 15
		if strings.HasPrefix(name, "MANIFEST") {
			places = 120
		}
		if testing.Short() {
			places /= 5
		}
		for range places {
			i := rng.IntN(len(data))
			bit := byte(1) << rng.IntN(8)
			// A copy, since recovery writes.
			clone := vfs.NewMem()
			if ok, err := vfs.Clone(mem, clone, "counter", "counter"); err != nil || !ok {
				t.Fatal(ok, err)
			}
			buf, err := clone.UnsafeGetFileDataBuffer("counter/" + name)
			if err != nil {
				t.Fatal(err)
			}
			buf[i] ^= bit
			got := damaged(t, clone, m, history, name, i)
			answers[got]++
			t.Log(name, len(data), i, got)
		}
	}
	t.Log(answers)
	if answers["refused"]+answers["corrupt"] == 0 || answers["shorter"] == 0 {
		t.Errorf("the test did not reach every way: %v", answers)
	}
}

func damaged(t *testing.T, fs vfs.FS, m *countertest.Model, history map[wal.Offset]*countertest.Model, name string, at int) string {
	s, err := Open(small(fs, 1))
	if err != nil {
		if !errors.Is(err, wal.ErrCorrupt) && strings.HasSuffix(name, ".sst") {
			t.Errorf("%s, byte %d: %v", name, at, err)
		}
		return "refused"
	}
	defer func() {
		_ = s.Close() // a damaged store may say so once more
	}()
	ctx := context.Background()
	err = countertest.Check(ctx, s, 0, m)
	switch {
	case err == nil:
		return "same"
	case errors.Is(err, wal.ErrCorrupt):
		return "corrupt"
	}
	// The tail of the write-ahead log may be cut at the damage, where nothing
	// synced follows: then the store is as of an earlier commit and says so in its
	// state, and the log has the rest.
	st, stErr := s.State(ctx, 0)
	if shorter := history[st.Applied]; stErr == nil && strings.HasSuffix(name, ".log") && shorter != nil && countertest.Check(ctx, s, 0, shorter) == nil {
		return "shorter"
	}
	t.Errorf("%s, byte %d: %.200v", name, at, err)
	return "wrong"
}
