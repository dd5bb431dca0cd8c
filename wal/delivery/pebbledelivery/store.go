package pebbledelivery

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

const (
	formatVersion = 1
	batchBytes    = 1 << 20
)

// Config says where a store is and what it may use.
type Config = pebblestore.Config

// state is how far a partition is applied.
type state = consumers.State

// ledger is what every store on Pebble has.
type ledger = pebblestore.Store[state, delivery.TokenEntry]

// Store is a delivery.Store on a Pebble instance of its own.
type Store struct{ *ledger }

var _ delivery.Store = (*Store)(nil)

// Open opens the store in cfg.Dir and makes it if there is none; see
// pebblestore.Open.
func Open(cfg Config) (*Store, error) {
	l, err := pebblestore.Open(cfg, pebblestore.Layout[state, delivery.TokenEntry]{
		Name: "log store", Version: formatVersion, BatchBytes: batchBytes,
		Fresh:  state{Applied: wal.NoOffset},
		Common: func(st *state) *state { return st },
		TokenOf: func(e *delivery.TokenEntry) pebblestore.Token {
			return pebblestore.Token{ID: e.ID, LogTime: e.LogTime, Offset: e.Offset}
		},
		AppendToken: appendToken, DecodeToken: decodeToken,
	})
	if err != nil {
		return nil, err
	}
	return &Store{l}, nil
}

const tokenLen = 16 + 8 + 8 + 8

// appendToken writes: hash (16), offset, log time and generation time (8 each).
func appendToken(dst []byte, e *delivery.TokenEntry) []byte {
	dst = append(dst, e.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.LogTime))
	return binary.BigEndian.AppendUint64(dst, uint64(e.Time))
}

func decodeToken(id wal.TokenID, b []byte) (e delivery.TokenEntry, err error) {
	if len(b) != tokenLen {
		return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
	}
	e.ID = id
	copy(e.Hash[:], b)
	e.Offset = wal.Offset(binary.BigEndian.Uint64(b[16:]))
	e.LogTime = int64(binary.BigEndian.Uint64(b[24:]))
	e.Time = int64(binary.BigEndian.Uint64(b[32:]))
	return e, nil
}
