package clickhousets

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/ledger"
	"github.com/headwater-db/headwater/wal"
)

// Config says where a store is.
type Config struct {
	Ledger  ledger.Config // its FS is the operating system's
	Cluster *Cluster
	Dataset string // a name for people, in every row
}

// Store is a timeseries.Store: a ledger on this machine, the events in ClickHouse.
type Store struct {
	*ledger.Ledger
	cluster *Cluster
	dataset string
	life    string // of the store; no two have one
	session string // of this opening
	// deleted are what of each partition is hidden, as of its last commit.
	deleted []atomic.Pointer[deletions]
	looking atomic.Int64 // snapshots that are open
	blocks  atomic.Int64 // that were written
	// removals and ends are of each partition, in the goroutine of its applier.
	removals []removal
	ends     []logEnd
}

var _ timeseries.Store = (*Store)(nil)

// placeFile is in the directory of the ledger, and names the rows that belong to it.
const placeFile = "CLICKHOUSE"

// Open opens the ledger in cfg.Ledger.Dir, and makes it if there is none, with rows of its own.
// It does not wait for ClickHouse.
func Open(cfg Config) (*Store, error) {
	at, err := readPlace(cfg.Ledger.Dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case fresh:
		at, err = newPlace(cfg.Ledger.Dir, cfg.Cluster.cfg.Name)
	case err == nil && at.cluster != cfg.Cluster.cfg.Name:
		err = fmt.Errorf("its rows are in cluster %s", at.cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store of events in cluster %s: %w", cfg.Cluster.cfg.Name, err)
	}
	l, err := ledger.Open(cfg.Ledger, "ledger of a time-series store in ClickHouse")
	if err != nil {
		return nil, err
	}
	if fresh { // it may be a copy of one that has its events in it
		if err := l.DropEvents(context.Background()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	session := make([]byte, 8)
	if _, err := rand.Read(session); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s := &Store{Ledger: l, cluster: cfg.Cluster, dataset: cfg.Dataset, life: at.life, session: hex.EncodeToString(session), deleted: make([]atomic.Pointer[deletions], cfg.Ledger.Partitions)}
	s.removals, s.ends = make([]removal, cfg.Ledger.Partitions), make([]logEnd, cfg.Ledger.Partitions)
	for p := range wal.Partition(cfg.Ledger.Partitions) {
		d, err := deletionsIn(l.DB.DB, p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read the deletions of partition %d: %w", p, err), l.Close())
		}
		s.deleted[p].Store(&d)
	}
	return s, nil
}

// place says which rows belong to a ledger.
type place struct{ life, cluster string }

// readPlace reads the place of the ledger in dir. fs.ErrNotExist: it has none.
func readPlace(dir string) (at place, err error) {
	name := filepath.Join(dir, placeFile)
	b, err := os.ReadFile(name)
	if err != nil {
		return at, err
	}
	var ok bool
	at.life, at.cluster, ok = strings.Cut(strings.TrimSuffix(string(b), "\n"), " ")
	if raw, err := hex.DecodeString(at.life); err != nil || len(raw) != 16 || !ok {
		return at, fmt.Errorf("%w: %s does not name the rows of a store", wal.ErrCorrupt, name)
	}
	return at, nil
}

// newPlace gives the ledger in dir rows that no other has.
func newPlace(dir, cluster string) (place, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return place{}, err
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return place{}, err
	}
	at := place{hex.EncodeToString(raw), cluster}
	return at, writeSynced(filepath.Join(dir, placeFile), at.life+" "+at.cluster+"\n")
}

// ClusterOf is the name of the cluster that has the rows of the ledger in dir, "" where dir
// is no ledger of this package.
func ClusterOf(dir string) (string, error) {
	at, err := readPlace(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return at.cluster, err
}

// writeSynced writes a small file that is there as a whole or not at all.
func writeSynced(name, content string) (err error) {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Forget removes the rows that belong to the ledger in dir, before the directory is removed.
// It does nothing where there are none.
func (c *Cluster) Forget(ctx context.Context, dir string) error {
	at, err := readPlace(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s := &Store{cluster: c, life: at.life}
	q := &statement{}
	q.WriteString("SELECT DISTINCT part, slice FROM " + table + " WHERE store = " + q.param("String", at.life))
	type partition struct {
		part  uint32
		slice int64
	}
	var all []partition
	err = s.rows(ctx, "list the partitions of a store", q, nil, func(r rowScanner) error {
		var x partition
		err := r.Scan(&x.part, &x.slice)
		all = append(all, x)
		return err
	})
	for _, x := range all {
		err = errors.Join(err, s.dropPartition(ctx, wal.Partition(x.part), x.slice))
	}
	return err
}

// dropPartition removes what is in a slice. Its name is made of a life, which is hex, and
// of numbers.
func (s *Store) dropPartition(ctx context.Context, p wal.Partition, start int64) error {
	q := &statement{}
	q.addf("ALTER TABLE "+table+" DROP PARTITION ('%s', %d, %d)", s.life, p, start)
	return s.exec(ctx, "drop a slice", q, nil)
}

// Blocks is how many blocks were written since the store was opened.
func (s *Store) Blocks() int64 { return s.blocks.Load() }

// Conflicts implements timeseries.Store: what is written is not compared with what is there.
func (s *Store) Conflicts() int64 { return 0 }

// Sweep implements timeseries.Store.
func (s *Store) Sweep(ctx context.Context, r *timeseries.SweepRequest) (timeseries.SweepResult, error) {
	var kept deletions
	res, err := s.Ledger.Sweep(ctx, r, func(_ *pebble.Batch, x timeseries.Slice) error {
		return s.dropPartition(ctx, r.Partition, x.Start)
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
func (v *snapshot) Scan(ctx context.Context, open func(timeseries.Slice) bool, f func(in timeseries.Slice, e *timeseries.Event) error) error {
	if err := v.s.Enter(ctx, v.p); err != nil {
		return err
	}
	defer v.s.Leave()
	for _, x := range v.slices {
		if !open(x) {
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
