package pebblefail

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// Open opens the Pebble in dir on fs, which is of f, with o, whose file system,
// logger and events it sets. A failed write of Pebble's own that ends the store
// while it opens is the error, even where Pebble would not return. So is damage of
// the manifest, which wraps wal.ErrCorrupt: see CheckManifest.
func (f *Failure) Open(dir string, fs *FS, log *slog.Logger, o *pebble.Options) (*pebble.DB, error) {
	o.FS, o.Logger, o.EventListener = fs, f.Logger(log), f.Events()
	var db *pebble.DB // not to be touched when Pebble is stuck
	err := f.WhileNotStuck(func() (err error) {
		if err = CheckManifest(fs, dir); err == nil {
			db, err = pebble.Open(dir, o)
		}
		return Corrupt(err)
	})
	if err == nil {
		return db, nil
	}
	if !f.Stuck() && db != nil { // it has failed in the background
		err = f.WhileNotStuck(db.Close)
	}
	return nil, err
}
