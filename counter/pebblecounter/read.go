package pebblecounter

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// checkEvery is how many keys are looked at between two looks at the context.
const checkEvery = 1024

// Counters implements counter.Store. All rows are of one moment. It goes through
// the names in the order of the keys, with one iterator.
func (s *Store) Counters(ctx context.Context, p wal.Partition, names [][]byte, rows []counter.Row, found []bool) error {
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	var err error
	if len(names) == 1 {
		rows[0] = counter.Row{}
		found[0], err = s.DB.View(appendCounterKey(nil, p, names[0]), func(v []byte) error { return rowcodec.DecodeRow(v, &rows[0]) })
	} else if len(names) > 0 {
		err = s.counters(ctx, p, names, rows, found)
	}
	if err != nil {
		return s.DB.ReadError("read counters", p, err)
	}
	return nil
}

func (s *Store) counters(ctx context.Context, p wal.Partition, names [][]byte, rows []counter.Row, found []bool) (err error) {
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(names[a], names[b]) })
	it, err := s.iter(tableCounter, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var key []byte
	for n, i := range order {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		key = appendCounterKey(key[:0], p, names[i])
		rows[i] = counter.Row{}
		if found[i], err = seek(it, key, func(v []byte) error { return rowcodec.DecodeRow(v, &rows[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// seek calls f with the value of exactly key.
func seek(it *pebble.Iterator, key []byte, f func(v []byte) error) (found bool, err error) {
	if !it.SeekPrefixGE(key) || !bytes.Equal(it.Key(), key) {
		return false, it.Error()
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return false, err
	}
	return true, f(v)
}

// iter opens an iterator over a partition's keys of a table.
func (s *Store) iter(table byte, p wal.Partition) (*pebble.Iterator, error) {
	lo, hi := pebblestore.Span(table, p)
	return s.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi, UseL6Filters: true})
}

// Reservation implements counter.Store. It looks among the held ones first: one
// that ends between the two looks is found by the second.
func (s *Store) Reservation(ctx context.Context, p wal.Partition, id wal.TokenID) (v counter.Reservation, ok bool, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return v, false, err
	}
	defer s.Leave()
	for _, table := range []byte{tableHeld, tableEnded} {
		ok, err = s.DB.View(appendTokenKey(make([]byte, 0, tokenIDLen), table, p, &id), func(b []byte) (err error) {
			v, err = rowcodec.DecodeReservation(id, b)
			return err
		})
		if err != nil {
			return counter.Reservation{}, false, s.DB.ReadError("read reservation", p, err)
		}
		if ok {
			break
		}
	}
	return v, ok, nil
}

// HeldReservations implements counter.Store. An error of f is returned as it is.
func (s *Store) HeldReservations(ctx context.Context, p wal.Partition, f func(*counter.Reservation) error) error {
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	var stop error
	n := 0
	err := s.DB.Each(tableHeld, p, func(it *pebble.Iterator) error {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			stop = context.Cause(ctx)
			return stop
		}
		k := it.Key()
		if len(k) != tokenIDLen {
			return errBadKey
		}
		b, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		v, err := rowcodec.DecodeReservation(wal.TokenID(k[tableLen:]), b)
		if err != nil {
			return err
		}
		stop = f(&v)
		return stop
	})
	switch {
	case stop != nil:
		return stop
	case err != nil:
		return s.DB.ReadError("read held reservations", p, err)
	}
	return nil
}
