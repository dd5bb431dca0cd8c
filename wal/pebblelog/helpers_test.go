package pebblelog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
)

const childEnv = "HEADWATER_PEBBLELOG_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// inChild runs the calling test in a process of its own and returns false in the
// parent. A log that fails for good leaves goroutines that stand still inside
// Pebble; see wal/pebblefail. In the parent none may be left over.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprint("-test.short=", testing.Short()))
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("the test did not run:\n%s", out)
	}
	return false
}

// longTests makes the sweeps of this package exhaustive: HEADWATER_LONG=1.
var longTests = os.Getenv("HEADWATER_LONG") != ""

var quiet = slog.New(slog.DiscardHandler)

// small is a configuration for tests: little memory, no floor.
func small(fs vfs.FS) Config {
	return Config{FS: fs, Dir: "log", Logger: quiet, FreeSpaceFloor: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20}
}

func mustOpen(t testing.TB, cfg Config) *Broker {
	t.Helper()
	b, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return b
}

func closeBroker(t testing.TB, b *Broker) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func mustCreate(t testing.TB, b *Broker, name string, partitions int) wal.Log {
	t.Helper()
	l, err := b.Create(t.Context(), wal.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return l
}

// appendOne appends durably and returns the error of the one entry.
func appendOne(ctx context.Context, l wal.Log, p wal.Partition, data string) (wal.Offset, error) {
	r := l.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: p, Data: []byte(data)}})
	return r[0].Offset, r[0].Err
}

func mustAppend(t testing.TB, l wal.Log, p wal.Partition, datas ...string) {
	t.Helper()
	entries := make([]wal.NewEntry, len(datas))
	for i, d := range datas {
		entries[i] = wal.NewEntry{Partition: p, Data: []byte(d)}
	}
	for i, r := range l.Append(t.Context(), wal.Sync, entries) {
		if r.Err != nil {
			t.Fatalf("append %d: %v", i, r.Err)
		}
	}
}

// readAll returns everything from Start to End, or the first error.
func readAll(ctx context.Context, l wal.Log, p wal.Partition) ([]string, error) {
	b, err := l.Bounds(ctx, p)
	if err != nil {
		return nil, err
	}
	return readRange(ctx, l, p, b.Start, b.End)
}

func readRange(ctx context.Context, l wal.Log, p wal.Partition, from, to wal.Offset) (out []string, err error) {
	r, err := l.Read(ctx, p, from)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstOf(err, r.Close()) }()
	for at := from; at < to; {
		entries, err := r.Next(ctx)
		if err != nil {
			return out, err
		}
		for _, e := range entries {
			if e.Offset != at {
				return out, fmt.Errorf("offset %d where %d should be", e.Offset, at)
			}
			out = append(out, string(e.Data))
			at++
		}
	}
	return out, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func withDeadline(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
