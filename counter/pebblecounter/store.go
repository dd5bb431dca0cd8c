package pebblecounter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const formatVersion = 1

// Config says where a store is and what it may use.
type Config = pebblestore.Config

// Store is a counter.Store on a Pebble instance of its own.
type Store struct {
	cfg    Config
	db     *pebblestore.DB
	parts  []*partition
	tokens *pebbletokens.Table // of db
	gate   gate
	free   chan *work // empty ones, with the memory that they have grown to

	closing sync.Mutex // held by Close, so that a second one waits for the first
}

var _ counter.Store = (*Store)(nil)

// partition is what is kept in memory of a partition.
type partition struct {
	id wal.Partition
	// state is as of the last commit that returned.
	state atomic.Pointer[counter.State]
	// writing is held by a commit and by a sweep, both of which write the state.
	writing sync.Mutex
}

// Open opens the store in cfg.Dir and makes it if there is none. What was
// committed before a crash is there up to some commit, and up to the last Sync
// at least. Its cost does not depend on the number of counters, nor on what is due
// for compaction; the write-ahead log since the last flush is replayed (at most
// three memtables).
func Open(cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, free: make(chan *work, keptBatches)}
	var err error
	s.db, err = pebblestore.Open(cfg, pebblestore.Layout{Name: "counter store", Version: formatVersion, Merger: merger, Load: s.load})
	if err != nil {
		return nil, err
	}
	s.tokens = s.db.Tokens
	return s, nil
}

// load adds the next partition.
func (s *Store) load(p wal.Partition, state []byte) (rest []byte, err error) {
	st := newState()
	if state != nil {
		st, rest, err = decodeState(state)
	}
	part := &partition{id: p}
	part.state.Store(&st)
	s.parts = append(s.parts, part)
	return rest, err
}

func (s *Store) partition(p wal.Partition) (*partition, error) {
	if int64(p) >= int64(len(s.parts)) {
		return nil, fmt.Errorf("%w: %d of %d", wal.ErrNoPartition, p, len(s.parts))
	}
	return s.parts[p], nil
}

// enter is the beginning of every call that reads a partition. Its error is nil,
// and leave is to be called, or there is nothing to do.
func (s *Store) enter(ctx context.Context, p wal.Partition) (*partition, error) {
	if err := s.gate.enter(ctx); err != nil {
		return nil, err
	}
	part, err := s.partition(p)
	if err != nil {
		s.gate.leave()
	}
	return part, err
}

func (s *Store) leave() { s.gate.leave() }

// State implements counter.Store.
func (s *Store) State(ctx context.Context, p wal.Partition) (counter.State, error) {
	part, err := s.enter(ctx, p)
	if err != nil {
		return counter.State{}, err
	}
	defer s.leave()
	return *part.state.Load(), nil
}

// LiveTokens implements counter.Store.
func (s *Store) LiveTokens(p wal.Partition) int64 {
	if _, err := s.partition(p); err != nil {
		return 0
	}
	return s.tokens.Live(p)
}

// SetTokenWindow implements counter.Store.
func (s *Store) SetTokenWindow(window time.Duration) { s.tokens.SetWindow(window) }

// Sync implements counter.Store: one synced write behind everything committed.
// It may be called from many goroutines, which then share the device's sync.
func (s *Store) Sync(ctx context.Context) (map[wal.Partition]wal.Offset, error) {
	if err := s.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	durable := make(map[wal.Partition]wal.Offset, len(s.parts))
	for _, p := range s.parts {
		durable[p.id] = p.state.Load().Applied
	}
	if err := s.db.Sync(); err != nil {
		return nil, fmt.Errorf("sync counter store: %w", err)
	}
	return durable, nil
}

// Usage implements counter.Store.
func (s *Store) Usage(ctx context.Context) (counter.Usage, error) {
	if err := s.gate.enter(ctx); err != nil {
		return counter.Usage{}, err
	}
	defer s.leave()
	u, err := s.db.Usage()
	return counter.Usage(u), err
}

// Close waits for the calls that are under way and closes the store, and the
// snapshots that are still open. What was committed is durable when it returns
// nil. A second Close does nothing. Close of a store that has failed returns the
// failure; after a failed write its files stay open until the process ends.
func (s *Store) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	open, first := s.gate.close()
	if !first {
		return nil
	}
	return s.db.Close(func() (err error) {
		for v := range open {
			err = errors.Join(err, v.root.Close())
		}
		return errors.Join(err, s.closeBatches())
	})
}
