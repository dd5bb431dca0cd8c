package pebblefail_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/wal/pebblefail"
)

// fsWrites are the methods of a file system whose error ends the store. The other
// ones read, or lose nothing when they fail: what was not removed is still there.
var fsWrites = map[string]func(vfs.FS) error{
	"Create":        func(fs vfs.FS) error { _, err := fs.Create("new", vfs.WriteCategoryUnspecified); return err },
	"Link":          func(fs vfs.FS) error { return fs.Link("old", "new") },
	"MkdirAll":      func(fs vfs.FS) error { return fs.MkdirAll("new", 0o700) },
	"OpenDir":       func(fs vfs.FS) error { _, err := fs.OpenDir(""); return err },
	"OpenReadWrite": func(fs vfs.FS) error { _, err := fs.OpenReadWrite("old", vfs.WriteCategoryUnspecified); return err },
	"Rename":        func(fs vfs.FS) error { return fs.Rename("old", "new") },
	"ReuseForWrite": func(fs vfs.FS) error {
		_, err := fs.ReuseForWrite("old", "new", vfs.WriteCategoryUnspecified)
		return err
	},
}

var fsOthers = []string{
	"GetDiskUsage", "List", "Lock", "Open", "PathBase", "PathDir", "PathJoin", "Remove", "RemoveAll", "Stat", "Unwrap",
}

// fileWrites are those of a file.
var fileWrites = map[string]func(vfs.File) error{
	"Close":    func(f vfs.File) error { return f.Close() },
	"Sync":     func(f vfs.File) error { return f.Sync() },
	"SyncData": func(f vfs.File) error { return f.SyncData() },
	"SyncTo":   func(f vfs.File) error { _, err := f.SyncTo(1); return err },
	"Write":    func(f vfs.File) error { _, err := f.Write([]byte("x")); return err },
	"WriteAt":  func(f vfs.File) error { _, err := f.WriteAt([]byte("x"), 0); return err },
}

var fileOthers = []string{"Fd", "Preallocate", "Prefetch", "Read", "ReadAt", "Stat"}

var errBroken = errors.New("injected")

// brokenFS fails all that writes while broken is true.
type brokenFS struct {
	vfs.FS
	broken atomic.Bool
}

type brokenFile struct {
	vfs.File
	fs *brokenFS
}

// newBroken has one file, "old".
func newBroken(t *testing.T) *brokenFS {
	t.Helper()
	mem := vfs.NewMem()
	if f, err := mem.Create("old", vfs.WriteCategoryUnspecified); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	b := &brokenFS{}
	b.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error { return b.err() }))
	return b
}

func (b *brokenFS) err() error {
	if b.broken.Load() {
		return errBroken
	}
	return nil
}

func (b *brokenFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := b.FS.OpenReadWrite(name, c, opts...)
	return &brokenFile{f, b}, err
}

func (f *brokenFile) Close() error { return f.fs.err() } // which errorfs never fails

// TestAFailedWriteNeverReturns: who made it is told by the Failure instead. It
// leaves goroutines behind.
func TestAFailedWriteNeverReturns(t *testing.T) {
	t.Parallel()
	for name, write := range fsWrites {
		disk := newBroken(t)
		disk.broken.Store(true)
		f := pebblefail.New(errStore, nil)
		fs := f.FS(disk)
		if err := write(fs); !errors.Is(err, errBroken) {
			t.Fatalf("%s before the store is open: %v", name, err)
		}
		fs.Arm()
		neverReturns(t, f, name, func() error { return write(fs) })
	}
	for name, write := range fileWrites {
		disk := newBroken(t)
		f := pebblefail.New(errStore, nil)
		fs := f.FS(disk)
		file, err := fs.OpenReadWrite("old", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		fs.Arm()
		disk.broken.Store(true)
		neverReturns(t, f, name, func() error { return write(file) })
	}
}

func neverReturns(t *testing.T, f *pebblefail.Failure, name string, write func() error) {
	t.Helper()
	for range 2 {
		if err := f.Guard(func() error {
			err := write()
			t.Errorf("%s returned %v", name, err)
			return err
		}); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Close(func() error { t.Error("work in a store that is stuck"); return nil }); !errors.Is(err, errBroken) {
		t.Errorf("%s: close: %v", name, err)
	}
}

// TestEveryMethodIsWatchedOrKnownNotToWrite fails when Pebble comes with a method
// that this package does not know.
func TestEveryMethodIsWatchedOrKnownNotToWrite(t *testing.T) {
	t.Parallel()
	check := func(typ reflect.Type, known []string) {
		t.Helper()
		var methods []string
		for i := range typ.NumMethod() {
			methods = append(methods, typ.Method(i).Name)
		}
		slices.Sort(known)
		if !slices.Equal(methods, known) {
			t.Errorf("%v has the methods %q; this test knows %q", typ, methods, known)
		}
	}
	check(reflect.TypeFor[vfs.FS](), slices.AppendSeq(slices.Clone(fsOthers), maps.Keys(fsWrites)))
	check(reflect.TypeFor[vfs.File](), slices.AppendSeq(slices.Clone(fileOthers), maps.Keys(fileWrites)))
}

// roomFile notes what is preallocated.
type roomFile struct {
	vfs.File
	to    int64
	calls int
}

func (f *roomFile) Preallocate(offset, length int64) error {
	if offset != f.to {
		return fmt.Errorf("room from %d behind room up to %d", offset, f.to)
	}
	f.to = offset + length
	f.calls++
	return nil
}

type roomFS struct {
	vfs.FS
	made *roomFile
}

func (r *roomFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := r.FS.Create(name, c)
	r.made = &roomFile{File: f}
	return r.made, err
}

// TestAFileIsGivenRoomAsItGrows: never much more than is written, never more than
// was asked for, and not by a call for each write.
func TestAFileIsGivenRoomAsItGrows(t *testing.T) {
	t.Parallel()
	const asked = 70 << 20
	disk := &roomFS{FS: vfs.NewMem()}
	f, err := pebblefail.New(errStore, nil).FS(disk).Create("log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 32<<10)
	written := int64(0)
	write := func() {
		t.Helper()
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
		written += int64(len(block))
	}
	write()
	if disk.made.calls != 0 {
		t.Error("room that nobody asked for")
	}
	if err := f.Preallocate(0, asked); err != nil {
		t.Fatal(err)
	}
	for written < asked+10<<20 {
		write()
		if room := disk.made.to; room > asked || room < min(written, asked) || room > 2*written+512<<10 || room > written+33<<20 {
			t.Fatalf("room of %d bytes for %d", room, written)
		}
	}
	if disk.made.calls > 15 {
		t.Errorf("%d calls", disk.made.calls)
	}
}
