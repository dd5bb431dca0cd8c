package pebblets

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

const (
	formatVersion = 1
	batchBytes    = 4 << 20
)

// Config says where a store is and what it may use.
type Config = pebblestore.Config

// ledger is what every store on Pebble has.
type ledger = pebblestore.Store[consumers.State, timeseries.TokenEntry]

// Store is a timeseries.Store on a Pebble instance of its own.
type Store struct {
	*ledger
	// slices are those of each partition as of its last commit.
	slices []atomic.Pointer[timeseries.Slices]
}

var _ timeseries.Store = (*Store)(nil)

// Open opens the store in cfg.Dir and makes it if there is none; see pebblestore.Open.
func Open(cfg Config) (*Store, error) {
	l, err := pebblestore.Open(cfg, pebblestore.Layout[consumers.State, timeseries.TokenEntry]{
		Name: "time-series store", Version: formatVersion, Merger: merger, BatchBytes: batchBytes,
		Fresh:  consumers.State{Applied: wal.NoOffset},
		Common: func(st *consumers.State) *consumers.State { return st },
		TokenOf: func(e *timeseries.TokenEntry) pebblestore.Token {
			return pebblestore.Token{ID: e.ID, LogTime: e.LogTime, Offset: e.Offset}
		},
		AppendToken: appendToken, DecodeToken: decodeToken,
	})
	if err != nil {
		return nil, err
	}
	s := &Store{ledger: l, slices: make([]atomic.Pointer[timeseries.Slices], cfg.Partitions)}
	for p := range wal.Partition(cfg.Partitions) {
		if err := s.loadSlices(p); err != nil {
			_ = l.Close() // what cannot be read is told
			return nil, fmt.Errorf("read the slices of partition %d: %w", p, err)
		}
	}
	return s, nil
}

func (s *Store) loadSlices(p wal.Partition) error {
	var all timeseries.Slices
	err := s.DB.Each(tableSlice, p, func(it *pebble.Iterator) error {
		x, err := decodeSlice(it.Key(), it.Value())
		all = append(all, x)
		return err
	})
	s.slices[p].Store(&all)
	return err
}

func appendSliceRow(dst []byte, x timeseries.Slice) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ordered(x.End))
	return binary.AppendUvarint(dst, uint64(x.EventBuckets))
}

func decodeSlice(key, value []byte) (x timeseries.Slice, err error) {
	if len(key) != pebblestore.TableLen+8 || len(value) < 9 {
		return x, fmt.Errorf("%w: a slice's row", wal.ErrCorrupt)
	}
	x.Start = int64(binary.BigEndian.Uint64(key[pebblestore.TableLen:]) ^ 1<<63)
	x.End = int64(binary.BigEndian.Uint64(value) ^ 1<<63)
	n, k := binary.Uvarint(value[8:])
	if k != len(value)-8 || x.End <= x.Start {
		return x, fmt.Errorf("%w: a slice's row", wal.ErrCorrupt)
	}
	x.EventBuckets = int(n)
	return x, nil
}

// Slices implements timeseries.Store.
func (s *Store) Slices(p wal.Partition) timeseries.Slices {
	if int64(p) >= int64(len(s.slices)) {
		return nil
	}
	return *s.slices[p].Load()
}

// merger makes one event of what was added under its identity.
var merger = &pebble.Merger{
	Name: "headwater.timeseries.v1",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		return &merge{buf: slices.Clone(value)}, nil
	},
}

// merge is the items so far. The items of the older operand hold.
type merge struct{ buf, next []byte }

func (m *merge) MergeNewer(value []byte) error { return m.union(m.buf, value) }
func (m *merge) MergeOlder(value []byte) error { return m.union(value, m.buf) }

func (m *merge) union(first, second []byte) (err error) {
	if m.next, err = timeseries.MergeItems(m.next[:0], first, second); err != nil {
		return fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
	}
	m.buf, m.next = m.next, m.buf
	return nil
}

func (m *merge) Finish(bool) ([]byte, io.Closer, error) { return m.buf, nil, nil }

const tokenLen = 16 + 8 + 8 + 8

// appendToken writes: hash (16), offset, log time and generation time (8 each), what was
// left out.
func appendToken(dst []byte, e *timeseries.TokenEntry) []byte {
	dst = append(dst, e.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.LogTime))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Time))
	return append(dst, e.Refused...)
}

func decodeToken(id wal.TokenID, b []byte) (e timeseries.TokenEntry, err error) {
	if len(b) < tokenLen {
		return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
	}
	e.ID = id
	copy(e.Hash[:], b)
	e.Offset = wal.Offset(binary.BigEndian.Uint64(b[16:]))
	e.LogTime = int64(binary.BigEndian.Uint64(b[24:]))
	e.Time = int64(binary.BigEndian.Uint64(b[32:]))
	e.Refused = string(b[tokenLen:])
	return e, nil
}
