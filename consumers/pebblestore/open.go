package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblecompact"
	"github.com/headwater-db/headwater/wal/pebblefail"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const (
	defaultCacheBytes    = 64 << 20
	defaultMemTableBytes = 32 << 20
)

// Config says where a store is and what it may use.
type Config struct {
	FS  vfs.FS // nil is the operating system's
	Dir string // of its own; made if it is missing
	// Partitions of the namespace, 1 to 65536. A directory keeps the number that
	// it was made with, and Open refuses another.
	Partitions int
	// Cache is shared between stores; nil is one of CacheBytes of its own.
	Cache      *pebble.Cache
	CacheBytes int64 // 0 is 64 MiB
	// MemTableBytes is the size of a memtable; the store holds up to three. 0 is
	// 32 MiB.
	MemTableBytes int
	Logger        *slog.Logger // nil logs nothing
	// OnFail is called once, from a goroutine of its own, when the store has
	// failed for good: it takes no more writes, and the process should stop.
	OnFail func(error)
	// TokenWindow is how long tokens are kept, as far as the store needs to know
	// to choose its buckets: any value is correct. 0 is 15 minutes. It can be
	// changed while the store is open.
	TokenWindow time.Duration
	// TokenFilterBytes bounds the memory that saves a look into the store for a
	// identity that was never seen. Beyond it such look-ups cost a read, and stay
	// right. About 1.5 bytes are used for an entry. 0 is 64 MiB.
	TokenFilterBytes int64
}

// layout is what openDB needs to know of a Layout.
type layout struct {
	name    string
	version byte
	merger  *pebble.Merger
	// load is called for each partition in order, with the row of its state, nil
	// where nothing was committed. It returns what is behind the state in it.
	load func(p wal.Partition, row []byte) (rest []byte, err error)
}

func openDB(cfg Config, l layout) (*DB, error) {
	if cfg.Partitions < 1 || cfg.Partitions > math.MaxUint16+1 {
		return nil, fmt.Errorf("open %s: %d partitions, want 1 to %d", l.name, cfg.Partitions, math.MaxUint16+1)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &DB{name: l.name, partitions: cfg.Partitions}
	d.fail = pebblefail.New(errors.New(l.name+" has failed"), func(err error) {
		if cfg.OnFail != nil {
			go cfg.OnFail(err)
		}
	})
	if err := d.open(&cfg, &l); err != nil {
		return nil, fmt.Errorf("open %s %s: %w", l.name, cfg.Dir, err)
	}
	return d, nil
}

func (d *DB) open(cfg *Config, l *layout) error {
	fs, compactions := d.fail.FS(cfg.FS), pebblecompact.New()
	o := options(cfg)
	o.Merger = l.merger
	o.Experimental.CompactionScheduler = compactions
	if o.Cache == nil {
		o.Cache = pebble.NewCache(cmp.Or(cfg.CacheBytes, defaultCacheBytes))
		defer o.Cache.Unref() // Pebble has a reference of its own while it is open
	}
	var err error
	if d.DB, err = d.fail.Open(cfg.Dir, fs, cfg.Logger, o); err != nil {
		return err
	}
	if err := d.load(cfg, l); err != nil {
		if d.Tokens != nil {
			d.Tokens.Close()
		}
		return d.fail.GiveUp(err, d.DB.Close)
	}
	compactions.Begin()
	return nil
}

func options(cfg *Config) *pebble.Options {
	mem := cmp.Or(cfg.MemTableBytes, defaultMemTableBytes)
	o := &pebble.Options{
		Cache:                       cfg.Cache,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                uint64(mem),
		MemTableStopWritesThreshold: 3,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               int64(max(mem, 1<<20)) * 4,
		MaxOpenFiles:                4096,
		// What is written is sent to the disk a little at a time: an fsync of the log that
		// comes meanwhile does not wait for megabytes of a flush.
		WALBytesPerSync:            128 << 10,
		BytesPerSync:               128 << 10,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		// Space under a range deletion comes back without waiting for the memtable
		// to fill, and reads do not have to look at it there.
		FlushDelayDeleteRange: 10 * time.Second,
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 16 << 10
		// What is rewritten soon is not worth compressing: on two cores that is a
		// fifth of the cost of a put.
		if i < len(o.Levels)-2 {
			o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		}
	}
	return o
}

// load checks the format and reads what is kept in memory.
func (d *DB) load(cfg *Config, l *layout) error {
	if err := d.checkFormat(l.version, cfg.Partitions); err != nil {
		return err
	}
	var err error
	d.Tokens, err = pebbletokens.New(pebbletokens.Config{
		DB: d.DB, Table: TableToken, Partitions: cfg.Partitions, Window: cfg.TokenWindow, FilterBytes: cfg.TokenFilterBytes,
		OnError: func(err error) {
			cfg.Logger.Error("read tokens back", "error", err)
			d.failIfCorrupt(err)
		},
	})
	if err != nil {
		return err
	}
	for p := range wal.Partition(cfg.Partitions) {
		if err := d.loadPartition(p, l); err != nil {
			return fmt.Errorf("read state: partition %d: %w", p, err)
		}
	}
	d.Tokens.Rebuild()
	return nil
}

func (d *DB) loadPartition(p wal.Partition, l *layout) error {
	row, err := d.Value(StateKey(p))
	if err != nil {
		return err
	}
	rest, err := l.load(p, row)
	if err != nil || row == nil {
		return err
	}
	if rest, err = d.Tokens.Load(p, rest); err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes behind the token buckets", wal.ErrCorrupt, len(rest))
	}
	return err
}

// checkFormat writes the format of a new directory and refuses one that is not
// what we would write.
func (d *DB) checkFormat(version byte, partitions int) error {
	key := []byte{TableFormat}
	b, err := d.Value(key)
	if err != nil {
		return fmt.Errorf("read format: %w", err)
	}
	want := binary.BigEndian.AppendUint32([]byte{version}, uint32(partitions))
	switch {
	case b == nil:
		if err := d.fail.Guard(func() error { return d.Set(key, want, pebble.Sync) }); err != nil {
			return fmt.Errorf("write format: %w", err)
		}
	case len(b) == 0 || b[0] != version:
		return fmt.Errorf("%w: format of the store is not %d", wal.ErrUnknownVersion, version)
	case len(b) != len(want):
		return fmt.Errorf("%w: format of %d bytes", wal.ErrCorrupt, len(b))
	case string(b) != string(want):
		return fmt.Errorf("%w: the store has %d, not %d", wal.ErrPartitionCount, binary.BigEndian.Uint32(b[1:]), partitions)
	}
	return nil
}
