package pebblekv

import (
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// failFS ends the store at the first failed write. Pebble panics on some of
// them, with a lock in a state that ends the process before anything can be
// said, and tries others again, where the data of a failed sync is gone from the
// page cache. So Pebble never hears of a failure: the goroutine that met it stays
// where it is, and every call of the store returns the reason.
//
// Until Open is through, errors are Pebble's to return.
type failFS struct {
	vfs.FS
	f     *failure
	armed atomic.Bool
}

// Unwrap implements vfs.FS.
func (g *failFS) Unwrap() vfs.FS { return g.FS }

func (g *failFS) check(what, name string, err error) error {
	if err != nil && g.armed.Load() {
		g.f.stopHere(fmt.Errorf("%s %s: %w", what, name, err))
	}
	return err
}

func (g *failFS) file(what, name string, f vfs.File, err error) (vfs.File, error) {
	if err = g.check(what, name, err); err != nil {
		return nil, err
	}
	return &failFile{File: f, fs: g, name: name}, nil
}

// Create implements vfs.FS.
func (g *failFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	return g.file("create", name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (g *failFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.file("reuse", newname, f, err)
}

// OpenReadWrite implements vfs.FS.
func (g *failFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.file("open", name, f, err)
}

// OpenDir implements vfs.FS.
func (g *failFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.file("open", name, f, err)
}

// Rename implements vfs.FS.
func (g *failFS) Rename(oldname, newname string) error {
	return g.check("rename", newname, g.FS.Rename(oldname, newname))
}

// failFile is a file that is written.
type failFile struct {
	vfs.File
	fs   *failFS
	name string
}

func (f *failFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.check("write", f.name, err)
}

func (f *failFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fs.check("write", f.name, err)
}

func (f *failFile) Sync() error { return f.fs.check("sync", f.name, f.File.Sync()) }

func (f *failFile) SyncData() error { return f.fs.check("sync", f.name, f.File.SyncData()) }

func (f *failFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.fs.check("sync", f.name, err)
}

func (f *failFile) Close() error { return f.fs.check("close", f.name, f.File.Close()) }
