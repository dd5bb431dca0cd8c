package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-db/headwater/wal"
)

func TestSecondOpenerIsRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"memory": small(vfs.NewMem()),
		"disk":   {Dir: t.TempDir(), Logger: quiet, FreeSpaceFloor: -1},
	} {
		t.Run(name, func(t *testing.T) {
			b := mustOpen(t, cfg)
			if second, err := Open(cfg); err == nil {
				closeBroker(t, second)
				t.Error("a second open of the same directory went through")
			} else if !strings.Contains(err.Error(), "lock directory") {
				t.Errorf("second open: %v", err)
			}
			l := mustCreate(t, b, "headwater.test.lock.1", 1)
			mustAppend(t, l, 0, "a") // the first is none the worse
			closeBroker(t, b)
			closeBroker(t, mustOpen(t, cfg))
		})
	}
}

func TestFreeSpaceFloorRefusesAndLetsInAgain(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	cfg := small(vfs.NewMem())
	cfg.FreeSpaceFloor = 100 << 20
	cfg.FreeSpace = func() (int64, error) { return free.Load(), nil }
	b := mustOpen(t, cfg)
	defer closeBroker(t, b)
	l := mustCreate(t, b, "headwater.test.floor.1", 1)
	mustAppend(t, l, 0, "a")

	free.Store(99 << 20)
	b.checkSpace()
	for _, d := range []wal.Durability{wal.Sync, wal.Buffered} {
		err := l.Append(t.Context(), d, []wal.NewEntry{{Data: []byte("b")}})[0].Err
		if !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrDiskFull) {
			t.Errorf("append at the floor: %v", err)
		}
	}
	if err := b.Health(); !errors.Is(err, wal.ErrDiskFull) {
		t.Errorf("health at the floor: %v", err)
	}
	if _, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.test.floor.2", Partitions: 1}); !errors.Is(err, wal.ErrDiskFull) {
		t.Errorf("create at the floor: %v", err)
	}
	if got, err := readAll(t.Context(), l, 0); err != nil || len(got) != 1 {
		t.Errorf("read at the floor: %q, %v", got, err)
	}
	if err := l.Trim(t.Context(), 0, 1); err != nil {
		t.Errorf("trim at the floor, which is what helps: %v", err)
	}
	if u := b.Usage(); u.FreeBytes != 99<<20 || u.FloorBytes != 100<<20 {
		t.Errorf("usage %+v", u)
	}

	free.Store(101 << 20)
	b.checkSpace()
	if err := b.Health(); err != nil {
		t.Errorf("health above the floor: %v", err)
	}
	mustAppend(t, l, 0, "c")
}

// TestFloorIsMetBeforeTheDiskIs fills a small disk by appends alone: the floor must
// answer first, without the housekeeping's help, and nothing must fail.
func TestFloorIsMetBeforeTheDiskIs(t *testing.T) {
	var used atomic.Int64
	const disk, floor = 140 << 20, 100 << 20
	cfg := small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && used.Load() > disk {
			return syscall.ENOSPC
		}
		return nil
	}))
	cfg.FreeSpaceFloor = floor
	cfg.FreeSpace = func() (int64, error) { return disk - used.Load(), nil }
	b := mustOpen(t, cfg)
	defer closeBroker(t, b)
	l := mustCreate(t, b, "headwater.test.fill.1", 1)
	data := strings.Repeat("f", 1<<20)
	for range 1000 {
		if _, err := appendOne(t.Context(), l, 0, data); err != nil {
			if !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrDiskFull) {
				t.Fatalf("append to a filling disk: %v", err)
			}
			if left := disk - used.Load(); left < floor-2*spaceCheckBytes {
				t.Errorf("%d bytes were left at the first refusal, the floor is %d", left, floor)
			}
			return
		}
		used.Add(1 << 20)
	}
	t.Error("the disk took everything")
}

// TestReadOnlyDirectoryIsRefused: open says so, and does not hang in Pebble.
func TestReadOnlyDirectoryIsRefused(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpRename, errorfs.OpFileSync, errorfs.OpFileSyncData} {
		_, err := Open(small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
			if op.Kind == kind {
				return syscall.EROFS
			}
			return nil
		})))
		if err == nil || !strings.Contains(err.Error(), syscall.EROFS.Error()) {
			t.Errorf("open with operation %d failing: %v", kind, err)
		}
	}
}

// TestLogTimeNeverFallsOverRestart sets the clock back between two runs, with the
// records gone in the second case.
func TestLogTimeNeverFallsOverRestart(t *testing.T) {
	for _, trim := range []bool{false, true} {
		fs := vfs.NewMem()
		cfg := small(fs)
		now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		cfg.Now = func() time.Time { return now }
		b := mustOpen(t, cfg)
		l := mustCreate(t, b, "headwater.test.time.1", 1)
		first := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: []byte("a")}})[0]
		if first.LogTime < now.UnixMicro() || first.LogTime > now.Add(time.Hour).UnixMicro() {
			t.Errorf("log time %d, the clock was at %d", first.LogTime, now.UnixMicro())
		}
		if trim {
			if err := l.Trim(t.Context(), 0, 1); err != nil {
				t.Fatal(err)
			}
		}
		closeBroker(t, b)
		now = now.Add(-24 * time.Hour)
		b = mustOpen(t, cfg)
		l, err := b.Open(t.Context(), "headwater.test.time.1")
		if err != nil {
			t.Fatal(err)
		}
		second := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: []byte("b")}})[0]
		if second.LogTime < first.LogTime || b.Now().UnixMicro() < second.LogTime {
			t.Errorf("log time fell from %d to %d over a restart; the broker says it is %d", first.LogTime, second.LogTime, b.Now().UnixMicro())
		}
		closeBroker(t, b)
	}
}

func TestTopicNamesAreChecked(t *testing.T) {
	b := mustOpen(t, small(vfs.NewMem()))
	defer closeBroker(t, b)
	for _, name := range []string{"", "a/b", "a b", "..\x00", "ä", strings.Repeat("n", 250)} {
		if _, err := b.Create(t.Context(), wal.TopicSpec{Name: name, Partitions: 1}); err == nil {
			t.Errorf("topic %q was created", name)
		}
	}
	if _, err := b.Create(t.Context(), wal.TopicSpec{Name: "x", Partitions: maxPartitions + 1}); err == nil {
		t.Error("too many partitions were accepted")
	}
}

// TestTopicIDsAreNotReused: records of a deleted topic can't come back in another.
func TestTopicIDsAreNotReused(t *testing.T) {
	fs := vfs.NewMem()
	seen := map[uint32]bool{}
	for round := range 5 {
		b := mustOpen(t, small(fs))
		for i := range 3 {
			name := fmt.Sprintf("headwater.test.ids-%d.1", i)
			l := mustCreate(t, b, name, 1).(*topic)
			if seen[l.id] {
				t.Fatalf("round %d: id %d was given before", round, l.id)
			}
			seen[l.id] = true
			mustAppend(t, l, 0, "a")
			if err := b.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		closeBroker(t, b)
	}
}

// TestDeleteUnderLoad: appends that race a delete are acknowledged or refused, and
// nothing of the old topic shows in the new one.
func TestDeleteUnderLoad(t *testing.T) {
	b := mustOpen(t, small(vfs.NewMem()))
	defer closeBroker(t, b)
	const name = "headwater.test.race.1"
	for range 20 {
		l := mustCreate(t, b, name, 1)
		begun := make(chan struct{}, 4)
		ended := make(chan error, 4)
		for range 4 {
			go func() {
				for {
					_, err := appendOne(context.Background(), l, 0, "old")
					select {
					case begun <- struct{}{}:
					default:
					}
					if err != nil {
						ended <- err
						return
					}
				}
			}()
		}
		<-begun
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if err := <-ended; !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrIncarnation) {
				t.Errorf("append to a deleted topic: %v", err)
			}
		}
		iter, err := b.db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		for ok := iter.First(); ok; ok = iter.Next() {
			if k := iter.Key(); k[0] != familyMeta {
				t.Errorf("key %x is left of a deleted topic", k)
			}
		}
		if err := iter.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := small(vfs.NewMem())
	cfg.Registerer = reg
	b := mustOpen(t, cfg)
	defer closeBroker(t, b)
	mustAppend(t, mustCreate(t, b, "headwater.test.metrics.1", 1), 0, "a")
	names := map[string]bool{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names[f.GetName()] = true
		if h := f.GetMetric()[0].GetHistogram(); h != nil && h.GetSampleCount() == 0 {
			t.Errorf("%s counted nothing", f.GetName())
		}
	}
	for _, want := range []string{"headwater_log_append_seconds", "headwater_log_fsync_seconds", "headwater_log_bytes", "headwater_disk_free_bytes"} {
		if !names[want] {
			t.Errorf("%s is missing", want)
		}
	}
}

// TestAnUnknownDiskIsNotAFullOne: 0 bytes free would be an alert.
func TestAnUnknownDiskIsNotAFullOne(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := small(vfs.NewMem())
	cfg.Registerer = reg
	cfg.FreeSpace = func() (int64, error) { return 0, errors.ErrUnsupported }
	b := mustOpen(t, cfg)
	defer closeBroker(t, b)
	if u := b.Usage(); u.FreeBytes != -1 {
		t.Errorf("usage %+v", u)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if free := f.GetMetric()[0].GetGauge().GetValue(); f.GetName() == "headwater_disk_free_bytes" && !math.IsNaN(free) {
			t.Errorf("%v bytes are free on a disk that is not known", free)
		}
	}
}
