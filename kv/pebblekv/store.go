package pebblekv

import (
	"sync/atomic"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// Config says where a store is and what it may use.
type Config = ledger.Config

// Store is a kv.Store on a Pebble instance of its own.
type Store struct {
	*ledger.Ledger
	cfg   Config
	parts []*partition
}

var _ kv.Store = (*Store)(nil)

// partition is what is kept in memory of a partition, beside its ledger.
type partition struct {
	id wal.Partition
	// removals is odd while a commit is under way that carries a tombstone or
	// removes anything, and changes with each.
	removals *atomic.Uint64
	marks    marks
	gone     gone
	open     *batch // the one that the applier has, or nil
}

// Open opens the store in cfg.Dir and makes it if there is none; see
// pebblestore.Open.
func Open(cfg Config) (*Store, error) {
	l, err := ledger.Open(cfg, "kv store")
	if err != nil {
		return nil, err
	}
	s := &Store{Ledger: l, cfg: cfg}
	for p := range wal.Partition(cfg.Partitions) {
		part := &partition{id: p, removals: l.Removals(p)}
		if l.Fresh(p) {
			part.marks.start()
		}
		s.parts = append(s.parts, part)
	}
	return s, nil
}
