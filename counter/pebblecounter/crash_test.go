package pebblecounter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

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
	st := counter.State{State: consumers.State{Applied: o, LogTime: int64(n)}, Folded: wal.NoOffset}
	b := s.Begin(0)
	defer b.Abort()
	row := benchRow(n)
	events := make([]byte, 2000)
	events[n%len(events)] = byte(n)
	e := counter.TokenEntry{ID: wal.TokenID{byte(n), byte(n >> 8), 1}, Offset: o, LogTime: int64(n), Outcome: counter.Applied}
	b.SaveCounter(fmt.Append(nil, n), &row)
	b.AddWindow(1, 60e9, 0, counter.Bucket{Lo: 1, Adds: 1})
	b.SaveEvents(o, events)
	b.SaveToken(&e)
	m.SaveCounter(fmt.Append(nil, n), &row)
	m.AddWindow(1, 60e9, 0, counter.Bucket{Lo: 1, Adds: 1})
	m.SaveEvents(o, events)
	m.SaveToken(&e)
	m.SetState(st)
	return b.Commit(context.Background(), st)
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
