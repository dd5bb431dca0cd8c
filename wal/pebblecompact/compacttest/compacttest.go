// Package compacttest checks that what stands on Pebble opens without waiting for
// the compactions that a killed process left undone.
package compacttest

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patience is when an Open that does not return has failed.
const patience = time.Minute

// Open fails t if open, on what a kill left, does not return before a compaction
// that is due has ended, or lets none begin afterwards. open makes and opens the
// same thing in any file system; write is called until a compaction is due, i
// counting from 0.
func Open[S io.Closer](t *testing.T, open func(vfs.FS) (S, error), write func(s S, i int) error) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	first := hold(mem)
	s, err := open(first)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; !first.isDue(); i++ {
		if err = write(s, i); err != nil {
			break
		}
	}
	killed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	close(first.end)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	second := hold(killed)
	opened := make(chan error, 1)
	go func() {
		var err error
		s, err = open(second)
		opened <- err
	}()
	select {
	case err = <-opened:
	case <-time.After(patience):
		t.Error("open waits for a compaction")
		close(second.end)
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.due:
	case <-time.After(patience):
		t.Error("no compaction began after open")
	}
	close(second.end)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// holdFS lets no compaction write its first file before end is closed.
type holdFS struct {
	vfs.FS
	once sync.Once
	due  chan struct{} // closed when a compaction wants to write
	end  chan struct{}
}

func hold(fs vfs.FS) *holdFS {
	return &holdFS{FS: fs, due: make(chan struct{}), end: make(chan struct{})}
}

func (h *holdFS) isDue() bool {
	select {
	case <-h.due:
		return true
	default:
		return false
	}
}

// Create implements vfs.FS.
func (h *holdFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if c == "pebble-compaction" {
		h.once.Do(func() { close(h.due) })
		<-h.end
	}
	return h.FS.Create(name, c)
}

// Unwrap implements vfs.FS.
func (h *holdFS) Unwrap() vfs.FS { return h.FS }
