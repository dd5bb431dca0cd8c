package pebblestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
)

var errInjected = errors.New("injected: input/output error")

// state and entry are those of the least store there is.
type state struct {
	consumers.State
	count uint64
}

type entry struct {
	id      wal.TokenID
	logTime int64
	offset  wal.Offset
}

func (e entry) Request() (wal.Hash, int64) { return wal.Hash{}, e.logTime }

type store = pebblestore.Store[state, entry]

func open(cfg pebblestore.Config) (*store, error) {
	cfg.Dir = "store"
	return pebblestore.Open(cfg, pebblestore.Layout[state, entry]{
		Name: "test store", Version: 7, Merger: pebble.DefaultMerger,
		Fresh:  state{State: consumers.State{Applied: wal.NoOffset}, count: 1},
		Common: func(s *state) *consumers.State { return &s.State },
		AppendState: func(dst []byte, s *state) []byte {
			return binary.AppendUvarint(pebblestore.AppendVersion(dst), s.count)
		},
		DecodeState: func(b []byte, s *state) (rest []byte, err error) {
			r, err := pebblestore.ReadValue("count", b)
			s.count = r.Uint()
			return r.Rest(), err
		},
		TokenOf: func(e *entry) pebblestore.Token {
			return pebblestore.Token{ID: e.id, LogTime: e.logTime, Offset: e.offset}
		},
		AppendToken: func(dst []byte, e *entry) []byte {
			return binary.AppendVarint(binary.AppendVarint(dst, e.logTime), int64(e.offset))
		},
		DecodeToken: func(id wal.TokenID, b []byte) (entry, error) {
			logTime, size := binary.Varint(b)
			o, _ := binary.Varint(b[size:])
			return entry{id, logTime, wal.Offset(o)}, nil
		},
	})
}

func mustOpen(t testing.TB, cfg pebblestore.Config) *store {
	t.Helper()
	s, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// openBreakable opens a store of one partition whose writes fail while broken is
// true.
func openBreakable(t testing.TB) (_ *store, broken *atomic.Bool) {
	t.Helper()
	broken = new(atomic.Bool)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errInjected
		}
		return nil
	}))
	return mustOpen(t, pebblestore.Config{FS: fs, Partitions: 1}), broken
}

// TestStateAndTokensComeBack: each partition is loaded with what was committed
// for it, and its tokens are found.
func TestStateAndTokensComeBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := pebblestore.Config{FS: vfs.NewMem(), Partitions: 3}
	id := wal.TokenID{1}
	for run := range 3 {
		s := mustOpen(t, cfg)
		want := state{consumers.State{Applied: wal.Offset(run - 1)}, uint64(run + 1)}
		if got, err := s.Saved(ctx, 2); err != nil || got != want || s.Fresh(2) != (run == 0) || !s.Fresh(1) {
			t.Errorf("run %d: state %+v, %v; want %+v; fresh %v", run, got, err, want, s.Fresh(2))
		}
		if e, ok, err := s.Token(ctx, 2, id); err != nil || ok != (run > 0) || ok && e != (entry{id, 9, 3}) {
			t.Errorf("run %d: token %+v %v %v", run, e, ok, err)
		}
		b := s.Begin(2)
		if run == 0 {
			b.SaveToken(&entry{id, 9, 3})
		}
		if err := b.Commit(ctx, state{consumers.State{Applied: wal.Offset(run)}, uint64(run + 2)}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCallsWhileItCloses: Close waits for the calls that are inside, which may
// enter again and are then told that the store is closed.
func TestCallsWhileItCloses(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, pebblestore.Config{FS: vfs.NewMem(), Partitions: 1})
	var inside sync.WaitGroup
	enter := make(chan struct{})
	done := make(chan error, 2)
	for range 8 {
		if err := s.Enter(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		inside.Go(func() {
			defer s.Leave()
			<-enter
			for s.Enter(t.Context(), 0) == nil {
				s.Leave()
			}
			if len(done) > 0 {
				t.Error("closed while a call was inside")
			}
			if err := s.DB.Set([]byte("z"), nil, pebble.NoSync); err != nil {
				t.Error(err)
			}
		})
	}
	for range cap(done) {
		go func() { done <- s.Close() }()
	}
	close(enter)
	inside.Wait()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := s.Enter(t.Context(), 0); !errors.Is(err, consumers.ErrClosed) {
		t.Errorf("enter after close: %v", err)
	}
}

// TestRemovalsTellOfCommitsThatRemove: the number is odd where nobody knows what
// became of one.
func TestRemovalsTellOfCommitsThatRemove(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, broken := openBreakable(t)
	commit := func(ctx context.Context, removes bool) error {
		b := s.Begin(0)
		b.Removes = removes
		return b.Commit(ctx, state{})
	}
	n := s.Removals(0)
	for _, c := range []struct {
		removes bool
		want    uint64
	}{{false, 0}, {true, 2}, {false, 2}, {true, 4}} {
		if err := commit(ctx, c.removes); err != nil || n.Load() != c.want {
			t.Fatalf("commit that removes %v: %d, %v; want %d", c.removes, n.Load(), err, c.want)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := commit(gone, true); !errors.Is(err, context.Canceled) || n.Load() != 4 {
		t.Fatalf("a commit that was not begun: %d, %v", n.Load(), err)
	}
	broken.Store(true)
	if err := s.DB.Sync(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	if err := commit(ctx, true); !errors.Is(err, errInjected) || n.Load() != 5 {
		t.Fatalf("a commit that failed: %d, %v", n.Load(), err)
	}
	if err := s.Close(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
}

// TestAFailedWriteEndsOpen fails each write to the write-ahead log of a new store
// in turn, and all that follow: Open returns why, although Pebble has stopped
// for good. It leaves goroutines behind.
func TestAFailedWriteEndsOpen(t *testing.T) {
	t.Parallel()
	for n := int64(0); ; n++ {
		var writes atomic.Int64
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) > n {
				return errInjected
			}
			return nil
		}))
		type opened struct {
			s   *store
			err error
		}
		done := make(chan opened, 1)
		go func() {
			s, err := open(pebblestore.Config{FS: fs, Partitions: 1})
			done <- opened{s, err}
		}()
		var o opened
		select {
		case o = <-done:
		case <-time.After(time.Minute):
			t.Fatalf("write %d: open does not return", n)
		}
		if o.err == nil {
			t.Logf("%d writes", n)
			if n < 3 {
				t.Error("no write of the format was failed")
			}
			if err := o.s.Close(); !errors.Is(err, errInjected) {
				t.Errorf("close: %v", err)
			}
			return
		}
		// Pebble says its last words in a string.
		if !strings.Contains(o.err.Error(), errInjected.Error()) {
			t.Errorf("write %d: %v", n, o.err)
		}
	}
}

// TestCloseClosesWhatIsOpenInPebble, and not where Pebble cannot go on.
func TestCloseClosesWhatIsOpenInPebble(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		s, broken := openBreakable(t)
		it, err := s.DB.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		kept := &keeper{it: it}
		s.Keep(kept)
		broken.Store(fails)
		_, err = s.Sync(t.Context())
		_, usageErr := s.Usage(t.Context())
		if errors.Is(err, errInjected) != fails || errors.Is(usageErr, errInjected) != fails {
			t.Errorf("with failed writes %v: sync: %v, usage: %v", fails, err, usageErr)
		}
		err = s.Close()
		if kept.closed == fails || errors.Is(err, errInjected) != fails || (err != nil) != fails {
			t.Errorf("with failed writes %v: closed %v, %v", fails, kept.closed, err)
		}
		if s.Drop(kept) {
			t.Error("what the store has closed is to be closed")
		}
	}
}

// keeper says whether it was closed.
type keeper struct {
	it     *pebble.Iterator
	closed bool
}

func (k *keeper) Close() error {
	k.closed = true
	return k.it.Close()
}

func ExampleSuccessor() {
	fmt.Printf("%x %x\n", pebblestore.Successor([]byte{'s', 0, 1}), pebblestore.Successor([]byte{'s', 0xff, 0xff}))
	// Output: 730002 74
}
