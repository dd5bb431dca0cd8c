package cassandracounter

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// snapshot is that of the store on this machine, with windows that another process has published.
type snapshot struct {
	counter.Snapshot
	s   *Store
	p   wal.Partition
	ctx context.Context // of who took the snapshot, and reads it
}

// Snapshot implements counter.Store. It is good for as long as ctx.
func (s *Store) Snapshot(ctx context.Context, p wal.Partition) (counter.Snapshot, error) {
	v, err := s.Local.Snapshot(ctx, p)
	if err != nil {
		return nil, err
	}
	return &snapshot{v, s, p, ctx}, nil
}

// Windows implements counter.Snapshot.
func (v *snapshot) Windows(id uint64, size time.Duration, from, to int64, f func(start int64, b counter.Bucket) bool) error {
	if counter.LifeBegan(id) > v.s.Local.WholeFrom(v.p) {
		return v.Snapshot.Windows(id, size, from, to, f)
	}
	parts := counter.WindowParts{UpTo: v.State().Applied}
	// First those that are not published: what is, while they are read, is found by the second look.
	if err := v.s.Local.WindowParts(v.ctx, v.p, id, size, from, to, parts.Take); err != nil {
		return err
	}
	if err := v.s.of(v.p).windows(v.ctx, id, size, from, to, parts.Take); err != nil {
		return err
	}
	parts.Each(f)
	return nil
}
