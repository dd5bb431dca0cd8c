package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

const exceptionLen = TableLen + 8

// appendExceptionKey is for offsets from 0.
func appendExceptionKey(dst []byte, p wal.Partition, o wal.Offset) []byte {
	return binary.BigEndian.AppendUint64(AppendTable(dst, TableException, p), uint64(o))
}

// SetException puts the exceptions of a record into w, for a store that saves them before its batch.
func SetException(w *pebble.Batch, p wal.Partition, o wal.Offset, row []byte) error {
	return w.Set(appendExceptionKey(nil, p, o), row, nil)
}

// DeleteException is SetException of a record that has none.
func DeleteException(w *pebble.Batch, p wal.Partition, o wal.Offset) error {
	return w.Delete(appendExceptionKey(nil, p, o), nil)
}

// SaveException implements consumers.Batch.
func (b *Batch[S, E]) SaveException(o wal.Offset, row []byte) {
	if !b.Ready() {
		return
	}
	if o < 0 {
		b.SetErr(fmt.Errorf("exception of offset %d", o))
		return
	}
	b.excepts = true
	op := b.W.SetDeferred(exceptionLen, len(row))
	appendExceptionKey(op.Key[:0], b.p, o)
	copy(op.Value, row)
	b.SetErr(op.Finish())
}

// TrimExceptions implements consumers.Batch: one range deletion, or none where
// there is nothing to delete.
func (b *Batch[S, E]) TrimExceptions(before wal.Offset) {
	if !b.Ready() || before <= 0 {
		return
	}
	lo, hi := appendExceptionKey(nil, b.p, 0), appendExceptionKey(nil, b.p, before)
	some := b.excepts
	if !some {
		err := b.s.Exceptions(context.Background(), b.p, 0, before, func(wal.Offset, []byte) error {
			some = true
			return errStop
		})
		if err != nil && !errors.Is(err, errStop) {
			b.SetErr(err)
			return
		}
	}
	if some {
		b.SetErr(b.W.DeleteRange(lo, hi, nil))
	}
}

var errStop = errors.New("stop")

// Exceptions implements consumers.Ledger. It keeps up to three memtables and the
// files of its moment from being freed until it returns.
func (s *Store[S, E]) Exceptions(
	ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset, row []byte) error,
) error {
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	if from = max(from, 0); from >= to {
		return nil
	}
	var stop error
	err := s.DB.Range(appendExceptionKey(nil, p, from), appendExceptionKey(nil, p, to), func(it *pebble.Iterator) error {
		if ctx.Err() != nil {
			stop = context.Cause(ctx)
			return stop
		}
		k := it.Key()
		if len(k) != exceptionLen {
			return fmt.Errorf("%w: key of an exception of %d bytes", wal.ErrCorrupt, len(k))
		}
		row, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		stop = f(wal.Offset(binary.BigEndian.Uint64(k[TableLen:])), row)
		return stop
	})
	switch {
	case stop != nil:
		return stop
	case err != nil:
		return s.DB.ReadError("read exceptions", p, err)
	}
	return nil
}

// KeepRows saves exceptions, which survive kill -9 with the next commit.
func (s *Store[S, E]) KeepRows(ctx context.Context, p wal.Partition, rows []consumers.ExceptionRow) error {
	if len(rows) == 0 {
		return nil
	}
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	return s.DB.Change(func(w *pebble.Batch) error { return SetExceptions(w, p, rows) })
}

// SetExceptions is SetException of many.
func SetExceptions(w *pebble.Batch, p wal.Partition, rows []consumers.ExceptionRow) (err error) {
	for _, r := range rows {
		err = errors.Join(err, SetException(w, p, r.Offset, r.Row))
	}
	return err
}

// FirstException is as in consumers.State.
func (s *Store[S, E]) FirstException(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	st, err := s.State(ctx, p)
	return st.FirstException, err
}
