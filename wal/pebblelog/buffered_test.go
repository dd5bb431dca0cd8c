package pebblelog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/wal"
)

// stalled is a log whose syncs stand still while hold is set, and fail after it
// with err.
type stalled struct {
	*Broker
	wal.Log
	hold    atomic.Bool
	err     error // set before release
	reached chan struct{}
	release chan struct{}
}

func openStalled(t *testing.T, change func(*Config)) *stalled {
	t.Helper()
	s := &stalled{reached: make(chan struct{}, 64), release: make(chan struct{})}
	cfg := small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if s.hold.Load() && isSync(op) && isWAL(op) {
			s.reached <- struct{}{}
			<-s.release
			return s.err
		}
		return nil
	}))
	change(&cfg)
	s.Broker = mustOpen(t, cfg)
	s.Log = mustCreate(t, s.Broker, "headwater.test.stalled.1", 1)
	s.hold.Store(true)
	return s
}

func (s *stalled) goOn() {
	s.hold.Store(false)
	close(s.release)
}

// buffer appends a buffered record; its outcome goes to told.
func (s *stalled) buffer(told chan<- wal.Result) error {
	return s.Append(context.Background(), wal.Buffered, []wal.NewEntry{{Data: []byte("b"), Settled: func(r wal.Result) { told <- r }}})[0].Err
}

// TestBufferedAppendDoesNotWaitForRoom: nobody gives it a deadline that would end
// the wait.
func TestBufferedAppendDoesNotWaitForRoom(t *testing.T) {
	s := openStalled(t, func(c *Config) { c.QueueEntries, c.BufferedLoss = 3, time.Hour })
	defer closeBroker(t, s.Broker)
	told := make(chan wal.Result, 8)
	for range 3 {
		if err := s.buffer(told); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.buffer(told); !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrOverloaded) {
		t.Errorf("append to a full queue: %v", err)
	}
	s.goOn()
	for i := range wal.Offset(3) {
		if r := <-told; r.Err != nil || r.Offset != i {
			t.Errorf("record %d: offset %d, %v", i, r.Offset, r.Err)
		}
	}
	if err := s.buffer(told); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// TestBufferedAppendIsRefusedBehindAnOldOne: a disk that stands still bounds what
// is at stake, by its age and not only by its size.
func TestBufferedAppendIsRefusedBehindAnOldOne(t *testing.T) {
	s := openStalled(t, func(c *Config) { c.BufferedLoss = 1 }) // a nanosecond
	defer closeBroker(t, s.Broker)
	told := make(chan wal.Result, 8)
	if err := s.buffer(told); err != nil {
		t.Fatal(err)
	}
	<-s.reached
	if err := s.buffer(told); !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrOverloaded) {
		t.Errorf("behind an old one: %v", err)
	}
	durable := make(chan error, 1)
	go func() {
		_, err := appendOne(context.Background(), s.Log, 0, "sync")
		durable <- err
	}()
	s.goOn()
	if err := <-durable; err != nil {
		t.Errorf("a durable append behind an old buffered one: %v", err)
	}
	if r := <-told; r.Err != nil {
		t.Error(r.Err)
	}
	if err := s.buffer(told); err != nil {
		t.Errorf("nothing old waits: %v", err)
	}
}

// TestBufferedOutcomeAfterADiskError: what was being written is unknown, what
// stood behind it is not appended.
func TestBufferedOutcomeAfterADiskError(t *testing.T) {
	if !inChild(t) {
		return
	}
	s := openStalled(t, func(c *Config) { c.BufferedLoss = time.Hour })
	defer func() { _ = s.Close() }() // it has failed
	told := make([]chan wal.Result, 40)
	for i := range told {
		told[i] = make(chan wal.Result, 2)
		if err := s.buffer(told[i]); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-s.reached
		}
	}
	s.err = errors.New("disk gone")
	close(s.release)
	first, last := <-told[0], <-told[len(told)-1]
	if !errors.Is(first.Err, wal.ErrUnknown) || errors.Is(first.Err, wal.ErrNotAppended) || !errors.Is(first.Err, wal.ErrFailed) {
		t.Errorf("in its sync: %v", first.Err)
	}
	if errors.Is(last.Err, wal.ErrNotAppended) == errors.Is(last.Err, wal.ErrUnknown) {
		t.Errorf("behind it: %v", last.Err)
	}
	for i, c := range told[1 : len(told)-1] {
		if r := <-c; r.Err == nil {
			t.Errorf("record %d is acknowledged after a failed sync", i+1)
		}
	}
	for i, c := range told {
		if len(c) != 0 {
			t.Errorf("record %d was told twice", i)
		}
	}
}

// TestBarrierCoversWhatIsInDoubt: after an append was told as unknown, a barrier
// is not answered before it is decided.
func TestBarrierCoversWhatIsInDoubt(t *testing.T) {
	s := openStalled(t, func(*Config) {})
	defer closeBroker(t, s.Broker)
	if o, err := s.Barrier(t.Context(), 0); err != nil || o != wal.NoOffset {
		t.Fatalf("barrier of an empty log: %d, %v", o, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	unknown := make(chan error, 1)
	go func() {
		_, err := appendOne(ctx, s.Log, 0, "in doubt")
		unknown <- err
	}()
	<-s.reached
	if o, err := s.Barrier(t.Context(), 0); err != nil || o != wal.NoOffset {
		t.Errorf("barrier while an append is under way: %d, %v", o, err)
	}
	cancel()
	if err := <-unknown; !errors.Is(err, wal.ErrUnknown) {
		t.Fatal(err)
	}
	short, done := context.WithTimeout(t.Context(), time.Millisecond)
	defer done()
	if o, err := s.Barrier(short, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a barrier was answered while an append is in doubt: %d, %v", o, err)
	}
	s.goOn()
	if o, err := s.Barrier(t.Context(), 0); err != nil || o != 0 {
		t.Errorf("barrier: %d, %v; want 0", o, err)
	}
}
