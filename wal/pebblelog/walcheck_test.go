package pebblelog

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// TestDamageOfTheManifestIsRefused flips a bit of each byte of the manifest of a
// closed log with several tables, but for those of the last record. Pebble would
// stop reading there and remove the tables that it does not know of then. The log
// must not open, with all its files kept.
func TestDamageOfTheManifestIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	b := mustOpen(t, small(fs))
	l := mustCreate(t, b, damageTopic, 1)
	for i := range 6 {
		mustAppend(t, l, 0, fmt.Sprintf("record %d", i))
		if err := b.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	closeBroker(t, b)
	desc, err := pebble.Peek("log", fs)
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.TrimPrefix(desc.ManifestFilename, "log/")
	last := lastRecord(t, fs, desc.ManifestFilename)
	files, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	if last < 100 {
		t.Fatalf("%s has no records to damage: the last is at %d", manifest, last)
	}
	for at := range last {
		disk := vfs.NewMem()
		if ok, err := vfs.Clone(fs, disk, "log", "log"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		data, err := disk.UnsafeGetFileDataBuffer(desc.ManifestFilename)
		if err != nil {
			t.Fatal(err)
		}
		data[at] ^= 1 << rand.IntN(8)
		b, err = Open(small(disk))
		if err == nil {
			t.Fatalf("byte %d of %d: the log opens; closed with %v", at, last, b.Close())
		}
		if !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), manifest) {
			t.Errorf("byte %d of %d: %v", at, last, err)
		}
		for _, name := range files {
			if _, err := disk.Stat("log/" + name); err != nil {
				t.Errorf("byte %d of %d: %v", at, last, err)
			}
		}
	}
}

// lastRecord returns where the last record of a manifest begins, at the most.
func lastRecord(t *testing.T, fs vfs.FS, name string) (last int) {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := record.NewReader(f, 0); ; {
		at := r.Offset()
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		}
		if err != nil {
			t.Fatal(err)
		}
		last = int(at)
	}
}

// TestDamageIsFoundAcrossReads: a WAL is read in parts, and damage in the first is
// proved by what stands in a later one.
func TestDamageIsFoundAcrossReads(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	f, err := fs.Create("000007.log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	w := record.NewLogWriter(f, 7, record.LogWriterConfig{WriteWALSyncOffsets: func() bool { return true }})
	size := int64(0)
	for range 3 * checkBytes / 10_000 {
		if size, err = w.WriteRecord(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := fs.UnsafeGetFileDataBuffer("000007.log")
	if err != nil || int64(len(data)) < size {
		t.Fatal(len(data), size, err)
	}
	if err := checkWALs(fs, ""); err != nil {
		t.Errorf("a file without damage: %v", err)
	}
	for _, at := range []int{100, checkBytes - 1, checkBytes, checkBytes + 1, checkBytes + 50_000} {
		data[at] ^= 1
		if err := checkWALs(fs, ""); !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("byte %d: %v", at, err)
		}
		data[at] ^= 1
	}
	// What stands behind the end of a file that is used again is of another number.
	clear(data[checkBytes+50_000:])
	copy(data[checkBytes+60_000:], data[:checkBytes])
	older := data[checkBytes+60_000:]
	for i := range len(older) - 4 {
		if older[i] == 7 && older[i+1] == 0 && older[i+2] == 0 && older[i+3] == 0 {
			older[i] = 5
		}
	}
	if err := checkWALs(fs, ""); err != nil {
		t.Errorf("a torn end before older data: %v", err)
	}
}
