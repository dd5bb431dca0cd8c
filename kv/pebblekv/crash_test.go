package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/kvtest"
	"github.com/headwater-db/headwater/wal"
)

const partitions = 2

// equal compares a store with a model as readers see them.
func equal(s *Store, m *kvtest.Model) error {
	ctx := context.Background()
	for p := range wal.Partition(partitions) {
		st, err := s.State(ctx, p)
		if err != nil {
			return err
		}
		if st != m.State(p) {
			return fmt.Errorf("partition %d: state %+v, want %+v", p, st, m.State(p))
		}
		now := st.LogTime
		page, err := s.Scan(ctx, &kv.ScanQuery{Partition: p, Now: now, MaxBytes: 1 << 30, InlineLimit: 1 << 30})
		if err != nil {
			return err
		}
		got := make(map[string]string)
		for _, r := range page.Records {
			got[string(r.ID)] = digest(r.Items)
		}
		want := m.Records(p, now)
		for _, id := range want {
			items := digest(m.Get(&kv.Query{Partition: p, ID: []byte(id), Now: now, InlineLimit: 1 << 30}))
			if got[id] != items {
				return fmt.Errorf("partition %d at %d: record %q is %s, want %s", p, st.Applied, id, got[id], items)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("partition %d at %d: %d records, want %d", p, st.Applied, len(got), len(want))
		}
		for _, e := range m.Tokens(p) {
			found, ok, err := s.Token(ctx, p, e.ID)
			if err != nil || !ok || found != e {
				return fmt.Errorf("partition %d: token %s: %+v %v %w", p, e.ID, found, ok, err)
			}
		}
	}
	return nil
}

func digest(items []kv.StoredItem) string {
	var b strings.Builder
	for i := range items {
		it := &items[i]
		fmt.Fprintf(&b, "%x=%x at %s, %d bytes, upload %s of %d; ", it.Key, it.Value, it.Version, it.Size, it.Upload, it.Chunks)
	}
	return b.String()
}

// TestPowerLossLeavesAPrefixOfCommits crashes a random program after random
// commits, sweeps and syncs, with any part of what was not synced lost. What is
// there after it equals the model as of one moment: all partitions after one and
// the same commit, and not before the last sync.
func TestPowerLossLeavesAPrefixOfCommits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewCrashableMem()
		cfg := small(fs, partitions)
		cfg.MemTableBytes = 8 << 10 // flushes within the program
		s, err := Open(cfg)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
		}()
		m := kvtest.NewModel()
		g := kvtest.NewProgram(s, m)
		history := []*kvtest.Model{m.Clone()} // as of each commit
		synced := 0
		seed := rapid.Uint64().Draw(rt, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"commit", "commit", "commit", "sweep", "sync", "flush", "crash"}).Draw(rt, "step") {
			case "commit":
				if err := g.Commit(rt); err != nil {
					rt.Fatal(err)
				}
				history = append(history, m.Clone())
			case "sweep":
				if err := g.Sweep(rt); err != nil {
					rt.Fatal(err)
				}
			case "sync":
				durable, err := s.Sync(context.Background())
				if err != nil {
					rt.Fatal(err)
				}
				for p, o := range durable {
					if o != m.State(p).Applied {
						rt.Fatalf("synced partition %d at %d, applied %d", p, o, m.State(p).Applied)
					}
				}
				synced = len(history) - 1
				checkCrash(rt, fs, cfg, 0, rng, history, synced)
			case "flush":
				if err := s.DB.Flush(); err != nil {
					rt.Fatal(err)
				}
			case "crash":
				checkCrash(rt, fs, cfg, rapid.IntRange(0, 100).Draw(rt, "percent kept"), rng, history, synced)
			}
		}
	})
}

// checkCrash opens what a crash now would leave. It closes it and opens it once
// more: recovery itself must lose nothing.
func checkCrash(rt *rapid.T, fs *vfs.MemFS, cfg Config, percent int, rng *rand.Rand, history []*kvtest.Model, synced int) {
	cfg.FS = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
	var first []wal.Offset
	for range 2 {
		s, err := Open(cfg)
		if err != nil {
			rt.Fatalf("open after a crash: %v", err)
		}
		var offsets []wal.Offset
		for p := range wal.Partition(partitions) {
			st, err := s.State(context.Background(), p)
			if err != nil {
				rt.Fatal(err)
			}
			offsets = append(offsets, st.Applied)
		}
		at := slices.IndexFunc(history, func(m *kvtest.Model) bool {
			return m.State(0).Applied == offsets[0] && m.State(1).Applied == offsets[1]
		})
		if at < synced {
			rt.Fatalf("after a crash the store is as of commit %d (%v), synced was %d", at, offsets, synced)
		}
		if err := equal(s, history[at]); err != nil {
			rt.Fatalf("after a crash as of commit %d of %d: %v", at, len(history)-1, err)
		}
		if first != nil && !slices.Equal(first, offsets) {
			rt.Fatalf("opened again, the store is at %v, before at %v", offsets, first)
		}
		first = offsets
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	}
}

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

func commitOne(s *Store, n int) error {
	b := s.Begin(0)
	defer b.Abort()
	b.Put([]byte("r"), wal.Version{Time: int64(n + 1), Nonce: nonceOf(int64(n))}, &kv.StoredItem{Key: fmt.Append(nil, n), Value: make([]byte, 2000)})
	return b.Commit(context.Background(), kv.State{Applied: wal.Offset(n)})
}

// TestDamageIsNeverAnotherAnswer flips bytes in each file of a store: it must
// not open, or answer as before, or say that it is corrupt.
func TestDamageIsNeverAnotherAnswer(t *testing.T) {
	t.Parallel()
	if inChild(t) { // a compaction of Pebble's that fails leaves goroutines
		return
	}
	mem := vfs.NewMem()
	cfg := small(mem, partitions)
	s := mustOpen(t, cfg)
	m := kvtest.NewModel()
	history := make(map[wal.Offset]*kvtest.Model)
	write := func(from int) {
		for i := from; i < from+50; i++ {
			b := s.Begin(0)
			v := wal.Version{Time: int64(i + 1), Nonce: nonceOf(int64(i))}
			it := kv.StoredItem{Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "%02000d", i)}
			b.Put([]byte("r"), v, &it)
			m.Put(0, []byte("r"), v, &it)
			st := kv.State{Applied: wal.Offset(i), MaxTime: int64(i + 1)}
			m.SetState(0, st)
			if err := b.Commit(context.Background(), st); err != nil {
				t.Fatal(err)
			}
			history[st.Applied] = m.Clone()
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
	names, err := mem.List("kv")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	answers := map[string]int{}
	for _, name := range names {
		data, err := mem.UnsafeGetFileDataBuffer("kv/" + name)
		if err != nil || len(data) == 0 {
			continue
		}
		places := 15
		if testing.Short() {
			places /= 5
		}
		for range places {
			i := rng.IntN(len(data))
			bit := byte(1) << rng.IntN(8)
			// A copy, since recovery writes.
			clone := vfs.NewMem()
			if ok, err := vfs.Clone(mem, clone, "kv", "kv"); err != nil || !ok {
				t.Fatal(ok, err)
			}
			buf, err := clone.UnsafeGetFileDataBuffer("kv/" + name)
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

func damaged(t *testing.T, fs vfs.FS, m *kvtest.Model, history map[wal.Offset]*kvtest.Model, name string, at int) string {
	cfg := small(fs, partitions)
	s, err := Open(cfg)
	if err != nil {
		if !errors.Is(err, wal.ErrCorrupt) && strings.HasSuffix(name, ".sst") {
			t.Errorf("%s, byte %d: %v", name, at, err)
		}
		return "refused"
	}
	defer func() {
		_ = s.Close() // a damaged store may say so once more
	}()
	err = equal(s, m)
	switch {
	case err == nil:
		return "same"
	case errors.Is(err, wal.ErrCorrupt):
		return "corrupt"
	}
	// The tail of the write-ahead log may be cut at the damage, where nothing
	// synced follows: then the store is as of an earlier commit and says so in its
	// state, and the log has the rest.
	st, stErr := s.State(context.Background(), 0)
	if shorter := history[st.Applied]; stErr == nil && strings.HasSuffix(name, ".log") && shorter != nil && equal(s, shorter) == nil {
		return "shorter"
	}
	t.Errorf("%s, byte %d: %v", name, at, err)
	return "wrong"
}

// nonceOf is the n-th of some nonces that are in order.
func nonceOf(n int64) (x wal.Nonce) {
	binary.BigEndian.PutUint64(x[8:], uint64(n))
	return x
}
