package pebblekv

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal/pebblecompact/compacttest"
)

func TestOpenDoesNotWaitForCompactions(t *testing.T) {
	t.Parallel()
	compacttest.Open(t, func(fs vfs.FS) (*Store, error) { return Open(small(fs, partitions)) }, commitOne)
}
