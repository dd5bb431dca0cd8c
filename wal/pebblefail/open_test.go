package pebblefail_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/wal/pebblefail"
)

var quiet = slog.New(slog.DiscardHandler)

// TestAStoreThatFailsWhileItOpensIsClosed: work in the background meets damage,
// and Pebble opens all the same.
func TestAStoreThatFailsWhileItOpensIsClosed(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	f := pebblefail.New(errStore, nil)
	fs := f.FS(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename { // of the options, one of the last things
			f.Fail(errBroken)
		}
		return nil
	})))
	if _, err := f.Open("db", fs, quiet, &pebble.Options{}); !errors.Is(err, errBroken) {
		t.Fatalf("open: %v", err)
	}
	again := pebblefail.New(errStore, nil)
	db, err := again.Open("db", again.FS(mem), quiet, &pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestATableThatCannotBeReadIsNotTriedAgainForEver: Pebble reads the properties of
// all tables after it has opened, and begins anew where it fails.
func TestATableThatCannotBeReadIsNotTriedAgainForEver(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	db, err := pebble.Open("db", &pebble.Options{FS: mem, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set([]byte("k"), nil, pebble.Sync), db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int64
	spun := make(chan struct{})
	f := pebblefail.New(errStore, nil)
	fs := f.FS(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileReadAt || !strings.HasSuffix(op.Path, ".sst") {
			return nil
		}
		if reads.Add(1) == 1000 {
			close(spun)
		}
		return errBroken
	})))
	db, err = f.Open("db", fs, quiet, &pebble.Options{})
	if err != nil {
		if !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		return // it failed before Pebble was open, and is closed
	}
	select {
	case <-f.Held():
	case <-spun:
		t.Error("it is read again and again")
	}
	if err := f.Close(db.Close); !errors.Is(err, errBroken) {
		t.Errorf("close: %v", err)
	}
}
