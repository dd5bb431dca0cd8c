package pebblefail

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// Open opens the Pebble in dir on fs, which is of f, with o, whose file system,
// logger and events it sets. A write that fails while it opens is the error, also
// where Pebble would not return. So is damage of the manifest, which wraps
// wal.ErrCorrupt: see CheckManifest. From then on a failed write ends the store:
// whatever writes is to be run in Guard.
func (f *Failure) Open(dir string, fs *FS, log *slog.Logger, o *pebble.Options) (*pebble.DB, error) {
	o.FS, o.Logger, o.EventListener = fs, f.Logger(log), f.Events()
	var db *pebble.DB // not to be touched when Pebble is stuck
	err := f.whileNotStuck(func() (err error) {
		if err = CheckManifest(fs, dir); err == nil {
			db, err = pebble.Open(dir, o)
		}
		if err == nil {
			f.open.Store(true)
		}
		return Corrupt(err)
	})
	if err == nil {
		return db, nil
	}
	if !f.Stuck() && db != nil { // it has failed in the background
		err = f.Close(db.Close)
	}
	return nil, err
}
