package pebblelog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says where the log lives and how much it may hold in memory. Zero
// values are the defaults.
type Config struct {
	// Dir is the log's own directory; nothing else may live in it. Required.
	Dir string
	// FS is the file system. Default: the operating system's.
	FS vfs.FS

	// FreeSpaceFloor is how many bytes must stay free on the disk; below it
	// appends are refused with wal.ErrDiskFull. Default 256 MiB; -1 is off.
	FreeSpaceFloor int64
	// FreeSpace returns the bytes free for this process on the log's disk.
	// Default: what FS reports for Dir; a file system that can't tell turns the
	// floor off.
	FreeSpace func() (int64, error)

	// QueueBytes and QueueEntries bound what waits for the disk, over all topics.
	// A caller that finds the queue full waits until its context is done, or is
	// refused if its append is buffered. Default: 64 MiB and 262,144 entries.
	QueueBytes   int64
	QueueEntries int64
	// BufferedLoss is how long the oldest buffered append may wait for the disk
	// before others are refused: what a crash can lose. A group of appends is
	// written as soon as the one before it is, so the wait is that of the disk.
	// Default 1 s.
	BufferedLoss time.Duration

	// MemTableBytes is Pebble's memtable. A restart after a crash replays at most
	// about this much. Default 64 MiB.
	MemTableBytes int64
	// CacheBytes is Pebble's block cache. Default 32 MiB.
	CacheBytes int64

	// Now is the clock at start-up; after it log time runs on time.Since, which
	// no one sets. Default time.Now. For tests.
	Now func() time.Time
	// OnFail is called once, from a goroutine of its own, when the log stops for
	// good. May be nil.
	OnFail func(error)

	Logger     *slog.Logger          // default: slog.Default()
	Registerer prometheus.Registerer // nil: metrics are kept, not registered
}

const (
	defaultFloor        = 256 << 20
	defaultQueueBytes   = 64 << 20
	defaultQueueEntries = 1 << 18
	defaultMemTable     = 64 << 20
	defaultCache        = 32 << 20
	defaultBufferedLoss = time.Second

	// maxGroupBytes is where a group stops taking more calls: large enough to
	// make an fsync cheap per byte, small enough that groups overlap.
	maxGroupBytes = 4 << 20
	// maxGroupEntries bounds the time that encoding one group takes.
	maxGroupEntries = 1 << 15
	// entryOverhead is what an entry costs besides its bytes while it waits.
	entryOverhead = 64
	// housekeeping is how often the durable ends are written beside the log and
	// free space is looked at.
	housekeeping = 500 * time.Millisecond
	// spaceCheckBytes is how much is appended at most between two looks at the
	// free space.
	spaceCheckBytes = 16 << 20
	// readBytes is about how much one Next returns.
	readBytes = 1 << 20
	// maxPartitions bounds a topic.
	maxPartitions = 1 << 14
)

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("open log: no directory given")
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.FreeSpace == nil {
		c.FreeSpace = func() (int64, error) {
			u, err := c.FS.GetDiskUsage(c.Dir)
			return int64(u.AvailBytes), err
		}
	}
	def := func(v *int64, name string, d int64) error {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			return fmt.Errorf("open log: %s is negative", name)
		}
		return nil
	}
	if c.FreeSpaceFloor == 0 {
		c.FreeSpaceFloor = defaultFloor
	}
	if err := errors.Join(
		def(&c.QueueBytes, "queue bytes", defaultQueueBytes),
		def(&c.QueueEntries, "queue entries", defaultQueueEntries),
		def(&c.MemTableBytes, "memtable bytes", defaultMemTable),
		def(&c.CacheBytes, "cache bytes", defaultCache),
	); err != nil {
		return c, err
	}
	if c.BufferedLoss == 0 {
		c.BufferedLoss = defaultBufferedLoss
	}
	if c.BufferedLoss < 0 {
		return c, errors.New("open log: buffered loss is negative")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}
