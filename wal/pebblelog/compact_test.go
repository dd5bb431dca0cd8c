package pebblelog

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblecompact/compacttest"
)

func TestOpenDoesNotWaitForCompactions(t *testing.T) {
	t.Parallel()
	compacttest.Open(t, func(fs vfs.FS) (*Broker, error) { return Open(small(fs)) }, func(b *Broker, i int) error {
		if i == 0 {
			mustCreate(t, b, "a", 2)
		}
		l, err := b.Open(t.Context(), "a")
		if err != nil {
			return err
		}
		// Both partitions in turn, so that files overlap.
		return l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: wal.Partition(i % 2), Data: bytes.Repeat([]byte{byte(i)}, 8<<10)}})[0].Err
	})
}
