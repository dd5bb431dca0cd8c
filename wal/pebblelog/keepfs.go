package pebblelog

import (
	"errors"
	"sync"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// keepFS holds back the removal of files until it is released. Pebble, when it
// opens, removes the files that its manifest does not name; where the manifest or a
// WAL is damaged, those are what a repair needs.
type keepFS struct {
	vfs.FS

	mu       sync.Mutex // guards what follows
	released bool
	pending  []string
}

// Unwrap implements vfs.FS.
func (k *keepFS) Unwrap() vfs.FS { return k.FS }

// Remove implements vfs.FS.
func (k *keepFS) Remove(name string) error {
	k.mu.Lock()
	if !k.released {
		k.pending = append(k.pending, name)
		k.mu.Unlock()
		return nil
	}
	k.mu.Unlock()
	return k.FS.Remove(name)
}

// release removes what was held back, and everything from now on at once.
func (k *keepFS) release() error {
	k.mu.Lock()
	pending := k.pending
	k.pending, k.released = nil, true
	k.mu.Unlock()
	var errs []error
	for _, name := range pending {
		if err := k.FS.Remove(name); err != nil && !oserror.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
