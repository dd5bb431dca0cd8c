package pebblecounter

import (
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

const (
	formatVersion = 1
	batchBytes    = 16 << 20 // a flush of 100,000 counters
)

// Config says where a store is and what it may use.
type Config = pebblestore.Config

// Store is a counter.Store on a Pebble instance of its own.
type Store struct {
	*ledger
	cfg Config
}

var _ counter.Store = (*Store)(nil)

// ledger is what every store on Pebble has.
type ledger = pebblestore.Store[counter.State, counter.TokenEntry]

// Open opens the store in cfg.Dir and makes it if there is none; see
// pebblestore.Open.
func Open(cfg Config) (*Store, error) {
	l, err := pebblestore.Open(cfg, pebblestore.Layout[counter.State, counter.TokenEntry]{
		Name: "counter store", Version: formatVersion, Merger: merger, BatchBytes: batchBytes,
		Fresh:       counter.State{State: consumers.State{Applied: wal.NoOffset}, Folded: wal.NoOffset},
		Common:      func(st *counter.State) *consumers.State { return &st.State },
		AppendState: appendState, DecodeState: decodeState,
		TokenOf: func(e *counter.TokenEntry) pebblestore.Token {
			return pebblestore.Token{ID: e.ID, LogTime: e.LogTime, Offset: e.Offset}
		},
		AppendToken: appendToken, DecodeToken: decodeToken,
	})
	if err != nil {
		return nil, err
	}
	return &Store{ledger: l, cfg: cfg}, nil
}
