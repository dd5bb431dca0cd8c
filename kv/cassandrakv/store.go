package cassandrakv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// Config says where a store is.
type Config struct {
	Ledger  ledger.Config           // its FS is the operating system's
	Cluster *cassandrastore.Cluster // has to have Tables
	Dataset string                  // a name for people, in every row
	// Life names the rows where several directories share them; empty: they are this directory's alone, and
	// its name is made with it.
	Life string
}

// Store is a kv.Store: a ledger on this machine, the items in Cassandra.
type Store struct {
	*ledger.Ledger
	*reader
	parts []*partition
	cache atomic.Pointer[cache] // nil: it is off

	// onRead and onWritten are of tests: after a miss has read Cassandra, and after a commit has written it.
	onRead, onWritten func()
}

var (
	_ kv.Store        = (*Store)(nil)
	_ consumers.Ahead = (*Store)(nil)
	_ decisions.Local = (*Store)(nil)
)

// partition is what is kept in memory of a partition, beside its ledger.
type partition struct {
	// gone is the largest time of a delete, or of a write that ends, that was committed.
	gone atomic.Int64
	// unindexed is the largest time that a row of the index was deleted at.
	unindexed int64
	known     known
	sweptTo   []byte // the record of the index that the last sweep ended with; nil: it came round
	touched   touched
	// shared is up to where Cassandra has everything, as another process has told: what is applied again below
	// changes the ledger alone.
	shared wal.Offset
}

func newParts(n int) []*partition {
	all := make([]*partition, n)
	for i := range all {
		all[i] = &partition{shared: wal.NoOffset}
	}
	return all
}

// The tables of the ledger that only this store has.
const (
	tableGone    = 'g'
	tableDecided = 'd'
)

// Open opens the ledger in cfg.Ledger.Dir, and makes it if there is none, with rows of its own in Cassandra.
// It does not wait for Cassandra.
func Open(cfg Config) (*Store, error) {
	rows, fresh, err := cassandrastore.OpenRows(cfg.Ledger.Dir, cfg.Cluster, cfg.Dataset, cfg.Life)
	if err != nil {
		return nil, err
	}
	if err := clusterstore.NotePartitions(cfg.Ledger.Dir, partitionsFile, cfg.Ledger.Partitions); err != nil {
		return nil, err
	}
	l, err := ledger.Open(cfg.Ledger, "ledger of a kv store in Cassandra")
	if err != nil {
		return nil, err
	}
	s := &Store{Ledger: l, reader: newReader(rows, cfg.Ledger.Partitions), parts: newParts(cfg.Ledger.Partitions)}
	if fresh { // it may be a copy of one that has its items in it
		err = errors.Join(l.DropItems(context.Background()), s.emptyCache(false))
	}
	for p := range wal.Partition(cfg.Ledger.Partitions) {
		if err == nil {
			err = s.loadGone(p, fresh)
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// loadGone reads the time of the newest delete. A copy of another store's ledger does not tell: then it is
// that of the newest write.
func (s *Store) loadGone(p wal.Partition, fresh bool) error {
	row, err := s.DB.Value(pebblestore.AppendTable(nil, tableGone, p))
	if err != nil {
		return err
	}
	t := int64(0)
	switch {
	case len(row) == 8:
		t = int64(binary.BigEndian.Uint64(row))
	case row != nil:
		return fmt.Errorf("%w: the time of the newest delete of partition %d", wal.ErrCorrupt, p)
	case fresh:
		st, err := s.State(context.Background(), p)
		if err != nil {
			return err
		}
		t = st.MaxTime
	}
	s.parts[p].gone.Store(t)
	s.parts[p].unindexed = t
	return nil
}

// Decided implements consumers.Ahead.
func (s *Store) Decided(ctx context.Context, p wal.Partition) (consumers.Decided, error) {
	to, err := s.decidedTo(ctx, p)
	return consumers.Decided{To: to}, err
}

func (s *Store) decidedTo(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	if err := s.Enter(ctx, p); err != nil {
		return wal.NoOffset, err
	}
	defer s.Leave()
	row, err := s.DB.Value(pebblestore.AppendTable(nil, tableDecided, p))
	switch {
	case err != nil:
		return wal.NoOffset, s.DB.ReadError("read what was decided", p, err)
	case row == nil:
		return wal.NoOffset, nil
	case len(row) != 8:
		return wal.NoOffset, s.DB.ReadError("read what was decided", p, fmt.Errorf("%w: up to where it was decided", wal.ErrCorrupt))
	}
	return wal.Offset(binary.BigEndian.Uint64(row)), nil
}

// LogEndsAt says, before anything is applied, where the log of a partition ends. What was decided of records
// that it does not hold is of a log that was lost: other records will have their offsets.
func (s *Store) LogEndsAt(p wal.Partition, end wal.Offset) {
	ctx := context.Background()
	to, err := s.decidedTo(ctx, p)
	if err == nil && to >= end {
		var lost []wal.Offset
		err = s.Exceptions(ctx, p, end, to+1, func(o wal.Offset, _ []byte) error {
			lost = append(lost, o)
			return nil
		})
		if err == nil {
			err = s.decide(ctx, p, end-1, func(w *pebble.Batch) (err error) {
				for _, o := range lost {
					err = errors.Join(err, pebblestore.DeleteException(w, p, o))
				}
				return err
			})
		}
	}
	if err != nil && !errors.Is(err, consumers.ErrClosed) {
		s.DB.Fail(fmt.Errorf("forget what was decided of a log that was lost: %w", err))
	}
}

// Decide implements consumers.Ahead: what can be decided again is not saved.
func (s *Store) Decide(ctx context.Context, p wal.Partition, d *consumers.Decisions) error {
	if !d.Looked {
		return nil
	}
	return s.decide(ctx, p, d.To, func(w *pebble.Batch) error { return pebblestore.SetExceptions(w, p, d.Rows) })
}

// decide saves up to where a partition is decided, with what change does to its exceptions.
func (s *Store) decide(ctx context.Context, p wal.Partition, o wal.Offset, change func(w *pebble.Batch) error) error {
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	err := s.DB.Change(func(w *pebble.Batch) error {
		return errors.Join(w.Set(pebblestore.AppendTable(nil, tableDecided, p), binary.BigEndian.AppendUint64(nil, uint64(o)), nil), change(w))
	})
	if err != nil {
		return err
	}
	return s.DB.Sync()
}

// uploadsOf are the uploads of a partition that the ledger knows.
func (s *Store) uploadsOf(p wal.Partition) (all []kv.UploadID, err error) {
	err = s.EachUpload(p, func(u *kv.StoredUpload) error {
		all = append(all, u.ID)
		return nil
	})
	return all, err
}

func setGone(w *pebble.Batch, p wal.Partition, t int64) error {
	return w.Set(pebblestore.AppendTable(nil, tableGone, p), binary.BigEndian.AppendUint64(nil, uint64(t)), nil)
}

// blob is b as CQL takes it: an empty value is not null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
