package pebblefail_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// TestPowerLossIsNoDamage loses power before each operation on the file system,
// with any part of what was not synced, while a store is made, opened again, and
// begins new manifests: none of it may be called damage.
func TestPowerLossIsNoDamage(t *testing.T) {
	t.Parallel()
	mem := failtest.NewMemory()
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	var mu sync.Mutex
	crashes := 0
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		crashes++
		lost := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		// Where the marker of a manifest outlived its file, Pebble refuses too.
		if err := pebblefail.CheckManifest(lost, "db"); errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("power lost before %v of %s: %v", op.Kind, op.Path, err)
		}
		return nil
	}))
	for run := range 3 {
		db, err := pebble.Open("db", &pebble.Options{FS: fs, MaxManifestFileSize: 200, Logger: silent{}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if err := errors.Join(db.Set(fmt.Append(nil, run, i), nil, pebble.Sync), db.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(db.Set(fmt.Append(nil, run), nil, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if desc, err := pebble.Peek("db", mem); err != nil || desc.ManifestFilename == "" || crashes < 300 {
		t.Errorf("%d crashes, %+v, %v", crashes, desc, err)
	} else {
		t.Log(crashes, "crashes,", desc.ManifestFilename)
	}
}

// FuzzCheckManifest: whatever the bytes are, the answer is damage or none.
func FuzzCheckManifest(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add(make([]byte, 40<<10))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := vfs.NewMem()
		for name, data := range map[string][]byte{"MANIFEST-000007": b, "marker.manifest.000002.MANIFEST-000007": nil} {
			w, err := mem.Create(name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil || w.Close() != nil {
				t.Fatal(err)
			}
		}
		if err := pebblefail.CheckManifest(mem, ""); err != nil && !errors.Is(err, wal.ErrCorrupt) {
			t.Error(err)
		}
	})
}

// silent says nothing of what Pebble says.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
