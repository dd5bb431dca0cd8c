package clickhousets

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/ledger"
	"github.com/headwater-db/headwater/wal"
)

// Config says where a store is.
type Config struct {
	Ledger  ledger.Config            // its FS is the operating system's
	Cluster *clickhousestore.Cluster // has to have Table
	Dataset string                   // a name for people, in every row
}

// Store is a timeseries.Store: a ledger on this machine, the events in ClickHouse.
type Store struct {
	*ledger.Ledger
	rows *clickhousestore.Rows
	// deleted are what of each partition is hidden, as of its last commit.
	deleted []atomic.Pointer[deletions]
	looking atomic.Int64 // snapshots that are open
	blocks  atomic.Int64 // that were written
	// removals are of each partition, in the goroutine of its applier.
	removals []removal
}

var _ timeseries.Store = (*Store)(nil)

// Open opens the ledger in cfg.Ledger.Dir, and makes it if there is none, with rows of its own.
// It does not wait for ClickHouse.
func Open(cfg Config) (*Store, error) {
	rows, fresh, err := clickhousestore.OpenRows(cfg.Ledger.Dir, cfg.Cluster, Table, cfg.Dataset, cfg.Ledger.Partitions)
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(cfg.Ledger, "ledger of a time-series store in ClickHouse")
	if err != nil {
		return nil, err
	}
	if fresh { // it may be a copy, to be filled with what could be seen: of one with its events in it, or of one that hides some
		if err := errors.Join(l.DropEvents(context.Background()), l.DB.DropTables(tableDeletion)); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	s := &Store{Ledger: l, rows: rows, deleted: make([]atomic.Pointer[deletions], cfg.Ledger.Partitions), removals: make([]removal, cfg.Ledger.Partitions)}
	for p := range wal.Partition(cfg.Ledger.Partitions) {
		d, err := deletionsIn(l.DB.DB, p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read the deletions of partition %d: %w", p, err), l.Close())
		}
		s.deleted[p].Store(&d)
	}
	return s, nil
}

// LogEndsAt says where the log of a partition ends; see clickhousestore.Rows.
func (s *Store) LogEndsAt(p wal.Partition, end wal.Offset) { s.rows.LogEndsAt(p, end) }

// Blocks is how many blocks were written since the store was opened.
func (s *Store) Blocks() int64 { return s.blocks.Load() }

// Conflicts implements timeseries.Store: what is written is not compared with what is there.
func (s *Store) Conflicts() int64 { return 0 }

// Sweep implements timeseries.Store.
func (s *Store) Sweep(ctx context.Context, r *timeseries.SweepRequest) (timeseries.SweepResult, error) {
	var kept deletions
	res, err := s.Ledger.Sweep(ctx, r, func(_ *pebble.Batch, x timeseries.Slice) error {
		return s.rows.DropPartition(ctx, r.Partition, x.Start)
	}, func(sw *pebblestore.Sweep[consumers.State], _ timeseries.Slices, _ *timeseries.SweepResult) error {
		if len(*s.deleted[r.Partition].Load()) == 0 || s.looking.Load() > 0 { // a snapshot shows what was there
			return nil
		}
		gone, err := s.remove(ctx, r.Partition)
		if err == nil && len(gone) > 0 {
			kept, err = s.forget(sw.W, r.Partition, gone)
		}
		return err
	})
	if err == nil && kept != nil {
		s.deleted[r.Partition].Store(&kept)
	}
	return res, err
}

// snapshot is a timeseries.Snapshot: rows are never changed, so it is a position.
type snapshot struct {
	s       *Store
	p       wal.Partition
	state   consumers.State
	slices  timeseries.Slices
	deleted deletions
	closed  atomic.Bool
}

// Snapshot implements timeseries.Store. A slice that is dropped later is gone from it.
func (s *Store) Snapshot(ctx context.Context, p wal.Partition) (timeseries.Snapshot, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	s.looking.Add(1)
	root, v := s.DB.NewSnapshot(), &snapshot{s: s, p: p}
	var err error
	if v.state, err = s.StateIn(root, p); err == nil {
		v.slices, err = s.SlicesIn(root, p)
	}
	if err == nil {
		v.deleted, err = deletionsIn(root, p)
	}
	if err = errors.Join(err, root.Close()); err != nil {
		s.looking.Add(-1)
		return nil, s.DB.ReadError("take snapshot", p, err)
	}
	return v, nil
}

// State implements timeseries.Snapshot.
func (v *snapshot) State() consumers.State { return v.state }

// Close implements timeseries.Snapshot.
func (v *snapshot) Close() error {
	if !v.closed.Swap(true) {
		v.s.looking.Add(-1)
	}
	return nil
}

// Scan implements timeseries.Snapshot.
func (v *snapshot) Scan(ctx context.Context, open timeseries.OpenSlices, f func(in timeseries.Slice, e *timeseries.Event) error) error {
	if err := v.s.Enter(ctx, v.p); err != nil {
		return err
	}
	defer v.s.Leave()
	for _, x := range v.slices {
		if !open.Has(x) {
			continue
		}
		c := scan{s: v.s, p: v.p, applied: v.state.Applied, deleted: v.deleted, in: x, order: byKey, start: x.Start, end: x.End, first: mostRows}
		err := c.each(ctx, func(e *timeseries.Event) (bool, error) { return false, f(x, e) })
		if err != nil {
			return err
		}
	}
	return nil
}
