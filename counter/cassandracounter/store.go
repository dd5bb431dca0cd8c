package cassandracounter

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Local is the store on this machine; see pebblecounter.Shared.
type Local interface {
	counter.SharedStore
	KeepRows(ctx context.Context, p wal.Partition, rows []consumers.ExceptionRow) error
	FirstException(ctx context.Context, p wal.Partition) (wal.Offset, error)
	Unpublished(ctx context.Context, p wal.Partition) (counter.Unpublished, error)
	Publish(ctx context.Context, p wal.Partition, marks []counter.Mark, upTo wal.Offset) error
	Published(p wal.Partition) wal.Offset
	WholeFrom(p wal.Partition) wal.Offset
	WindowParts(ctx context.Context, p wal.Partition, id uint64, size time.Duration, from, to int64, f func(w *counter.WindowPart)) error
	BeginAnew(ctx context.Context, p wal.Partition, at counter.Beginning, from counter.Copied) error
}

// Config says where a store is.
type Config struct {
	Local      Local
	Dir        string // of Local
	Partitions int
	Cluster    *cassandrastore.Cluster // has to have Tables
	Dataset    string                  // a name for people, in every row
	// Life names the rows where several directories share them; empty: they are this directory's alone, and its name is
	// made with it.
	Life string
	// Yield, where it is set, is asked before each piece that Publish sends: it returns when there is nothing more urgent to do.
	Yield func(ctx context.Context)
}

// Store is a counter.SharedStore: Local, and what is published of it.
type Store struct {
	Local
	rows  *cassandrastore.Rows
	yield func(ctx context.Context)
}

var (
	_ counter.SharedStore = (*Store)(nil)
	_ decisions.Local     = (*Store)(nil)
)

// New returns the store of cfg.Local, which it closes. It does not wait for Cassandra.
func New(cfg Config) (*Store, error) {
	r, _, err := cassandrastore.OpenRows(cfg.Dir, cfg.Cluster, cfg.Dataset, cfg.Life)
	if err == nil {
		err = clusterstore.NotePartitions(cfg.Dir, partitionsFile, cfg.Partitions)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Yield == nil {
		cfg.Yield = func(context.Context) {}
	}
	return &Store{Local: cfg.Local, rows: r, yield: cfg.Yield}, nil
}

func (s *Store) of(p wal.Partition) *rows { return &rows{s.rows, p} }

// Place names the rows of the store; see NewReader.
func (s *Store) Place() (dataset, life string) {
	return s.rows.Dataset, hex.EncodeToString(s.rows.Life)
}

// Gone implements decisions.Local: no counter has versions.
func (s *Store) Gone(wal.Partition) int64 { return 0 }

// ErrForeignLedger: the store on this machine has what nobody has decided: it is a copy, or another namespace's.
var ErrForeignLedger = errors.New("the store is not one of this namespace")

// Take begins a partition of which other processes may have applied a part: the store on this machine goes on where it
// is, or, where that is below start, with what is published and the record at start; what others have decided above is
// repeated. at is what book says of the partition. Nothing of it is being applied. Durable with the next commit: a process
// that is killed before takes it again.
func (s *Store) Take(ctx context.Context, p wal.Partition, at *decisions.Standing, start wal.Offset, book *decisions.Book) error {
	st, err := s.Local.State(ctx, p)
	switch {
	case err != nil:
		return err
	case !at.Marked && st.Applied+1 < start:
		return fmt.Errorf("partition %d: nobody has decided records 0 to %d of it, and the log begins at %d", p, start-1, start)
	case !at.Marked:
		return nil
	case at.Foreign(&st):
		return fmt.Errorf("%w: partition %d is applied to record %d in it, and decided up to %d", ErrForeignLedger, p, st.Applied, at.To)
	}
	if st.Applied+1 < start {
		begin := counter.Beginning{Start: start, Covered: wal.NoOffset, WholeFrom: at.To}
		if _, life := s.Place(); life == at.Life {
			begin.Covered = at.Applied
		}
		if err := s.Local.BeginAnew(ctx, p, begin, s.of(p)); err != nil {
			return fmt.Errorf("begin partition %d at record %d: %w", p, start, err)
		}
		st.Applied = start - 1
	}
	return book.Keep(ctx, s, p, st.Applied, at.Read)
}
