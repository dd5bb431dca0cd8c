package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLog(t testing.TB, partitions int) wal.Log {
	t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", FreeSpaceFloor: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	l, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.kv.plays.1", Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t *testing.T, l wal.Log, p wal.Partition, n int) {
	t.Helper()
	for i := range n {
		rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindKV, Payload: fmt.Appendf(nil, "%d", i)})
		if r := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// memory is an applier whose store is a slice: what was saved, with the offset.
type memory struct {
	progress *wal.Progress
	mu       sync.Mutex
	saved    map[wal.Partition][]wal.Offset
	fail     func(p wal.Partition, e *wal.Entry) error // asked before an entry is saved
	ready    func(p wal.Partition, entries []wal.Entry) (int, <-chan struct{})
	atATime  int // entries that Apply takes; 0: all
}

func (m *memory) Resume(_ context.Context, p wal.Partition) (wal.Offset, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return wal.Offset(len(m.saved[p])), nil
}

func (m *memory) Assign(context.Context, wal.Partition) error { return nil }

func (m *memory) Revoke(context.Context, wal.Partition) error { return nil }

func (m *memory) Ready(p wal.Partition, entries []wal.Entry) (int, <-chan struct{}) {
	if m.ready == nil {
		return len(entries), nil
	}
	return m.ready(p, entries)
}

func (m *memory) Apply(_ context.Context, p wal.Partition, entries []wal.Entry) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range entries {
		if m.fail != nil {
			if err := m.fail(p, &entries[i]); err != nil {
				return i, err
			}
		}
		m.saved[p] = append(m.saved[p], entries[i].Offset)
		m.progress.Advance(p, entries[i].Offset, entries[i].LogTime)
		if m.atATime > 0 && i+1 == m.atATime {
			return i + 1, nil
		}
	}
	return len(entries), nil
}

// run starts a runner and stops it with the test.
func run(t *testing.T, l wal.Log, m *memory) (r *consumers.Runner, stop func()) {
	t.Helper()
	m.progress, m.saved = wal.NewProgress(l.Info().Partitions), map[wal.Partition][]wal.Offset{}
	return again(t, l, m)
}

func again(t *testing.T, l wal.Log, m *memory) (r *consumers.Runner, stop func()) {
	t.Helper()
	r = consumers.New(consumers.Config{Namespace: "plays", Role: "PRIMARY", Log: l, Applier: m, Stopped: m.progress.Stop, MaxBackoff: 1})
	if err := r.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			if err := r.StopAll(context.Background()); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return r, stop
}

func (m *memory) check(t *testing.T, p wal.Partition, n int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.saved[p]) != n {
		t.Fatalf("partition %d: %d records applied, want %d", p, len(m.saved[p]), n)
	}
	for i, o := range m.saved[p] {
		if o != wal.Offset(i) {
			t.Fatalf("partition %d: record %d applied in place %d", p, o, i)
		}
	}
}

func TestEveryRecordOnceInOrderOverRestarts(t *testing.T) {
	t.Parallel()
	l := newLog(t, 2)
	m := &memory{}
	_, stop := run(t, l, m)
	for round := 1; round <= 3; round++ {
		put(t, l, 0, 50)
		put(t, l, 1, 20)
		for p, n := range map[wal.Partition]int{0: 50 * round, 1: 20 * round} {
			if err := m.progress.Wait(t.Context(), p, wal.Offset(n-1)); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		m.check(t, 0, 50*round)
		m.check(t, 1, 20*round)
		_, stop = again(t, l, m)
	}
}

func TestATransientErrorHoldsItsPartitionOnly(t *testing.T) {
	t.Parallel()
	l := newLog(t, 2)
	broken, tries := errors.New("store is away"), 0
	well, tried := make(chan struct{}), make(chan struct{})
	m := &memory{fail: func(p wal.Partition, e *wal.Entry) error {
		if p != 0 || e.Offset != 3 {
			return nil
		}
		if tries++; tries == 3 {
			close(tried)
		}
		select {
		case <-well:
			return nil
		default:
			return broken
		}
	}}
	r, _ := run(t, l, m)
	put(t, l, 0, 6)
	put(t, l, 1, 6)
	if err := m.progress.Wait(t.Context(), 1, 5); err != nil {
		t.Fatalf("the other partition: %v", err)
	}
	<-tried // again and again, without an end
	if h := r.Health()[0]; !errors.Is(h.Retrying, broken) || h.Stopped != nil {
		t.Errorf("health of the held partition: %+v", h)
	}
	if got := m.progress.Applied(0); got != 2 {
		t.Errorf("applied up to %d, want 2: nothing behind the record may overtake it", got)
	}
	close(well)
	if err := m.progress.Wait(t.Context(), 0, 5); err != nil {
		t.Fatal(err)
	}
	m.check(t, 0, 6)
}

func TestWhatCannotPassStopsThePartitionWithItsReason(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{wal.ErrUnknownVersion, wal.ErrCorrupt, wal.ErrIncarnation, wal.ErrTrimmed} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			l := newLog(t, 2)
			m := &memory{fail: func(p wal.Partition, e *wal.Entry) error {
				if p == 1 && e.Offset == 1 {
					return fmt.Errorf("record: %w", cause)
				}
				return nil
			}}
			r, _ := run(t, l, m)
			put(t, l, 1, 3)
			if err := m.progress.Wait(t.Context(), 1, 2); !errors.Is(err, cause) {
				t.Errorf("who waits gets %v, want %v", err, cause)
			}
			if err := r.Health()[1].Stopped; !errors.Is(err, cause) {
				t.Errorf("health: %v", err)
			}
			if err := r.Do(t.Context(), 1, func(context.Context) error { return nil }); !errors.Is(err, cause) {
				t.Errorf("a job of the stopped partition: %v", err)
			}
			put(t, l, 0, 2)
			if err := m.progress.Wait(t.Context(), 0, 1); err != nil {
				t.Errorf("the other partition: %v", err)
			}
		})
	}
}

func TestATrimmedLogIsNotSkipped(t *testing.T) {
	t.Parallel()
	l := newLog(t, 1)
	put(t, l, 0, 5)
	if err := l.Trim(t.Context(), 0, 3); err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	run(t, l, m) // its store is at nothing, the log begins at 3
	if err := m.progress.Wait(t.Context(), 0, 4); !errors.Is(err, wal.ErrTrimmed) {
		t.Errorf("got %v, want ErrTrimmed", err)
	}
	m.check(t, 0, 0)
}

func TestABatchThatHasBegunIsFinishedAtShutdown(t *testing.T) {
	t.Parallel()
	l := newLog(t, 1)
	begun, resume := make(chan struct{}), make(chan struct{})
	m := &memory{fail: func(_ wal.Partition, e *wal.Entry) error {
		if e.Offset == 0 {
			close(begun)
			<-resume
		}
		return nil
	}}
	put(t, l, 0, 4)
	_, stop := run(t, l, m)
	<-begun
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("the runner ended in the middle of a batch")
	default:
	}
	close(resume)
	<-stopped
	m.check(t, 0, 4)
}

func TestDoRunsBetweenBatches(t *testing.T) {
	t.Parallel()
	l := newLog(t, 1)
	var inside atomic.Bool
	m := &memory{fail: func(wal.Partition, *wal.Entry) error {
		if inside.Load() {
			return errors.New("a batch in the middle of a job")
		}
		return nil
	}}
	r, stop := run(t, l, m)
	for range 20 {
		put(t, l, 0, 3)
		if err := r.Do(t.Context(), 0, func(context.Context) error {
			inside.Store(true)
			for range 100 { // gives a batch every chance to come in between
				runtime.Gosched()
			}
			inside.Store(false)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.progress.Wait(t.Context(), 0, 59); err != nil {
		t.Fatal(err)
	}
	if h := r.Health()[0]; h.Retrying != nil {
		t.Errorf("a batch and a job overlapped: %v", h.Retrying)
	}
	stop()
	if err := r.Do(t.Context(), 0, func(context.Context) error { return nil }); !errors.Is(err, consumers.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

// TestPartitionsMoveBetweenRunners hands every partition to and fro between two
// runners of one store while records come: each is applied once, in order.
func TestPartitionsMoveBetweenRunners(t *testing.T) {
	t.Parallel()
	l := newLog(t, 2)
	m := &memory{}
	one, _ := run(t, l, m)
	two := consumers.New(consumers.Config{Namespace: "plays", Role: "PRIMARY", Log: l, Applier: m, Stopped: m.progress.Stop, MaxBackoff: 1})
	t.Cleanup(func() {
		if err := two.StopAll(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	var writes sync.WaitGroup
	writes.Go(func() {
		for range 40 {
			put(t, l, 0, 5)
			put(t, l, 1, 3)
		}
	})
	from, to := one, two
	for range 20 {
		for p := range wal.Partition(2) {
			if err := from.Stop(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if err := from.Do(t.Context(), p, func(context.Context) error { return nil }); !errors.Is(err, consumers.ErrNotRunning) {
				t.Errorf("a job of a partition that was given up: %v", err)
			}
			if err := to.Start(context.Background(), p); err != nil {
				t.Fatal(err)
			}
		}
		from, to = to, from
	}
	writes.Wait()
	for p, n := range map[wal.Partition]int{0: 200, 1: 120} {
		if err := m.progress.Wait(t.Context(), p, wal.Offset(n-1)); err != nil {
			t.Fatal(err)
		}
		m.check(t, p, n)
	}
}

// TestABatchWaitsUntilItMayBeApplied: entries that are not ready are kept, jobs run
// meanwhile, and what Apply leaves over comes again.
func TestABatchWaitsUntilItMayBeApplied(t *testing.T) {
	t.Parallel()
	l := newLog(t, 1)
	put(t, l, 0, 6)
	var allowed atomic.Int64
	var mu sync.Mutex
	changed := make(chan struct{})
	m := &memory{atATime: 2, ready: func(_ wal.Partition, entries []wal.Entry) (n int, _ <-chan struct{}) {
		mu.Lock()
		defer mu.Unlock()
		for n < len(entries) && int64(entries[n].Offset) < allowed.Load() {
			n++
		}
		return n, changed
	}}
	r, stop := run(t, l, m)
	for n := range int64(7) {
		mu.Lock()
		allowed.Store(n)
		close(changed)
		changed = make(chan struct{})
		mu.Unlock()
		if err := m.progress.Wait(t.Context(), 0, wal.Offset(n-1)); err != nil {
			t.Fatal(err)
		}
		if err := r.Do(t.Context(), 0, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		if got := len(m.saved[0]); got != int(n) {
			t.Errorf("%d records applied, %d may be", got, n)
		}
		m.mu.Unlock()
	}
	stop()
	m.check(t, 0, 6)
}
