package pebblekv

import (
	"sync/atomic"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const (
	formatVersion = 1
	batchBytes    = 4 << 20
)

// Config says where a store is and what it may use.
type Config = pebblestore.Config

// Store is a kv.Store on a Pebble instance of its own.
type Store struct {
	*ledger
	cfg   Config
	parts []*partition
}

var _ kv.Store = (*Store)(nil)

// ledger is what every store on Pebble has.
type ledger = pebblestore.Store[kv.State, kv.TokenEntry]

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
	l, err := pebblestore.Open(cfg, pebblestore.Layout[kv.State, kv.TokenEntry]{
		Name: "kv store", Version: formatVersion, Merger: merger, BatchBytes: batchBytes,
		Fresh:  kv.State{Applied: wal.NoOffset},
		Common: func(st *kv.State) *kv.State { return st },
		TokenOf: func(e *kv.TokenEntry) pebblestore.Token {
			return pebblestore.Token{ID: e.ID, LogTime: e.LogTime, Offset: e.Offset}
		},
		AppendToken: appendToken, DecodeToken: decodeToken,
	})
	if err != nil {
		return nil, err
	}
	s := &Store{ledger: l, cfg: cfg}
	for p := range wal.Partition(cfg.Partitions) {
		part := &partition{id: p, removals: l.Removals(p)}
		if l.Fresh(p) {
			part.marks.start()
		}
		s.parts = append(s.parts, part)
	}
	return s, nil
}
