package pebblecounter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// maxSingles is up to how many windows of a retired id are deleted one by one.
// More are one range deletion of Pebble's, which every read of the memtable pays
// for, so that a sweep over ids with few windows must not make one for each.
const maxSingles = 64

// sweep is one call of Sweep. What it removes goes into one batch.
type sweep struct {
	*pebblestore.Sweep[counter.State]
	s       *Store
	r       *counter.SweepRequest
	windows *pebble.Iterator // opened when it is needed
	res     counter.SweepResult
}

// sweepTables is the tables that a sweep goes through, in the order of their
// keys. A cursor is the key to look at next.
var sweepTables = [...]byte{tableRetired, tableGone, tableEnded}

// Sweep implements counter.Store. Token entries go by the bucket, when all of it
// is from before Horizon, and are not counted as keys looked at.
func (s *Store) Sweep(ctx context.Context, r *counter.SweepRequest) (counter.SweepResult, error) {
	sw := &sweep{s: s, r: r}
	tokens, err := s.ledger.Sweep(ctx, r.Partition, r.Horizon, r.Limit, sw.walk)
	if err != nil {
		return counter.SweepResult{}, err
	}
	sw.res.Tokens = int(tokens)
	return sw.res, nil
}

// decodeCursor returns the key that a sweep goes on from.
func decodeCursor(p wal.Partition, cursor []byte) ([]byte, error) {
	if cursor == nil {
		return pebblestore.AppendTable(nil, sweepTables[0], p), nil
	}
	for _, table := range sweepTables {
		if lo, hi := pebblestore.Span(table, p); bytes.Compare(lo, cursor) <= 0 && bytes.Compare(cursor, hi) < 0 {
			return cursor, nil
		}
	}
	return nil, fmt.Errorf("%w cursor of a sweep", wal.ErrMalformed)
}

// walk looks at up to Limit keys.
func (sw *sweep) walk(shell *pebblestore.Sweep[counter.State]) (err error) {
	sw.Sweep = shell
	place, err := decodeCursor(sw.r.Partition, sw.r.Cursor)
	if err != nil {
		return err
	}
	for _, table := range sweepTables {
		lo, hi := pebblestore.Span(table, sw.r.Partition)
		if bytes.Compare(place, hi) >= 0 {
			continue
		}
		if bytes.Compare(lo, place) < 0 {
			lo = place
		}
		if table == tableGone { // those that can go lie in front
			hi = appendGoneKey(hi[:0], sw.r.Partition, sw.State.Folded+1, 0)
		}
		if bytes.Compare(lo, hi) >= 0 {
			continue
		}
		if sw.res.Cursor, err = sw.table(table, lo, hi); err != nil || sw.res.Cursor != nil {
			break
		}
	}
	sw.res.Looked = sw.Looked
	if sw.windows != nil {
		err = errors.Join(err, sw.windows.Close())
	}
	return err
}

// table goes through one table from lo; next is where it stopped, nil at the end.
func (sw *sweep) table(table byte, lo, hi []byte) (next []byte, err error) {
	it, err := sw.s.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if more, err := sw.Look(); err != nil {
			return nil, err
		} else if !more {
			return bytes.Clone(it.Key()), nil
		}
		switch table {
		case tableRetired:
			err = sw.retired(it)
		case tableGone:
			err = sw.gone(it.Key())
		case tableEnded:
			err = sw.ended(it)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, it.Error()
}

// retired frees the windows of an id, and its base if all its events are in it.
// An id whose base must stay goes to another table, where it waits for the fold
// and is not looked at before.
func (sw *sweep) retired(it *pebble.Iterator) error {
	k := it.Key()
	if len(k) != idLen {
		return errBadKey
	}
	b, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	at, err := decodeRetired(b)
	if err != nil {
		return err
	}
	id := binary.BigEndian.Uint64(k[tableLen:])
	if err := errors.Join(sw.freeWindows(id), sw.W.Delete(k, nil)); err != nil {
		return err
	}
	if at > sw.State.Folded {
		return sw.W.Set(appendGoneKey(nil, sw.r.Partition, at, id), pebblestore.AppendVersion(nil), nil)
	}
	return sw.freeBase(id)
}

// gone frees the base of an id that was retired at or below folded.
func (sw *sweep) gone(k []byte) error {
	if len(k) != goneLen {
		return errBadKey
	}
	return errors.Join(sw.freeBase(binary.BigEndian.Uint64(k[goneLen-8:])), sw.W.Delete(k, nil))
}

func (sw *sweep) freeBase(id uint64) error {
	sw.res.Retired++
	return sw.W.Delete(appendIDKey(nil, tableBase, sw.r.Partition, id), nil)
}

func (sw *sweep) freeWindows(id uint64) (err error) {
	if sw.windows == nil {
		lo, hi := pebblestore.Span(tableWindow, sw.r.Partition)
		if sw.windows, err = sw.s.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi}); err != nil {
			return err
		}
	}
	lo := appendIDKey(nil, tableWindow, sw.r.Partition, id)
	room := min(maxSingles, sw.Room())
	n := 0
	for ok := sw.windows.SeekGE(lo); ok && bytes.HasPrefix(sw.windows.Key(), lo); ok = sw.windows.Next() {
		if n == room { // the deletes of those before are in vain
			return sw.W.DeleteRange(lo, pebblestore.Successor(lo), nil)
		}
		n++
		sw.Looked++
		if err := sw.W.Delete(sw.windows.Key(), nil); err != nil {
			return err
		}
	}
	return sw.windows.Error()
}

// ended frees a reservation that nothing can ask for any more.
func (sw *sweep) ended(it *pebble.Iterator) error {
	k := it.Key()
	if len(k) != tokenIDLen {
		return errBadKey
	}
	b, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	v, err := rowcodec.DecodeReservation(wal.TokenID(k[tableLen:]), b)
	if err != nil || v.EndedAt >= sw.r.Horizon {
		return err
	}
	sw.res.Reservations++
	return sw.W.Delete(k, nil)
}
