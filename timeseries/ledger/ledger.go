package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// TableSlice is the table of slices. The number is part of the data format.
const TableSlice = 'l'

const (
	formatVersion = 1
	batchBytes    = 4 << 20
)

// Config says where a ledger is and what it may use.
type Config = pebblestore.Config

type rows = pebblestore.Store[consumers.State, timeseries.TokenEntry]

// Ledger is a consumers.Ledger, and the slices of each partition.
type Ledger struct {
	*rows
	// slices are those of each partition as of its last commit.
	slices []atomic.Pointer[timeseries.Slices]
}

// Open opens the ledger in cfg.Dir and makes it if there is none; see pebblestore.Open.
// name is for messages.
func Open(cfg Config, name string) (*Ledger, error) {
	r, err := pebblestore.Open(cfg, pebblestore.Layout[consumers.State, timeseries.TokenEntry]{
		Name: name, Version: formatVersion, Merger: merger, BatchBytes: batchBytes,
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
	l := &Ledger{rows: r, slices: make([]atomic.Pointer[timeseries.Slices], cfg.Partitions)}
	for p := range wal.Partition(cfg.Partitions) {
		all, err := l.SlicesIn(l.DB.DB, p)
		if err != nil {
			_ = r.Close() // what cannot be read is told
			return nil, fmt.Errorf("read the slices of partition %d: %w", p, err)
		}
		l.slices[p].Store(&all)
	}
	return l, nil
}

// Slices implements timeseries.Store.
func (l *Ledger) Slices(p wal.Partition) timeseries.Slices {
	if int64(p) >= int64(len(l.slices)) {
		return nil
	}
	return *l.slices[p].Load()
}

// SlicesIn are the slices of a partition as of a snapshot.
func (l *Ledger) SlicesIn(from pebble.Reader, p wal.Partition) (all timeseries.Slices, err error) {
	lo, hi := pebblestore.Span(TableSlice, p)
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var x timeseries.Slice
		x, err = decodeSlice(it.Key(), it.Value())
		all = append(all, x)
	}
	return all, errors.Join(err, it.Error(), it.Close())
}

// StateIn is the state of a partition as of a snapshot.
func (l *Ledger) StateIn(from pebble.Reader, p wal.Partition) (st consumers.State, err error) {
	row, c, err := from.Get(pebblestore.StateKey(p))
	if errors.Is(err, pebble.ErrNotFound) {
		return l.DecodeState(nil)
	}
	if err != nil {
		return st, err
	}
	st, err = l.DecodeState(row)
	return st, errors.Join(err, c.Close())
}

// Batch is the part of a batch that every store of events has.
type Batch struct {
	changes
	l      *Ledger
	p      wal.Partition
	slices timeseries.Slices // nil: as the ledger has them
}

type changes = pebblestore.Batch[consumers.State, timeseries.TokenEntry]

// Begin starts a batch.
func (l *Ledger) Begin(p wal.Partition) Batch {
	return Batch{changes: l.rows.Begin(p), l: l, p: p}
}

// AddSlice implements timeseries.Batch.
func (b *Batch) AddSlice(x timeseries.Slice) {
	if !b.Ready() {
		return
	}
	if b.slices == nil {
		b.slices = b.l.Slices(b.p)
	}
	b.slices = b.slices.With(x)
	b.SetErr(b.W.Set(sliceKey(b.p, x.Start), appendSliceRow(nil, x), nil))
}

// Commit implements timeseries.Batch.
func (b *Batch) Commit(ctx context.Context, st consumers.State) error {
	if err := b.changes.Commit(ctx, st); err != nil {
		return err
	}
	if b.slices != nil {
		b.l.slices[b.p].Store(&b.slices)
	}
	return nil
}

// Sweep evicts tokens and drops the slices that are due. drop removes what is in one; it
// comes before the slice is gone here. walk does the rest of the sweep.
func (l *Ledger) Sweep(
	ctx context.Context, r *timeseries.SweepRequest, drop func(w *pebble.Batch, x timeseries.Slice) error,
	walk func(sw *pebblestore.Sweep[consumers.State], kept timeseries.Slices, res *timeseries.SweepResult) error,
) (res timeseries.SweepResult, err error) {
	kept := l.Slices(r.Partition)
	tokens, err := l.rows.Sweep(ctx, r.Partition, r.Horizon, r.Limit, func(sw *pebblestore.Sweep[consumers.State]) error {
		for _, x := range l.Slices(r.Partition) {
			if !r.Drop(x) {
				continue
			}
			if err := errors.Join(drop(sw.W, x), sw.W.Delete(sliceKey(r.Partition, x.Start), nil)); err != nil {
				return err
			}
			kept = kept.Without(x.Start)
			res.Slices++
		}
		return walk(sw, kept, &res)
	})
	if err != nil {
		return timeseries.SweepResult{}, err
	}
	if res.Slices > 0 {
		l.slices[r.Partition].Store(&kept)
	}
	res.Tokens = int(tokens)
	return res, nil
}

// ordered is a time in an order that bytes have.
func ordered(t int64) uint64 { return uint64(t) ^ 1<<63 }

func sliceKey(p wal.Partition, start int64) []byte {
	return binary.BigEndian.AppendUint64(pebblestore.AppendTable(nil, TableSlice, p), ordered(start))
}

func appendSliceRow(dst []byte, x timeseries.Slice) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ordered(x.End))
	dst = binary.AppendUvarint(dst, uint64(x.EventBuckets))
	return append(dst, x.Index...)
}

func decodeSlice(key, value []byte) (x timeseries.Slice, err error) {
	if len(key) != pebblestore.TableLen+8 || len(value) < 9 {
		return x, fmt.Errorf("%w: a slice's row", wal.ErrCorrupt)
	}
	x.Start = int64(binary.BigEndian.Uint64(key[pebblestore.TableLen:]) ^ 1<<63)
	x.End = int64(binary.BigEndian.Uint64(value) ^ 1<<63)
	n, k := binary.Uvarint(value[8:])
	if k <= 0 || x.End <= x.Start {
		return x, fmt.Errorf("%w: a slice's row", wal.ErrCorrupt)
	}
	x.EventBuckets, x.Index = int(n), timeseries.IndexKeys(value[8+k:])
	if !x.Index.Valid() {
		return x, fmt.Errorf("%w: a slice's row", wal.ErrCorrupt)
	}
	return x, nil
}

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
