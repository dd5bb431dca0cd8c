package pebblefail_test

import (
	"errors"
	"log/slog"
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
