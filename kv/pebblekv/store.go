package pebblekv

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const formatVersion = 1

// Config says where a store is and what it may use.
type Config = pebblestore.Config

// Store is a kv.Store on a Pebble instance of its own.
type Store struct {
	cfg    Config
	db     *pebblestore.DB
	parts  []*partition
	tokens *pebbletokens.Table // of db

	// mu is held shared by every call and exclusively by Close, so that Pebble is
	// never used after it is closed.
	mu     sync.RWMutex
	closed bool // guarded by mu
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
	s := &Store{cfg: cfg}
	var err error
	s.db, err = pebblestore.Open(cfg, pebblestore.Layout{Name: "kv store", Version: formatVersion, Merger: merger, Parked: parkedForm, Load: s.load})
	if err != nil {
		return nil, err
	}
	s.tokens = s.db.Tokens
	for _, p := range s.parts {
		p.batch.s, p.batch.p, p.batch.change = s, p, s.tokens.NewChange(p.id)
	}
	return s, nil
}

// load adds the next partition.
func (s *Store) load(p wal.Partition, state []byte) (rest []byte, err error) {
	st := kv.State{Applied: wal.NoOffset}
	if state != nil {
		st, rest, err = decodeState(state)
	}
	part := &partition{id: p}
	part.state.Store(&st)
	s.parts = append(s.parts, part)
	return rest, err
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
	if err := s.db.Sync(); err != nil {
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
	u, err := s.db.Usage()
	return kv.Usage(u), err
}

// Close waits for the calls that are under way and closes the store. What was
// committed is durable when it returns nil. A second Close does nothing. Close of
// a store that has failed returns the failure; after a failed write its files
// stay open until the process ends.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.db.Close(nil)
}
