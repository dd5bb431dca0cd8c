package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/cmd/headwater/benchload"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

const (
	appendCallers    = 64
	appendPartitions = 4
)

var quiet = slog.New(slog.DiscardHandler)

// openLog opens an embedded log in a new directory.
func openLog(dir string) (*pebblelog.Broker, error) {
	return pebblelog.Open(pebblelog.Config{Dir: dir, FreeSpaceFloor: -1, Logger: quiet})
}

// firstError makes an error of what a loop could not do: the benchmark is of what
// works.
func firstError(m *benchload.Measured) error {
	for e, n := range m.Errors {
		return fmt.Errorf("%d times: %s", n, e)
	}
	return nil
}

// pebbleLog compares single durable appends with what they cannot be faster than:
// commits of the same keys and bytes to a Pebble of the same settings, from as
// many goroutines.
func pebbleLog(ctx context.Context, h *harness) error {
	for _, size := range []int{100, 1024} {
		fresh := func(side string, round int) (string, func() error) {
			dir := filepath.Join(h.data, fmt.Sprintf("%s-%d-%d", side, size, round))
			return dir, func() error { return os.RemoveAll(dir) }
		}
		data := make([]byte, size)
		subject := side{"pebblelog", func(ctx context.Context, round int) (_ float64, err error) {
			dir, remove := fresh("log", round)
			b, err := openLog(dir)
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, b.Close(), remove()) }()
			l, err := b.Create(ctx, wal.TopicSpec{Name: "headwater.bench.append.1", Partitions: appendPartitions})
			if err != nil {
				return 0, err
			}
			m := benchload.Loop(ctx, appendCallers, h.duration, nil, func(ctx context.Context, c, _ int) (int, error) {
				return 1, l.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: wal.Partition(c % appendPartitions), Data: data}})[0].Err
			})
			return m.PerSecond(), firstError(m)
		}}
		peer := side{"raw Pebble", func(ctx context.Context, round int) (_ float64, err error) {
			dir, remove := fresh("raw", round)
			db, err := pebble.Open(dir, rawOptions())
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, db.Close(), remove()) }()
			var next atomic.Uint64
			m := benchload.Loop(ctx, appendCallers, h.duration, nil, func(_ context.Context, c, _ int) (int, error) {
				// The log's key (family, topic, partition, offset) and frame.
				var key [17]byte
				binary.BigEndian.PutUint32(key[5:], uint32(c%appendPartitions))
				binary.BigEndian.PutUint64(key[9:], next.Add(1))
				w := db.NewBatch()
				op := w.SetDeferred(len(key), 12+size)
				copy(op.Key, key[:])
				copy(op.Value[12:], data)
				return 1, errors.Join(op.Finish(), w.Commit(pebble.Sync), w.Close())
			})
			return m.PerSecond(), firstError(m)
		}}
		if err := h.compare(ctx, fmt.Sprintf("append of %d B, fsync, %d goroutines", size, appendCallers), "records/s", atLeast(0.9), subject, &peer, ""); err != nil {
			return err
		}
	}
	return nil
}

// rawOptions are those that the log gives its own Pebble, as far as they matter
// to writes.
func rawOptions() *pebble.Options {
	o := &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest, MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 1000, LBaseMaxBytes: 256 << 20, BytesPerSync: 1 << 20, Logger: silent{},
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return o
}

// silent is Pebble's logger without what it says in passing.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
