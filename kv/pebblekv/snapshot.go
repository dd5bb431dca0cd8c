package pebblekv

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// snapshot is a kv.Snapshot.
type snapshot struct {
	s     *Store
	p     wal.Partition
	root  *pebble.Snapshot
	state consumers.State
}

// Snapshot implements kv.Store.
func (s *Store) Snapshot(ctx context.Context, p wal.Partition) (kv.Snapshot, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	v := &snapshot{s: s, p: p, root: s.DB.NewSnapshot()}
	err := v.readState()
	if err != nil {
		return nil, s.DB.ReadError("take snapshot", p, errors.Join(err, v.root.Close()))
	}
	s.Keep(v.root)
	return v, nil
}

func (v *snapshot) readState() error {
	row, c, err := v.root.Get(pebblestore.StateKey(v.p))
	if errors.Is(err, pebble.ErrNotFound) {
		v.state, err = v.s.DecodeState(nil)
		return err
	}
	if err != nil {
		return err
	}
	v.state, err = v.s.DecodeState(row)
	return errors.Join(err, c.Close())
}

// State implements kv.Snapshot.
func (v *snapshot) State() consumers.State { return v.state }

// Scan implements kv.Snapshot.
func (v *snapshot) Scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	if err := v.s.Enter(ctx, v.p); err != nil {
		return nil, err
	}
	defer v.s.Leave()
	w := walkOf(ctx, q)
	page, err := scan(v.root, w, q)
	if err != nil {
		return nil, v.s.DB.ReadError("scan", q.Partition, err)
	}
	return page, nil
}

// Close implements kv.Snapshot.
func (v *snapshot) Close() error {
	if !v.s.Drop(v.root) {
		return nil
	}
	defer v.s.Leave()
	return v.root.Close()
}
