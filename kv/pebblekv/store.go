package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblecompact"
	"github.com/headwater-db/headwater/wal/pebblefail"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const (
	formatVersion = 1

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
	// changed by SetTokenWindow.
	TokenWindow time.Duration
	// TokenFilterBytes bounds the memory that saves a look into the store for a
	// nonce that was never seen. Beyond it such look-ups cost a read, and stay
	// right. About 1.5 bytes are used for an entry. 0 is 64 MiB.
	TokenFilterBytes int64
}

// Store is a kv.Store on a Pebble instance of its own.
type Store struct {
	cfg   Config
	db    *pebble.DB
	cache *pebble.Cache // set when it is ours to release
	parts []*partition
	log   *slog.Logger

	tokens *pebbletokens.Table

	// mu is held shared by every call and exclusively by Close, so that Pebble is
	// never used after it is closed.
	mu     sync.RWMutex
	closed bool // guarded by mu

	fail *pebblefail.Failure // why it has failed, and who is told
}

var _ kv.Store = (*Store)(nil)

// partition is what is kept in memory of a partition.
type partition struct {
	id wal.Partition
	// state is as of the last commit that returned. Its Tokens is not used.
	state atomic.Pointer[kv.State]
	// deletes is odd while a commit is under way that carries a tombstone or
	// removes anything, and changes with each.
	deletes atomic.Uint64
	marks   marks
	gone    gone
	// batch is the one batch that the applier has, used again and again.
	batch batch
}

// Open opens the store in cfg.Dir and makes it if there is none. What was
// committed before a crash is there up to some commit, and up to the last Sync
// at least. Its cost does not depend on the number of items, nor on what is due
// for compaction; the write-ahead log since the last flush is replayed (at most
// three memtables).
func Open(cfg Config) (*Store, error) {
	if cfg.Partitions < 1 || cfg.Partitions > math.MaxUint16+1 {
		return nil, fmt.Errorf("open kv store: %d partitions, want 1 to %d", cfg.Partitions, math.MaxUint16+1)
	}
	s := &Store{cfg: cfg, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.fail = pebblefail.New("kv store", cfg.OnFail)
	fs, compactions := s.fail.FS(cfg.FS), pebblecompact.New()
	err := s.fail.WhileNotStuck(func() error {
		if err := pebblefail.CheckManifest(fs, cfg.Dir); err != nil {
			return err
		}
		db, err := pebble.Open(cfg.Dir, s.options(fs, compactions))
		if err != nil {
			return pebblefail.Corrupt(err)
		}
		if s.fail.Err() != nil {
			return db.Close()
		}
		s.db = db
		return nil
	})
	if err != nil {
		s.releaseCache()
		return nil, fmt.Errorf("open kv store %s: %w", cfg.Dir, err)
	}
	if err := s.load(); err != nil {
		err = errors.Join(err, s.fail.WhileNotStuck(s.db.Close))
		s.releaseCache()
		return nil, fmt.Errorf("open kv store %s: %w", cfg.Dir, err)
	}
	fs.Arm()
	compactions.Begin()
	return s, nil
}

func cmpOr[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (s *Store) options(fs vfs.FS, compactions pebble.CompactionScheduler) *pebble.Options {
	cache := s.cfg.Cache
	if cache == nil {
		cache = pebble.NewCache(cmpOr(s.cfg.CacheBytes, defaultCacheBytes))
		s.cache = cache
	}
	mem := cmpOr(s.cfg.MemTableBytes, defaultMemTableBytes)
	o := &pebble.Options{
		FS:                          fs,
		Cache:                       cache,
		Merger:                      merger,
		Logger:                      s.fail.Logger(s.log),
		EventListener:               s.fail.Events(),
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                uint64(mem),
		MemTableStopWritesThreshold: 3,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               int64(max(mem, 1<<20)) * 4,
		MaxOpenFiles:                4096,
		WALBytesPerSync:             1 << 20,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		// Space under a range deletion comes back without waiting for the memtable
		// to fill, and reads do not have to look at it there.
		FlushDelayDeleteRange: 10 * time.Second,
	}
	o.Experimental.CompactionScheduler = compactions
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

func (s *Store) load() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	var err error
	s.tokens, err = pebbletokens.New(pebbletokens.Config{
		DB: s.db, Table: tableToken, Partitions: s.cfg.Partitions,
		Window: s.cfg.TokenWindow, FilterBytes: s.cfg.TokenFilterBytes,
		OnError: s.tokensError,
	})
	if err != nil {
		return err
	}
	s.parts = make([]*partition, s.cfg.Partitions)
	for i := range s.parts {
		p := &partition{id: wal.Partition(i)}
		p.batch.s, p.batch.p, p.batch.change = s, p, s.tokens.NewChange(p.id)
		s.parts[i] = p
		b, err := s.get(stateKey(p.id))
		if err != nil {
			return fmt.Errorf("read state: partition %d: %w", i, err)
		}
		st := kv.State{Applied: wal.NoOffset}
		if b != nil {
			if st, err = decodeState(b, p.id, s.tokens); err != nil {
				return fmt.Errorf("read state: partition %d: %w", i, err)
			}
		}
		p.state.Store(&st)
	}
	s.tokens.Rebuild()
	return nil
}

// checkFormat writes the format of a new directory and refuses one that is not
// what we would write.
func (s *Store) checkFormat() error {
	b, err := s.get([]byte{tableFormat})
	if err != nil {
		return fmt.Errorf("read format: %w", err)
	}
	want := binary.BigEndian.AppendUint32([]byte{formatVersion}, uint32(s.cfg.Partitions))
	switch {
	case b == nil:
		if err := s.db.Set([]byte{tableFormat}, want, pebble.Sync); err != nil {
			return fmt.Errorf("write format: %w", err)
		}
	case len(b) == 0 || b[0] != formatVersion:
		return fmt.Errorf("%w: format of the store is not %d", wal.ErrUnknownVersion, formatVersion)
	case string(b) != string(want):
		return fmt.Errorf("%w: the store has %d, not %d", wal.ErrPartitionCount, binary.BigEndian.Uint32(b[1:]), s.cfg.Partitions)
	}
	return nil
}

// get returns a copy of a key's value, nil when there is none.
func (s *Store) get(key []byte) ([]byte, error) {
	v, c, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, pebblefail.Corrupt(err)
	}
	b := append(make([]byte, 0, len(v)), v...)
	return b, pebblefail.Corrupt(c.Close())
}

// enter is called first by everything that uses Pebble; leave when it is done.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return kv.ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.mu.RUnlock() }

func (s *Store) partition(p wal.Partition) (*partition, error) {
	if int64(p) >= int64(len(s.parts)) {
		return nil, fmt.Errorf("%w: %d of %d", wal.ErrNoPartition, p, len(s.parts))
	}
	return s.parts[p], nil
}

// State implements kv.Store.
func (s *Store) State(ctx context.Context, p wal.Partition) (kv.State, error) {
	if err := s.enter(ctx); err != nil {
		return kv.State{}, err
	}
	defer s.leave()
	part, err := s.partition(p)
	if err != nil {
		return kv.State{}, err
	}
	st := *part.state.Load()
	st.Tokens = s.tokens.Live(p)
	return st, nil
}

// Sync implements kv.Store: one synced write behind everything committed. It
// may be called from many goroutines, which then share the device's sync.
func (s *Store) Sync(ctx context.Context) (map[wal.Partition]wal.Offset, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	durable := make(map[wal.Partition]wal.Offset, len(s.parts))
	for _, p := range s.parts {
		durable[p.id] = p.state.Load().Applied
	}
	if err := s.fail.Guard(func() error { return s.db.LogData(nil, pebble.Sync) }); err != nil {
		return nil, fmt.Errorf("sync kv store: %w", err)
	}
	return durable, nil
}

// Usage implements kv.Store.
func (s *Store) Usage(ctx context.Context) (kv.Usage, error) {
	if err := s.enter(ctx); err != nil {
		return kv.Usage{}, err
	}
	defer s.leave()
	var u kv.Usage
	for _, p := range s.parts {
		u.Tokens += s.tokens.Live(p.id)
		n, err := s.countParked(p.id)
		if err != nil {
			return kv.Usage{}, s.readError("count parked queues", p.id, err)
		}
		u.Parked += n
	}
	// Metrics takes Pebble's own lock, which a failed store may never give back.
	err := s.fail.Guard(func() error {
		u.DiskBytes = int64(s.db.Metrics().DiskSpaceUsage())
		return nil
	})
	if err != nil {
		return kv.Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return u, nil
}

// Close waits for the calls that are under way and closes the store. What was
// committed is durable when it returns nil. A second Close does nothing. Close of
// a store that has failed returns the failure; after a failed write its files
// stay open until the process ends.
func (s *Store) Close() error {
	s.tokens.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.fail.Guard(func() error { return s.db.LogData(nil, pebble.Sync) })
	if closeErr := s.fail.WhileNotStuck(s.db.Close); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("close kv store: %w", err)
	}
	s.releaseCache()
	return nil
}

func (s *Store) releaseCache() {
	if s.cache != nil {
		s.cache.Unref()
	}
}
