package pebblefail

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// firstManifest is written when a store is made, and never again.
const firstManifest = "MANIFEST-000001"

var manifestMark = regexp.MustCompile(`^marker\.manifest\.([0-9]+)\.(MANIFEST-[0-9]{6,})$`)

// CheckManifest looks for damage in the manifest that a store in dir will be
// opened with. Pebble reads it up to the first chunk that is not valid, which is
// right for a torn write and wrong for damage: tables that later edits added are
// then taken for leftovers and deleted, and the store opens without their rows.
// Each record is synced before the next is written, so a valid one behind an
// invalid chunk is proof. So is the lack of one of the first two: a manifest is in
// use only once its first record, and but for that of a new store its second, is
// synced. Of any later record damage cannot be told from a torn write, if it is
// the last. The error wraps wal.ErrCorrupt. It is to be called before Pebble
// opens; a directory without a store is right.
func CheckManifest(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check manifest: %w", err)
	}
	manifest, newest := "", uint64(0)
	for _, name := range names {
		if m := manifestMark.FindStringSubmatch(name); m != nil {
			if n, err := strconv.ParseUint(m[1], 10, 64); err == nil && (manifest == "" || n > newest) {
				manifest, newest = m[2], n
			}
		}
	}
	if manifest == "" {
		return nil
	}
	data, err := readAll(fs, fs.PathJoin(dir, manifest))
	if err != nil {
		return fmt.Errorf("check manifest: %w", err)
	}
	least := 2 // a copy of the version before, and what changed
	if manifest == firstManifest {
		least = 1
	}
	if at, bad := manifestDamaged(data, least); bad {
		return fmt.Errorf("%w: %s is damaged at byte %d", wal.ErrCorrupt, manifest, at)
	}
	return nil
}

func readAll(fs vfs.FS, name string) (data []byte, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(f)
}

// manifestDamaged returns where a reader would stop although a record follows, or
// has read fewer than least.
func manifestDamaged(data []byte, least int) (stop int, bad bool) {
	at, records := 0, 0
	for at < len(data) {
		if c, ok := ParseChunk(data, at); ok && !c.WAL {
			if c.Last {
				records++
			}
			at = c.End
			continue
		}
		rest := ChunkBlock - at%ChunkBlock
		if rest >= ChunkHeader || at+rest > len(data) {
			break
		}
		at += rest // too little for a header: padding
	}
	if records < least {
		return at, true
	}
	for i := at + 1; i < len(data); i++ {
		if c, ok := ParseChunk(data, i); ok && !c.WAL && c.First {
			return at, true
		}
	}
	return 0, false
}
