package pebblecounter

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// snapshot is a counter.Snapshot: an iterator, and clones of it that see the
// same. It keeps up to three memtables and the files of its moment from being
// freed. Point reads move root; everything that calls back has a clone, so that
// a callback may read.
type snapshot struct {
	s     *Store
	p     wal.Partition
	root  *pebble.Iterator
	state counter.State
	key   []byte
}

// Snapshot implements counter.Store.
func (s *Store) Snapshot(ctx context.Context, p wal.Partition) (counter.Snapshot, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	root, err := s.DB.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, s.DB.ReadError("take snapshot", p, err)
	}
	v := &snapshot{s: s, p: p, root: root}
	var row []byte
	if _, err = seek(root, pebblestore.StateKey(p), func(b []byte) error { row = b; return nil }); err == nil {
		v.state, err = s.DecodeState(row)
	}
	if err != nil {
		return nil, s.DB.ReadError("take snapshot", p, errors.Join(err, root.Close()))
	}
	s.Keep(root)
	return v, nil
}

// State implements counter.Snapshot.
func (v *snapshot) State() counter.State { return v.state }

// point reads one key.
func (v *snapshot) point(what string, f func(b []byte) error) (found bool, err error) {
	if err := v.s.Enter(context.Background(), v.p); err != nil {
		return false, err
	}
	defer v.s.Leave()
	if v.root == nil {
		return false, errSnapshotClosed
	}
	found, err = seek(v.root, v.key, f)
	if err != nil {
		return false, v.s.DB.ReadError(what, v.p, err)
	}
	return found, nil
}

var errSnapshotClosed = errors.New("snapshot is closed")

// Counter implements counter.Snapshot.
func (v *snapshot) Counter(name []byte) (row counter.Row, ok bool, err error) {
	v.key = appendCounterKey(v.key[:0], v.p, name)
	ok, err = v.point("read counter", func(b []byte) error { return rowcodec.DecodeRow(b, &row) })
	return row, ok, err
}

// Base implements counter.Snapshot.
func (v *snapshot) Base(id uint64) (base counter.Base, err error) {
	v.key = appendIDKey(v.key[:0], tableBase, v.p, id)
	_, err = v.point("read base", func(b []byte) (err error) {
		base, err = decodeBase(b)
		return err
	})
	return base, err
}

// Events implements counter.Snapshot.
func (v *snapshot) Events(o wal.Offset) (row []byte, ok bool, err error) {
	v.key = appendEventsKey(v.key[:0], v.p, o)
	ok, err = v.point("read events", func(b []byte) error {
		row = b
		return nil
	})
	return row, ok, err
}

// scan calls f with the keys of lo <= key < hi in order, until it returns false
// or an error.
func (v *snapshot) scan(what string, lo, hi []byte, f func(key, value []byte) (bool, error)) (err error) {
	if err := v.s.Enter(context.Background(), v.p); err != nil {
		return err
	}
	defer v.s.Leave()
	if v.root == nil {
		return errSnapshotClosed
	}
	if bytes.Compare(lo, hi) >= 0 {
		return nil
	}
	it, err := v.root.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: lo, UpperBound: hi}})
	if err != nil {
		return v.s.DB.ReadError(what, v.p, err)
	}
	more := true
	for ok := it.First(); ok && more && err == nil; ok = it.Next() {
		var b []byte
		if b, err = it.ValueAndErr(); err == nil {
			more, err = f(it.Key(), b)
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return v.s.DB.ReadError(what, v.p, err)
	}
	return nil
}

// List implements counter.Snapshot. The row is the callback's to keep.
func (v *snapshot) List(prefix, after []byte, f func(name []byte, r *counter.Row) bool) error {
	lo := appendCounterKey(nil, v.p, prefix)
	hi := pebblestore.Successor(lo)
	if after != nil {
		// The smallest name above.
		if above := append(appendCounterKey(nil, v.p, after), 0); bytes.Compare(above, lo) > 0 {
			lo = above
		}
	}
	return v.scan("list counters", lo, hi, func(key, value []byte) (bool, error) {
		row := new(counter.Row)
		if err := rowcodec.DecodeRow(value, row); err != nil {
			return false, err
		}
		return f(key[tableLen:], row), nil
	})
}

// Windows implements counter.Snapshot. A size that no window can have is an
// error.
func (v *snapshot) Windows(id uint64, size time.Duration, from, to int64, f func(start int64, b counter.Bucket) bool) error {
	seconds, err := windowSeconds(size)
	if err != nil {
		return err
	}
	lo := appendWindowKey(nil, v.p, id, seconds, from)
	hi := appendWindowKey(nil, v.p, id, seconds, to)
	return v.scan("read windows", lo, hi, func(key, value []byte) (bool, error) {
		if len(key) != windowLen {
			return false, errBadKey
		}
		b, err := rowcodec.DecodeWindow(value)
		if err != nil {
			return false, err
		}
		return f(windowStart(key), b), nil
	})
}

// EventsFrom implements counter.Snapshot.
func (v *snapshot) EventsFrom(o wal.Offset, f func(o wal.Offset, row []byte) bool) error {
	_, hi := pebblestore.Span(tableEvents, v.p)
	lo := appendEventsKey(nil, v.p, max(o, 0))
	return v.scan("read events", lo, hi, func(key, value []byte) (bool, error) {
		if len(key) != offsetLen {
			return false, errBadKey
		}
		return f(eventsOffset(key), value), nil
	})
}

// Close implements counter.Snapshot. A second one does nothing.
func (v *snapshot) Close() error {
	if v.root == nil || !v.s.Drop(v.root) {
		return nil
	}
	defer v.s.Leave()
	root := v.root
	v.root = nil
	if err := root.Close(); err != nil {
		return v.s.DB.ReadError("close snapshot", v.p, err)
	}
	return nil
}
