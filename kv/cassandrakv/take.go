package cassandrakv

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// ErrForeignLedger: the ledger has what nobody has decided: it is a copy, or another namespace's.
var ErrForeignLedger = errors.New("the ledger is not one of this namespace")

// Take begins a partition of which other processes may have applied a part: the ledger goes on where it is, or, where that
// is below start, with the record at start; what others have decided above is repeated. at is what book says of the
// partition. Nothing of it is being applied. Durable with the next commit: a process that is killed before takes it again.
func (s *Store) Take(ctx context.Context, p wal.Partition, at *decisions.Standing, start wal.Offset, book *decisions.Book) error {
	st, err := s.State(ctx, p)
	if err != nil {
		return err
	}
	part := s.parts[p]
	part.known, part.sweptTo, part.shared = known{}, nil, wal.NoOffset
	if !at.Marked {
		return s.shareUploads(ctx, p)
	}
	if at.Foreign(&st) {
		return fmt.Errorf("%w: partition %d is applied to record %d in it, and decided up to %d", ErrForeignLedger, p, st.Applied, at.To)
	}
	if st.Follows { // it goes on where it is: the log is kept for it
		return nil
	}
	if st.Applied+1 < start {
		if err := s.beginAnew(ctx, p, &st, start); err != nil {
			return fmt.Errorf("begin partition %d at record %d: %w", p, start, err)
		}
	}
	gone := max(part.gone.Load(), at.Gone)
	if err := s.DB.Change(func(w *pebble.Batch) error { return setGone(w, p, gone) }); err != nil {
		return err
	}
	part.gone.Store(gone)
	part.unindexed = gone
	if _, life := s.Place(); life == at.Life { // else it is another store that has it
		part.shared = at.Applied
	}
	return book.Keep(ctx, s, p, st.Applied, at.Read)
}

// beginAnew has the partition go on with the record at start: tokens of before stay, which are true, and the
// rest is made again from the log, the marks and Cassandra.
func (s *Store) beginAnew(ctx context.Context, p wal.Partition, st *consumers.State, start wal.Offset) error {
	err := s.DB.Change(func(w *pebble.Batch) (err error) {
		for _, table := range []byte{pebblestore.TableParked, pebblestore.TableParkedRef, pebblestore.TableException, ledger.TableUpload, tableCache} {
			lo, hi := pebblestore.Span(table, p)
			err = errors.Join(err, w.DeleteRange(lo, hi, nil))
		}
		return err
	})
	if err != nil {
		return err
	}
	st.Applied, st.FirstException = start-1, start
	b := s.Ledger.Begin(p)
	defer b.Abort()
	err = s.eachShared(ctx, p, func(u *kv.StoredUpload) error {
		b.SaveUpload(u)
		return nil
	})
	if err != nil {
		return err
	}
	return b.Commit(ctx, *st)
}

// Gone implements decisions.Local.
func (s *Store) Gone(p wal.Partition) int64 { return s.parts[p].gone.Load() }
