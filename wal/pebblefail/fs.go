package pebblefail

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system that ends the store at the first failed write, once Pebble is
// open. Until then errors are Pebble's to return, but for those of a sync, which
// ends the store at any time: of some Pebble dies, and none may be tried again,
// since the data is gone from the page cache. A store that has failed, for whatever
// reason, begins no new file.
type FS struct {
	vfs.FS
	f *Failure
}

// FS wraps the file system that the store is opened on; nil is the operating
// system's.
func (f *Failure) FS(fs vfs.FS) *FS {
	if fs == nil {
		fs = vfs.Default
	}
	return &FS{FS: fs, f: f}
}

// Unwrap implements vfs.FS.
func (g *FS) Unwrap() vfs.FS { return g.FS }

func (g *FS) check(what, name string, err error) error {
	if err != nil && g.f.open.Load() {
		g.f.stopHere(named(what, name, err))
	}
	return err
}

func (g *FS) checkSync(name string, err error) error {
	if err != nil {
		g.f.stopHere(named("sync", name, err))
	}
	return nil
}

// named says what failed, unless err does.
func named(what, name string, err error) error {
	if _, is := errors.AsType[*os.PathError](err); is {
		return err
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}

// begin does not return in a store that has failed. Pebble tries a failed flush
// again at once, for ever, and would take a file for each attempt.
func (g *FS) begin() {
	if err := g.f.Err(); err != nil {
		g.f.stopHere(err)
	}
}

func (g *FS) wrap(what, name string, f vfs.File, err error) (vfs.File, error) {
	if err = g.check(what, name, err); err != nil {
		return nil, err
	}
	return &file{File: f, fs: g, name: name}, nil
}

// Create implements vfs.FS.
func (g *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.begin()
	f, err := g.FS.Create(name, c)
	return g.wrap("create", name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (g *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.begin()
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.wrap("reuse", newname, f, err)
}

// OpenReadWrite implements vfs.FS.
func (g *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	g.begin()
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.wrap("open", name, f, err)
}

// OpenDir implements vfs.FS. Directories are opened to be synced.
func (g *FS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.wrap("open", name, f, err)
}

// Link implements vfs.FS.
func (g *FS) Link(oldname, newname string) error {
	return g.check("link", newname, g.FS.Link(oldname, newname))
}

// MkdirAll implements vfs.FS.
func (g *FS) MkdirAll(dir string, perm os.FileMode) error {
	return g.check("make directory", dir, g.FS.MkdirAll(dir, perm))
}

// Rename implements vfs.FS.
func (g *FS) Rename(oldname, newname string) error {
	return g.check("rename", newname, g.FS.Rename(oldname, newname))
}

// file is one that is written.
type file struct {
	vfs.File
	fs   *FS
	name string

	// Of the writer's: how much it has written, and up to where there is room for
	// more, of what Pebble asked for.
	written, room, asked int64
}

// How much room a file is given beyond what is written: as much as it holds already,
// within these bounds.
const (
	leastRoom = 256 << 10
	mostRoom  = 32 << 20
)

// Preallocate notes what Pebble asks for. It asks for more than a memtable for each
// write-ahead log, at its first byte, and most of that of a namespace that is hardly
// written would never be used; so the file is given room as it grows.
func (f *file) Preallocate(offset, length int64) error {
	f.asked = max(f.asked, offset+length)
	return nil
}

// grow makes room for n bytes, and for some that follow.
func (f *file) grow(n int) {
	end := f.written + int64(n)
	if end <= f.room || f.room >= f.asked {
		return
	}
	to := min(end+min(max(f.written, leastRoom), mostRoom), f.asked)
	if to <= f.room {
		return
	}
	// Without it writes are a little slower. A disk that is full says so by the write.
	_ = f.File.Preallocate(f.room, to-f.room)
	f.room = to
}

func (f *file) Write(p []byte) (int, error) {
	f.grow(len(p))
	n, err := f.File.Write(p)
	f.written += int64(n)
	return n, f.fs.check("write", f.name, err)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fs.check("write", f.name, err)
}

func (f *file) Sync() error { return f.fs.checkSync(f.name, f.File.Sync()) }

func (f *file) SyncData() error { return f.fs.checkSync(f.name, f.File.SyncData()) }

func (f *file) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.fs.checkSync(f.name, err)
}

func (f *file) Close() error { return f.fs.check("close", f.name, f.File.Close()) }
