package pebblestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
)

var errInjected = errors.New("injected: input/output error")

// layout is of a store whose states are eight bytes; loaded gets them.
func layout(loaded map[wal.Partition]uint64) pebblestore.Layout {
	return pebblestore.Layout{
		Name: "test store", Version: 7, Merger: pebble.DefaultMerger,
		Load: func(p wal.Partition, state []byte) ([]byte, error) {
			if state == nil {
				return nil, nil
			}
			loaded[p] = binary.BigEndian.Uint64(state)
			return state[8:], nil
		},
	}
}

// TestStateAndTokensComeBack: each partition is loaded with what was committed
// for it, and its tokens are found.
func TestStateAndTokensComeBack(t *testing.T) {
	t.Parallel()
	cfg := pebblestore.Config{FS: vfs.NewMem(), Dir: "store", Partitions: 3}
	nonce := wal.Nonce{1}
	loaded := map[wal.Partition]uint64{}
	for run := range 3 {
		db, err := pebblestore.Open(cfg, layout(loaded))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		if err := db.Tokens.Lookup(2, nonce, func([]byte) error { found++; return nil }); err != nil {
			t.Fatal(err)
		}
		if want := min(run, 1); found != want || len(loaded) != want || loaded[2] != uint64(want*(41+run)) {
			t.Errorf("run %d: %d tokens, states %v", run, found, loaded)
		}
		w, c := db.NewBatch(), db.Tokens.NewChange(2)
		if run == 0 {
			op := c.Add(w, &nonce, 1, 0)
			if err := op.Finish(); err != nil {
				t.Fatal(err)
			}
		}
		state, err := c.AppendState(binary.BigEndian.AppendUint64(nil, uint64(42+run)))
		if err := errors.Join(err, w.Set(pebblestore.StateKey(2), state, nil), db.Apply(w)); err != nil {
			t.Fatal(err)
		}
		c.Committed()
		if err := errors.Join(w.Close(), db.Close(nil)); err != nil {
			t.Fatal(err)
		}
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
			db  *pebblestore.DB
			err error
		}
		done := make(chan opened, 1)
		go func() {
			db, err := pebblestore.Open(pebblestore.Config{FS: fs, Dir: "store", Partitions: 1}, layout(nil))
			done <- opened{db, err}
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
			if err := o.db.Close(nil); !errors.Is(err, errInjected) {
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
		var broken atomic.Bool
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				return errInjected
			}
			return nil
		}))
		db, err := pebblestore.Open(pebblestore.Config{FS: fs, Dir: "store", Partitions: 1}, layout(nil))
		if err != nil {
			t.Fatal(err)
		}
		it, err := db.NewIterWithContext(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		broken.Store(fails)
		err = db.Sync()
		_, usageErr := db.Usage()
		if errors.Is(err, errInjected) != fails || errors.Is(usageErr, errInjected) != fails {
			t.Errorf("with failed writes %v: sync: %v, usage: %v", fails, err, usageErr)
		}
		closed := false
		err = db.Close(func() error { closed = true; return it.Close() })
		if closed == fails || errors.Is(err, errInjected) != fails || (err != nil) != fails {
			t.Errorf("with failed writes %v: closed %v, %v", fails, closed, err)
		}
	}
}

func ExampleSuccessor() {
	fmt.Printf("%x %x\n", pebblestore.Successor([]byte{'s', 0, 1}), pebblestore.Successor([]byte{'s', 0xff, 0xff}))
	// Output: 730002 74
}
