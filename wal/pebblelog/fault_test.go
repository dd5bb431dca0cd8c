package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// faultFS calls hook before every operation that writes or syncs.
func faultFS(fs vfs.FS, hook func(errorfs.Op) error) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFileWrite, errorfs.OpFileWriteAt,
			errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpLink, errorfs.OpRemove:
			return hook(op)
		}
		return nil
	}))
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

func isWAL(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

// TestNothingIsReadBeforeItsSync holds a sync and proves that its record can't be
// read, is not in the bounds and not in a barrier, until the sync has returned.
func TestNothingIsReadBeforeItsSync(t *testing.T) {
	var hold atomic.Pointer[chan struct{}]
	reached := make(chan struct{}, 16)
	b := mustOpen(t, small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if ch := hold.Load(); ch != nil && isSync(op) && isWAL(op) {
			select {
			case reached <- struct{}{}:
			default:
			}
			<-*ch
		}
		return nil
	})))
	defer closeBroker(t, b)
	l := mustCreate(t, b, "headwater.test.hold.1", 1)
	mustAppend(t, l, 0, "first")

	release := make(chan struct{})
	hold.Store(&release)
	acked := make(chan error, 1)
	go func() {
		_, err := appendOne(t.Context(), l, 0, "held")
		acked <- err
	}()
	<-reached
	// The record is in Pebble's memtable now, or will be; it must not be seen.
	r, err := l.Read(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if entries, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("read %d records of an unsynced group, %v", len(entries), err)
	}
	if bounds, err := l.Bounds(t.Context(), 0); err != nil || bounds.End != 1 {
		t.Errorf("bounds %+v, %v during the sync", bounds, err)
	}
	if o, err := l.Barrier(t.Context(), 0); err != nil || o != 0 {
		t.Errorf("barrier %d, %v during the sync", o, err)
	}
	select {
	case err := <-acked:
		t.Fatalf("acknowledged before the sync: %v", err)
	default:
	}
	hold.Store(nil)
	close(release)
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	entries, err := r.Next(t.Context())
	if err != nil || len(entries) != 1 || string(entries[0].Data) != "held" {
		t.Fatalf("after the sync: %d entries, %v", len(entries), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestDeadlineInFlightIsUnknown: the queue's first group hangs in its sync; its
// caller's outcome is unknown, that of a caller behind it is not appended.
func TestDeadlineInFlightIsUnknown(t *testing.T) {
	release := make(chan struct{})
	var hold atomic.Bool
	reached := make(chan struct{}, 64)
	b := mustOpen(t, small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if hold.Load() && isSync(op) && isWAL(op) {
			reached <- struct{}{}
			<-release
		}
		return nil
	})))
	defer closeBroker(t, b)
	l := mustCreate(t, b, "headwater.test.deadline.1", 1)
	hold.Store(true)
	var wg sync.WaitGroup
	outcomes := make([]error, 40)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range outcomes {
		wg.Go(func() { _, outcomes[i] = appendOne(ctx, l, 0, fmt.Sprintf("call-%d", i)) })
		if i == 0 {
			<-reached // the others are behind a sync that does not return
		}
	}
	cancel()
	wg.Wait()
	hold.Store(false)
	close(release)
	mustAppend(t, l, 0, "end")
	got, err := readAll(t.Context(), l, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(outcomes[0], wal.ErrUnknown) || !errors.Is(outcomes[0], context.Canceled) {
		t.Errorf("outcome of the append in its sync: %v", outcomes[0])
	}
	for i, err := range outcomes {
		there := slices.Contains(got, fmt.Sprintf("call-%d", i))
		if errors.Is(err, wal.ErrNotAppended) == errors.Is(err, wal.ErrUnknown) {
			t.Errorf("outcome %d: %v", i, err)
		}
		if errors.Is(err, wal.ErrNotAppended) && there {
			t.Errorf("record %d was not appended and is there", i)
		}
	}
}

// TestFullQueueIsOverloaded: behind a sync that hangs the queue fills, and the one
// call too many is told so at its deadline.
func TestFullQueueIsOverloaded(t *testing.T) {
	release := make(chan struct{})
	var hold atomic.Bool
	cfg := small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if hold.Load() && isSync(op) && isWAL(op) {
			<-release
		}
		return nil
	}))
	cfg.QueueEntries = 10
	b := mustOpen(t, cfg)
	defer closeBroker(t, b)
	l := mustCreate(t, b, "headwater.test.full.1", 1)
	hold.Store(true)
	for range 10 {
		if err := l.Append(t.Context(), wal.Buffered, []wal.NewEntry{{Data: []byte("x")}})[0].Err; err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for _, d := range []wal.Durability{wal.Sync, wal.Buffered} {
		err := l.Append(ctx, d, []wal.NewEntry{{Data: []byte("y")}})[0].Err
		if !errors.Is(err, wal.ErrNotAppended) {
			t.Errorf("append to a full queue: %v", err)
		}
		if d == wal.Sync && (!errors.Is(err, wal.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded)) {
			t.Errorf("append to a full queue: %v", err)
		}
	}
	hold.Store(false)
	close(release)
	mustAppend(t, l, 0, "end") // room again
	if got, err := readAll(t.Context(), l, 0); err != nil || len(got) != 11 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// TestDiskErrorsStopTheLog makes the n-th write or sync fail, once, for every n up
// to a bound. Nothing may be acknowledged after it, and a restart on what was
// synced must find everything that was.
func TestDiskErrorsStopTheLog(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, c := range []struct {
		name string
		err  error
		hits func(errorfs.Op) bool
	}{
		{"sync", syscall.EIO, isSync},
		{"sync-wal", syscall.EIO, func(op errorfs.Op) bool { return isSync(op) && isWAL(op) }},
		{"write-wal", syscall.ENOSPC, func(op errorfs.Op) bool { return !isSync(op) && isWAL(op) && op.Kind != errorfs.OpRemove }},
		{"write-any", syscall.ENOSPC, func(op errorfs.Op) bool { return !isSync(op) && op.Kind != errorfs.OpRemove }},
		{"read-only", syscall.EROFS, func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpRename }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 25
			switch {
			case longTests:
				n = 200
			case testing.Short():
				n = 15
			}
			failed := 0
			for i := 1; i <= n; i++ {
				if oneDiskError(t, int64(i), c.err, c.hits) {
					failed++
				}
			}
			t.Logf("%d of %d injected errors stopped the log while it took appends", failed, n)
			if failed == 0 {
				t.Error("no error was ever met")
			}
		})
	}
}

func oneDiskError(t *testing.T, n int64, fault error, hits func(errorfs.Op) bool) (met bool) {
	mem := vfs.NewCrashableMem()
	var count atomic.Int64
	var armed atomic.Bool
	cfg := small(faultFS(mem, func(op errorfs.Op) error {
		if armed.Load() && hits(op) && count.Add(1) == n {
			return fault
		}
		return nil
	}))
	cfg.MemTableBytes = 64 << 10
	told := make(chan error, 1)
	cfg.OnFail = func(err error) { told <- err }
	b := mustOpen(t, cfg)
	l := mustCreate(t, b, "headwater.test.fault.1", 2)
	armed.Store(true)
	acked := make([][]string, 2)
	pad := strings.Repeat("p", 4000)
	for i := range 120 {
		p := wal.Partition(i % 2)
		data := fmt.Sprintf("%d %s", i, pad)
		_, err := appendOne(t.Context(), l, p, data)
		if err == nil {
			if met {
				t.Fatalf("error %d: append %d was acknowledged after the log had failed", n, i)
			}
			acked[p] = append(acked[p], data)
			continue
		}
		if met && !errors.Is(err, wal.ErrNotAppended) {
			t.Fatalf("error %d: append %d after the failure: %v", n, i, err)
		}
		if !errors.Is(err, wal.ErrFailed) || errors.Is(err, wal.ErrUnknown) == errors.Is(err, wal.ErrNotAppended) {
			t.Fatalf("error %d: append %d: %v", n, i, err)
		}
		met = true
	}
	if met {
		if err := b.Health(); !errors.Is(err, wal.ErrFailed) {
			t.Fatalf("error %d: health of a failed log: %v", n, err)
		}
		if err := <-told; !errors.Is(err, wal.ErrFailed) {
			t.Fatalf("error %d: OnFail was told %v", n, err)
		}
		if err := l.Trim(t.Context(), 0, 1); !errors.Is(err, wal.ErrFailed) && len(acked[0]) > 0 {
			t.Fatalf("error %d: trim of a failed log: %v", n, err)
		}
		// What was acknowledged can still be read, also by a reader that begins now.
		for p := range acked {
			got, err := readRange(withDeadline(t, time.Minute), l, wal.Partition(p), 0, wal.Offset(len(acked[p])))
			if p == 0 && errors.Is(err, wal.ErrTrimmed) {
				continue // the refused trim above
			}
			// The one whose outcome was unknown may be there too: its sync can have been
			// done when the failure was told.
			if err != nil || len(got) < len(acked[p]) || len(got) > len(acked[p])+1 || !slices.Equal(got[:len(acked[p])], acked[p]) {
				t.Fatalf("error %d: a failed log reads %d records, %v; want %d", n, len(got), err, len(acked[p]))
			}
		}
	}
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	_ = b.Close() // a failed log may say so again
	again := mustOpen(t, small(clone))
	defer closeBroker(t, again)
	l, err := again.Open(t.Context(), "headwater.test.fault.1")
	if err != nil {
		t.Fatalf("error %d: %v", n, err)
	}
	for p := range acked {
		got, err := readAll(t.Context(), l, wal.Partition(p))
		if err != nil || len(got) < len(acked[p]) || !slices.Equal(got[:len(acked[p])], acked[p]) {
			t.Fatalf("error %d: after a restart %d records, %v; %d were acknowledged", n, len(got), err, len(acked[p]))
		}
	}
	return met
}

// TestPowerLossAtEverySync takes what a power loss would leave, around each sync of
// a busy log: after each, everything that had been acknowledged before is there, in
// order, without gaps, and the log goes on.
func TestPowerLossAtEverySync(t *testing.T) {
	type crash struct {
		fs    *vfs.MemFS
		acked [2]int
	}
	var (
		mu      sync.Mutex
		crashes []crash
		acked   [2]atomic.Int64
		on      atomic.Bool
		count   atomic.Int64
	)
	mem := failtest.NewMemory()
	rng := rand.New(rand.NewPCG(7, 11))
	every := int64(2)
	if longTests {
		every = 1
	}
	cfg := small(faultFS(mem, func(op errorfs.Op) error {
		if !on.Load() || !isSync(op) && op.Kind != errorfs.OpRename && op.Kind != errorfs.OpRemove || count.Add(1)%every != 0 {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		// Acknowledged before the clone is made: this many must be in it.
		c := crash{acked: [2]int{int(acked[0].Load()), int(acked[1].Load())}}
		c.fs = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 25, 50, 75, 100}[len(crashes)%5], RNG: rng})
		crashes = append(crashes, c)
		return nil
	}))
	cfg.MemTableBytes = 128 << 10
	b := mustOpen(t, cfg)
	l := mustCreate(t, b, "headwater.test.power.1", 2)
	on.Store(true)
	data := func(p, i int) string { return fmt.Sprintf("%d/%d %s", p, i, strings.Repeat("w", i*37%3000)) }
	var wg sync.WaitGroup
	for p := range 2 {
		wg.Go(func() {
			for i := range 250 {
				if _, err := appendOne(t.Context(), l, wal.Partition(p), data(p, i)); err != nil {
					t.Errorf("append: %v", err)
					return
				}
				acked[p].Store(int64(i + 1))
				if i%25 == 0 {
					if err := b.saveEnds(); err != nil {
						t.Errorf("save ends: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	on.Store(false)
	closeBroker(t, b)
	t.Logf("%d power losses", len(crashes))
	if len(crashes) < 40 {
		t.Errorf("only %d syncs were met", len(crashes))
	}
	for n, c := range crashes {
		b := mustOpen(t, small(c.fs))
		l, err := b.Open(t.Context(), "headwater.test.power.1")
		if err != nil {
			t.Fatalf("loss %d: %v", n, err)
		}
		for p := range 2 {
			got, err := readAll(t.Context(), l, wal.Partition(p))
			if err != nil || len(got) < c.acked[p] {
				t.Fatalf("loss %d: partition %d has %d records, %v; %d were acknowledged", n, p, len(got), err, c.acked[p])
			}
			for i := range got {
				if got[i] != data(p, i) {
					t.Fatalf("loss %d: partition %d record %d is wrong", n, p, i)
				}
			}
			if o, err := appendOne(t.Context(), l, wal.Partition(p), "next"); err != nil || o != wal.Offset(len(got)) {
				t.Fatalf("loss %d: append after it: %d, %v", n, o, err)
			}
		}
		closeBroker(t, b)
	}
}
