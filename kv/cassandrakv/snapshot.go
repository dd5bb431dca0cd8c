package cassandrakv

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// snapshot is a kv.Snapshot that moves: Cassandra shows no moment. Its state is that of the last commit.
type snapshot struct {
	s     *Store
	state consumers.State
}

var _ kv.Moving = (*snapshot)(nil)

// Snapshot implements kv.Store.
func (s *Store) Snapshot(ctx context.Context, p wal.Partition) (kv.Snapshot, error) {
	st, err := s.State(ctx, p)
	if err != nil {
		return nil, err
	}
	return &snapshot{s, st}, nil
}

// State implements kv.Snapshot.
func (v *snapshot) State() consumers.State { return v.state }

// Scan implements kv.Snapshot.
func (v *snapshot) Scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	return v.s.Scan(ctx, q)
}

// Moves implements kv.Moving.
func (v *snapshot) Moves() {}

// Close implements kv.Snapshot.
func (v *snapshot) Close() error { return nil }
