package pebblelog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

func TestAFailedDiskIsSaidAndNotTriedAgain(t *testing.T) {
	if !inChild(t) {
		return
	}
	const topic = "headwater.test.full.2"
	data := func(i int) string { return fmt.Sprint(i, strings.Repeat("f", 4000)) }
	failtest.Disk(t, func(fs vfs.FS) (*Broker, error) {
		cfg := small(fs)
		cfg.MemTableBytes = 64 << 10
		return Open(cfg)
	}, func(b *Broker, i int) error {
		l, err := b.Create(t.Context(), wal.TopicSpec{Name: topic, Partitions: 1})
		if err != nil {
			return err
		}
		_, err = appendOne(t.Context(), l, 0, data(i))
		return err
	}, func(b *Broker, n int) error {
		l, err := b.Create(t.Context(), wal.TopicSpec{Name: topic, Partitions: 1})
		if err != nil {
			return err
		}
		got, err := readAll(t.Context(), l, 0)
		if err == nil && len(got) < n {
			err = fmt.Errorf("%d records, %d were acknowledged", len(got), n)
		}
		for i := range n {
			if err == nil && got[i] != data(i) {
				err = fmt.Errorf("record %d is %.20q", i, got[i])
			}
		}
		return err
	})
}
