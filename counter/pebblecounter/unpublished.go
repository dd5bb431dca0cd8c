package pebblecounter

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// The kinds of marks, behind the table's key.
const (
	ofCounter     = 'c'
	ofRetired     = 'd'
	ofReservation = 'r'
	ofWindow      = 'w'

	markLen       = tableLen + 1
	windowPartLen = markLen + 8 + 4 + 8 + 8
)

// appendWindowPartKey is the mark of what a record adds to a bucket.
func appendWindowPartKey(dst []byte, p wal.Partition, id uint64, seconds uint32, start int64, o wal.Offset) []byte {
	dst = append(pebblestore.AppendTable(dst, tableUnpublished, p), ofWindow)
	dst = binary.BigEndian.AppendUint64(dst, id)
	dst = binary.BigEndian.AppendUint32(dst, seconds)
	dst = binary.BigEndian.AppendUint64(dst, uint64(start)^1<<63)
	return binary.BigEndian.AppendUint64(dst, uint64(o))
}

// unpublished is a counter.Unpublished.
type unpublished struct{ *snapshot }

// Unpublished is what is to be published of a partition, as of its last commit. Close it.
func (s *Shared) Unpublished(ctx context.Context, p wal.Partition) (counter.Unpublished, error) {
	v, err := s.Store.Snapshot(ctx, p)
	if err != nil {
		return nil, err
	}
	return &unpublished{v.(*snapshot)}, nil
}

// each calls f with the marks of a kind: what is behind its key, and the value.
func (u *unpublished) each(ctx context.Context, kind byte, f func(key []byte, m counter.Mark) error) error {
	lo := append(pebblestore.AppendTable(nil, tableUnpublished, u.p), kind)
	n := 0
	var stop error
	err := u.scan("read what is to be published", lo, pebblestore.Successor(lo), func(key, value []byte) (bool, error) {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			stop = context.Cause(ctx)
			return false, nil
		}
		stop = f(key[markLen:], counter.Mark{Key: key, Value: value})
		return stop == nil, nil
	})
	return errors.Join(err, stop)
}

// Windows implements counter.Unpublished.
func (u *unpublished) Windows(ctx context.Context, f func(w *counter.WindowPart, m counter.Mark) error) error {
	return u.each(ctx, ofWindow, func(key []byte, m counter.Mark) error {
		w, err := decodeWindowPart(key, m.Value)
		if err != nil {
			return err
		}
		return f(&w, m)
	})
}

func decodeWindowPart(key, value []byte) (w counter.WindowPart, err error) {
	if len(key) != windowPartLen-markLen {
		return w, errBadKey
	}
	w.ID, w.Size = binary.BigEndian.Uint64(key), time.Duration(binary.BigEndian.Uint32(key[8:]))*time.Second
	w.Start, w.At = int64(binary.BigEndian.Uint64(key[12:])^1<<63), wal.Offset(binary.BigEndian.Uint64(key[20:]))
	w.Bucket, err = rowcodec.DecodeWindow(value)
	return w, err
}

// Counters implements counter.Unpublished.
func (u *unpublished) Counters(ctx context.Context, f func(name []byte, r *counter.Row, m counter.Mark) error) error {
	return u.each(ctx, ofCounter, func(key []byte, m counter.Mark) error {
		row, ok, err := u.Counter(key)
		if err != nil {
			return err
		}
		if !ok {
			return f(key, nil, m)
		}
		return f(key, &row, m)
	})
}

// Reservations implements counter.Unpublished. One that was freed meanwhile is left out.
func (u *unpublished) Reservations(ctx context.Context, f func(v *counter.Reservation, m counter.Mark) error) error {
	return u.each(ctx, ofReservation, func(key []byte, m counter.Mark) error {
		var id wal.TokenID
		if copy(id[:], key); len(key) != len(id) {
			return errBadKey
		}
		var v counter.Reservation
		ok := false
		for _, table := range []byte{tableHeld, tableEnded} {
			u.key = appendTokenKey(u.key[:0], table, u.p, &id)
			found, err := u.point("read a reservation", func(b []byte) (err error) {
				v, err = rowcodec.DecodeReservation(id, b)
				return err
			})
			if err != nil {
				return err
			}
			if ok = found; ok {
				break
			}
		}
		if !ok {
			v = counter.Reservation{ID: id}
		}
		return f(&v, m)
	})
}

// Retired implements counter.Unpublished.
func (u *unpublished) Retired(ctx context.Context, f func(id uint64, m counter.Mark) error) error {
	return u.each(ctx, ofRetired, func(key []byte, m counter.Mark) error {
		if len(key) != 8 {
			return errBadKey
		}
		return f(binary.BigEndian.Uint64(key), m)
	})
}

// WindowParts calls f with what is to be published of the windows of size of an id, from from up to to, in the
// order of their starts.
func (s *Shared) WindowParts(ctx context.Context, p wal.Partition, id uint64, size time.Duration, from, to int64, f func(w *counter.WindowPart)) (err error) {
	seconds, err := windowSeconds(size)
	if err != nil {
		return err
	}
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	it, err := s.DB.NewIter(&pebble.IterOptions{
		LowerBound: appendWindowPartKey(nil, p, id, seconds, from, 0), UpperBound: appendWindowPartKey(nil, p, id, seconds, to, 0),
	})
	if err != nil {
		return s.DB.ReadError("read windows", p, err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		var w counter.WindowPart
		if w, err = decodeWindowPart(it.Key()[markLen:], v); err == nil {
			f(&w)
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return s.DB.ReadError("read windows", p, err)
	}
	return nil
}
