package pebblefail_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

var errStore = errors.New("a store has failed")

func TestTheFirstFailureHoldsAndIsToldOnce(t *testing.T) {
	t.Parallel()
	told := make(chan error, 2)
	f := pebblefail.New(errStore, func(err error) { told <- err })
	if err := f.Guard(func() error { return nil }); err != nil || f.Err() != nil {
		t.Fatal(err, f.Err())
	}
	first := errors.New("first")
	f.Fail(first)
	f.Fail(errors.New("second"))
	if err := <-told; !errors.Is(err, first) {
		t.Errorf("told %v", err)
	}
	if !errors.Is(f.Err(), first) {
		t.Errorf("failed by %v", f.Err())
	}
	if err := f.Guard(func() error { t.Error("work after a failure"); return nil }); !errors.Is(err, first) {
		t.Errorf("guard: %v", err)
	}
	ran := false
	if err := f.Close(func() error { ran = true; return nil }); !errors.Is(err, first) || !ran {
		t.Errorf("close of a store that is not stuck: %v, done: %v", err, ran)
	}
	select {
	case err := <-told:
		t.Errorf("told again: %v", err)
	default:
	}
}

// TestDamageOfAManifestIsFound flips each byte of a manifest but those of its last
// record, which may as well be torn.
func TestDamageOfAManifestIsFound(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	if err := pebblefail.CheckManifest(mem, "none"); err != nil {
		t.Fatalf("no directory: %v", err)
	}
	db, err := pebble.Open("db", &pebble.Options{FS: mem, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	size := func() int {
		data, err := mem.UnsafeGetFileDataBuffer("db/MANIFEST-000001")
		if err != nil {
			t.Fatal(err)
		}
		return len(data)
	}
	before := 0
	for i := range 20 {
		before = size()
		if err := errors.Join(db.Set(fmt.Append(nil, i), nil, pebble.Sync), db.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := mem.UnsafeGetFileDataBuffer("db/MANIFEST-000001")
	if err != nil {
		t.Fatal(err)
	}
	if err := pebblefail.CheckManifest(mem, "db"); err != nil {
		t.Fatalf("as it was written: %v", err)
	}
	for i := range before {
		data[i] ^= 0x10
		if err := pebblefail.CheckManifest(mem, "db"); !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("byte %d of %d: %v", i, len(data), err)
		}
		data[i] ^= 0x10
	}
}

// TestDamageOfAManifestAfterARestartIsFound: the write-ahead log was replayed into
// a table and deleted, and the last of two records of a new manifest says so.
func TestDamageOfAManifestAfterARestartIsFound(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	manifest := ""
	for i := range 2 {
		db, err := pebble.Open("db", &pebble.Options{FS: mem, Logger: silent{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set(fmt.Append(nil, i), nil, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		if err := pebblefail.CheckManifest(mem, "db"); err != nil {
			t.Fatalf("as it was written by run %d: %v", i, err)
		}
		desc, err := pebble.Peek("db", mem)
		if err != nil {
			t.Fatal(err)
		}
		manifest = desc.ManifestFilename
	}
	data, err := mem.UnsafeGetFileDataBuffer(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] ^= 0x10
		if err := pebblefail.CheckManifest(mem, "db"); !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("byte %d of %d: %v", i, len(data), err)
		}
		data[i] ^= 0x10
	}
}
