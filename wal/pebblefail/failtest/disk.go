// Package failtest checks that what stands on Pebble comes to an end on a disk that
// is full or broken, and says why.
package failtest

import (
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const (
	// patience is when a call that does not return has failed.
	patience = time.Minute
	// attempts is more operations that fail than a store makes that gives up, where
	// each goroutine of Pebble makes one.
	attempts = 100
	// writes is how often write is called.
	writes = 40
)

var (
	toFiles = []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileWriteAt}
	toNames = []errorfs.OpKind{errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpLink, errorfs.OpMkdirAll}
	toDisk  = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
)

var faults = []struct {
	name string
	err  error
	ops  []errorfs.OpKind
}{
	{"full", syscall.ENOSPC, toFiles},
	{"full, also for names", syscall.ENOSPC, slices.Concat(toFiles, toNames, toDisk)},
	{"out of inodes", syscall.ENOSPC, toNames},
	{"read-only", syscall.EROFS, slices.Concat(toFiles, toNames, toDisk)},
	{"broken", syscall.EIO, toDisk},
}

// disk fails from some operation on.
type disk struct {
	vfs.FS
	left   atomic.Int64 // operations that succeed
	failed atomic.Int64
	once   sync.Once
	spun   chan struct{} // closed when operations are tried again and again
	err    error
}

func newDisk(fs vfs.FS, after int, err error, ops []errorfs.OpKind) *disk {
	d := &disk{err: err, spun: make(chan struct{})}
	d.left.Store(int64(after))
	d.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !slices.Contains(ops, op.Kind) || d.left.Add(-1) >= 0 {
			return nil
		}
		if d.failed.Add(1) > attempts {
			d.once.Do(func() { close(d.spun) })
			select {} // it would fill the memory of the test
		}
		return err
	}))
	return d
}

// bounded runs do, which must return, and if with an error then with the disk's.
func (d *disk) bounded(t *testing.T, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil && !strings.Contains(err.Error(), d.err.Error()) { // Pebble says its last words in a string
			t.Fatalf("%s: %v, and not %v", what, err, d.err)
		}
		return err
	case <-d.spun:
		t.Fatalf("%s: it tries again and again", what)
	case <-time.After(patience):
		t.Fatalf("%s: it does not return", what)
	}
	return nil
}

// Disk fails the disk from each operation in turn, in each way that a disk fails, of
// what is opened for the first time, opened again after a kill, and written to: open
// or write must come back and say why. Once the disk is mended it must open, and
// held, if not nil, must find the first n writes, which were acknowledged. write is
// called with i counting from 0, and is to write so much that 20 calls fill a
// memtable. It leaves goroutines behind.
func Disk[S io.Closer](t *testing.T, open func(vfs.FS) (S, error), write func(s S, i int) error, held func(s S, n int) error) {
	t.Helper()
	empty := vfs.NewCrashableMem()
	used := kill(empty)
	s, err := open(used)
	for i := 0; i < writes && err == nil; i++ {
		err = write(s, i)
	}
	if err != nil {
		t.Fatal(err)
	}
	image := kill(used)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := run[S]{open, write, held}
	for _, f := range faults {
		first := r.sweep(t, f.name+", a first start", empty, 0, f.err, f.ops)
		again := r.sweep(t, f.name+", a start after a kill", image, writes, f.err, f.ops)
		t.Logf("disk %s: failed from %d operations of a first start, %d of a later one", f.name, first, again)
		if first < 5 || again < 5 {
			t.Error("these are too few")
		}
	}
}

type run[S io.Closer] struct {
	open  func(vfs.FS) (S, error)
	write func(s S, i int) error
	held  func(s S, n int) error
}

// sweep returns from how many operations on the disk was failed.
func (r *run[S]) sweep(t *testing.T, what string, image *vfs.MemFS, acked int, fault error, ops []errorfs.OpKind) (tried int) {
	t.Helper()
	for after := 0; ; after += 1 + after/10 {
		mem, n := kill(image), acked
		d := newDisk(mem, after, fault, ops)
		var s S
		err := d.bounded(t, what, func() (err error) { s, err = r.open(d); return err })
		if err == nil {
			for i := 0; i < writes && err == nil; i++ {
				if err = d.bounded(t, what+": write", func() error { return r.write(s, acked+i) }); err == nil {
					n++
				}
			}
			// Its error is that of a write, or of one that nobody waited for.
			_ = d.bounded(t, what+": close", s.Close)
		}
		s, openErr := r.open(kill(mem))
		if openErr == nil && r.held != nil {
			openErr = r.held(s, n)
		}
		if openErr == nil {
			openErr = s.Close()
		}
		if openErr != nil {
			t.Fatalf("%s, failed from operation %d with %v: mended: %v", what, after, err, openErr)
		}
		if d.left.Load() >= 0 {
			return tried
		}
		tried++
	}
}

// kill returns what a kill leaves.
func kill(mem *vfs.MemFS) *vfs.MemFS {
	return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}
