package pebblefail

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system that ends the store at the first failed write, once it is
// armed. Until then errors are Pebble's to return.
type FS struct {
	vfs.FS
	f     *Failure
	armed atomic.Bool
}

// FS wraps the file system that the store is opened on; nil is the operating
// system's.
func (f *Failure) FS(fs vfs.FS) *FS {
	if fs == nil {
		fs = vfs.Default
	}
	return &FS{FS: fs, f: f}
}

// Arm says that the store is open.
func (g *FS) Arm() { g.armed.Store(true) }

// Unwrap implements vfs.FS.
func (g *FS) Unwrap() vfs.FS { return g.FS }

func (g *FS) check(what, name string, err error) error {
	if err != nil && g.armed.Load() {
		if _, named := errors.AsType[*os.PathError](err); !named {
			err = fmt.Errorf("%s %s: %w", what, name, err)
		}
		g.f.stopHere(err)
	}
	return err
}

func (g *FS) wrap(what, name string, f vfs.File, err error) (vfs.File, error) {
	if err = g.check(what, name, err); err != nil {
		return nil, err
	}
	return &file{File: f, fs: g, name: name}, nil
}

// Create implements vfs.FS.
func (g *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	return g.wrap("create", name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (g *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.wrap("reuse", newname, f, err)
}

// OpenReadWrite implements vfs.FS.
func (g *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
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
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.check("write", f.name, err)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fs.check("write", f.name, err)
}

func (f *file) Sync() error { return f.fs.check("sync", f.name, f.File.Sync()) }

func (f *file) SyncData() error { return f.fs.check("sync", f.name, f.File.SyncData()) }

func (f *file) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.fs.check("sync", f.name, err)
}

func (f *file) Close() error { return f.fs.check("close", f.name, f.File.Close()) }
