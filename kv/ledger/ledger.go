package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const (
	formatVersion = 1
	batchBytes    = 4 << 20
)

// Config says where a ledger is and what it may use.
type Config = pebblestore.Config

type rows = pebblestore.Store[kv.State, kv.TokenEntry]

// Ledger is a consumers.Ledger, and the uploads of each partition.
type Ledger struct {
	*rows
}

// Open opens the ledger in cfg.Dir and makes it if there is none; see pebblestore.Open.
// name is for messages.
func Open(cfg Config, name string) (*Ledger, error) {
	r, err := pebblestore.Open(cfg, pebblestore.Layout[kv.State, kv.TokenEntry]{
		Name: name, Version: formatVersion, Merger: merger, BatchBytes: batchBytes,
		Fresh:  kv.State{Applied: wal.NoOffset},
		Common: func(st *kv.State) *kv.State { return st },
		TokenOf: func(e *kv.TokenEntry) pebblestore.Token {
			return pebblestore.Token{ID: e.ID, LogTime: e.LogTime, Offset: e.Offset}
		},
		AppendToken: AppendToken, DecodeToken: DecodeToken,
	})
	if err != nil {
		return nil, err
	}
	return &Ledger{rows: r}, nil
}

// Batch is the part of a batch that every store of items has.
type Batch struct {
	changes
	p wal.Partition
}

type changes = pebblestore.Batch[kv.State, kv.TokenEntry]

// Begin starts a batch.
func (l *Ledger) Begin(p wal.Partition) Batch { return Batch{changes: l.rows.Begin(p), p: p} }

// SaveUpload is that of kv.Batch.
func (b *Batch) SaveUpload(u *kv.StoredUpload) {
	if b.Ready() {
		b.SetErr(b.W.Set(UploadKey(b.p, u.ID), EncodeUpload(u), nil))
	}
}

// DropUpload is that of kv.Batch, without the chunks.
func (b *Batch) DropUpload(id kv.UploadID) {
	if b.Ready() {
		b.Removes = true
		b.SetErr(b.W.Delete(UploadKey(b.p, id), nil))
	}
}

// Upload implements kv.Store.
func (l *Ledger) Upload(ctx context.Context, p wal.Partition, id kv.UploadID) (u kv.StoredUpload, ok bool, err error) {
	if err := l.Enter(ctx, p); err != nil {
		return u, false, err
	}
	defer l.Leave()
	v, err := l.DB.Value(UploadKey(p, id))
	if err == nil && v == nil {
		return u, false, nil
	}
	if err == nil {
		if u, err = DecodeUpload(id, v); err == nil {
			return u, true, nil
		}
	}
	return kv.StoredUpload{}, false, l.DB.ReadError("read upload", p, err)
}

// SweepUploads looks at the uploads of a partition from the key from, nil for the first, and drops
// those that lost says nothing leads to any more: drop has their chunks removed, in w or before.
// next is where the following sweep goes on, nil at the end; n is how many were dropped.
func (l *Ledger) SweepUploads(
	sw *pebblestore.Sweep[kv.State], p wal.Partition, from []byte, lost func(u *kv.StoredUpload) (bool, error), drop func(u *kv.StoredUpload) error,
) (next []byte, n int, err error) {
	lo, hi := pebblestore.Span(TableUpload, p)
	it, err := l.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if from != nil {
		lo = from
	}
	for ok := it.SeekGE(lo); ok; ok = it.Next() {
		k := it.Key()
		if len(k) != pebblestore.TableLen+len(wal.TokenID{}) {
			return nil, n, fmt.Errorf("%w: row of an upload of no known form", wal.ErrCorrupt)
		}
		more, err := sw.Look()
		if err != nil {
			return nil, n, err
		}
		if !more {
			return append([]byte(nil), k...), n, nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, n, err
		}
		u, err := DecodeUpload(kv.UploadID(k[pebblestore.TableLen:]), v)
		if err != nil {
			return nil, n, err
		}
		gone, err := lost(&u)
		if err == nil && gone {
			n++
			err = errors.Join(drop(&u), sw.W.Delete(UploadKey(p, u.ID), nil))
		}
		if err != nil {
			return nil, n, err
		}
	}
	return nil, n, it.Error()
}

// EachUpload calls f with every upload of a partition.
func (l *Ledger) EachUpload(p wal.Partition, f func(u *kv.StoredUpload) error) (err error) {
	lo, hi := pebblestore.Span(TableUpload, p)
	it, err := l.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		u, err := DecodeUpload(kv.UploadID(it.Key()[pebblestore.TableLen:]), v)
		if err == nil {
			err = f(&u)
		}
		if err != nil {
			return err
		}
	}
	return it.Error()
}

// DropItems removes the items that a copied ledger has: their store has them elsewhere.
func (l *Ledger) DropItems(ctx context.Context) error {
	err := l.DB.DropTables(TableRecord, TableChunk)
	if err != nil {
		return fmt.Errorf("drop the items of a copy: %w", err)
	}
	_, err = l.Sync(ctx)
	return err
}
