package pebblelog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskFS is the file system as Pebble sees it. It does two things.
//
// Once armed, an error of a write or a sync never reaches Pebble: it stops the log
// for good and the goroutine stands still. Pebble would retry some of them, which
// is wrong after a failed fsync, and dies of others with a lock in hand
// (rotateWAL), which would take the whole process down.
//
// Until released, it holds back the removal of files. Pebble, when it opens,
// removes the files that its manifest does not name; where the manifest or a WAL is
// damaged, those are what a repair needs.
type diskFS struct {
	vfs.FS
	fatal func(error) // does not return
	armed atomic.Bool

	mu       sync.Mutex // guards what follows
	released bool
	pending  []string
}

// Unwrap implements vfs.FS.
func (d *diskFS) Unwrap() vfs.FS { return d.FS }

func (d *diskFS) check(op, name string, err error) error {
	if err != nil && d.armed.Load() {
		d.fatal(fmt.Errorf("%s %s: %w", op, name, err))
	}
	return err
}

// Create implements vfs.FS.
func (d *diskFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.wrap("create", name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (d *diskFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return d.wrap("reuse", newname, f, err)
}

// OpenDir implements vfs.FS. Directories are opened to be synced.
func (d *diskFS) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.wrap("open", name, f, err)
}

func (d *diskFS) wrap(op, name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, d.check(op, name, err)
	}
	return &diskFile{File: f, d: d, name: name}, nil
}

// Link implements vfs.FS.
func (d *diskFS) Link(oldname, newname string) error {
	return d.check("link", newname, d.FS.Link(oldname, newname))
}

// Rename implements vfs.FS.
func (d *diskFS) Rename(oldname, newname string) error {
	return d.check("rename", newname, d.FS.Rename(oldname, newname))
}

// Remove implements vfs.FS.
func (d *diskFS) Remove(name string) error {
	d.mu.Lock()
	if !d.released {
		d.pending = append(d.pending, name)
		d.mu.Unlock()
		return nil
	}
	d.mu.Unlock()
	return d.FS.Remove(name)
}

// release removes what was held back, and everything from now on at once.
func (d *diskFS) release() error {
	d.mu.Lock()
	pending := d.pending
	d.pending, d.released = nil, true
	d.mu.Unlock()
	var errs []error
	for _, name := range pending {
		if err := d.FS.Remove(name); err != nil && !oserror.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// diskFile is a file that Pebble writes.
type diskFile struct {
	vfs.File
	d    *diskFS
	name string
}

func (f *diskFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.d.check("write", f.name, err)
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.d.check("write", f.name, err)
}

func (f *diskFile) Sync() error { return f.d.check("sync", f.name, f.File.Sync()) }

func (f *diskFile) SyncData() error { return f.d.check("sync", f.name, f.File.SyncData()) }

func (f *diskFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.d.check("sync", f.name, err)
}

func (f *diskFile) Close() error { return f.d.check("close", f.name, f.File.Close()) }
