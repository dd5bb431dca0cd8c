package pebblets

import (
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/ledger"
)

// Config says where a store is and what it may use.
type Config = ledger.Config

// Store is a timeseries.Store on a Pebble instance of its own.
type Store struct {
	*ledger.Ledger
	fronts    []front
	conflicts atomic.Int64
	pool      sync.Pool // of *added
}

var _ timeseries.Store = (*Store)(nil)

// Open opens the store in cfg.Dir and makes it if there is none; see pebblestore.Open.
func Open(cfg Config) (*Store, error) {
	l, err := ledger.Open(cfg, "time-series store")
	if err != nil {
		return nil, err
	}
	return &Store{Ledger: l, fronts: newFronts(cfg.Partitions), pool: sync.Pool{New: func() any { return new(added) }}}, nil
}

// Conflicts implements timeseries.Store.
func (s *Store) Conflicts() int64 { return s.conflicts.Load() }
