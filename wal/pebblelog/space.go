package pebblelog

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// space is what is known of the disk.
type space struct {
	full  atomic.Bool
	free  atomic.Int64 // bytes; -1 when the file system can't tell
	used  atomic.Int64 // bytes, by the log
	since atomic.Int64 // bytes appended since the last look
}

func (s *space) err() error {
	return fmt.Errorf("%w: %d bytes free", wal.ErrDiskFull, s.free.Load())
}

// checkSpaceAfter looks at the disk when enough was appended since the last look.
func (b *Broker) checkSpaceAfter(appended int64) {
	if b.space.since.Add(appended) >= spaceCheckBytes {
		b.checkSpace()
	}
}

// checkSpace looks at the disk and shuts or opens the door for appends. What is in
// the queue already is still written: the floor leaves room for it.
func (b *Broker) checkSpace() {
	b.space.since.Store(0)
	free, err := b.cfg.FreeSpace()
	if err != nil {
		// A file system that can't tell has no floor; the write error, should it
		// come, stops the log.
		if b.space.free.Swap(-1) != -1 {
			b.log.Warn("free space of the log's disk is unknown; its floor is off", "error", err)
		}
		b.metrics.free.Set(math.NaN()) // 0 would be a full disk
		b.space.full.Store(false)
		return
	}
	b.space.free.Store(free)
	b.metrics.free.Set(float64(free))
	full := b.cfg.FreeSpaceFloor > 0 && free < b.cfg.FreeSpaceFloor
	if b.space.full.Swap(full) != full {
		if full {
			b.log.Warn("disk is at its free-space floor; appends are refused", "free", free, "floor", b.cfg.FreeSpaceFloor)
		} else {
			b.log.Info("disk has space again; appends are taken", "free", free, "floor", b.cfg.FreeSpaceFloor)
		}
	}
}
