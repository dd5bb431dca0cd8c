package pebblecounter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// maxSingles is up to how many windows of a retired id are deleted one by one.
// More are one range deletion of Pebble's, which every read of the memtable pays
// for, so that a sweep over ids with few windows must not make one for each.
const maxSingles = 64

// sweep is one call of Sweep. What it removes goes into one batch.
type sweep struct {
	ctx context.Context
	s   *Store
	r   *counter.SweepRequest
	w   *pebble.Batch
	res counter.SweepResult
}

// phases of a sweep, by the table they go through. A cursor is the key to look
// at next.
var sweepTables = [...]byte{tableRetired, tableEnded}

// Sweep implements counter.Store. Token entries go by the bucket, when all of it
// is from before Horizon, and are not counted as keys looked at.
func (s *Store) Sweep(ctx context.Context, r *counter.SweepRequest) (counter.SweepResult, error) {
	part, err := s.enter(ctx, r.Partition)
	if err != nil {
		return counter.SweepResult{}, err
	}
	defer s.leave()
	if err := s.fail.Err(); err != nil {
		return counter.SweepResult{}, err
	}
	place, err := decodeCursor(r.Partition, r.Cursor)
	if err != nil {
		return counter.SweepResult{}, fmt.Errorf("sweep: partition %d: %w", r.Partition, err)
	}
	part.writing.Lock()
	defer part.writing.Unlock()
	sw := &sweep{ctx: ctx, s: s, r: r, w: s.db.NewBatch()}
	lost, err := sw.run(part, place)
	if !lost {
		err = errors.Join(err, sw.w.Close())
	}
	if err != nil {
		return counter.SweepResult{}, s.readError("sweep", r.Partition, err)
	}
	return sw.res, nil
}

// decodeCursor returns the key that a sweep goes on from.
func decodeCursor(p wal.Partition, cursor []byte) ([]byte, error) {
	if cursor == nil {
		return appendTable(nil, sweepTables[0], p), nil
	}
	for _, table := range sweepTables {
		if lo, hi := tableSpan(table, p); bytes.Compare(lo, cursor) <= 0 && bytes.Compare(cursor, hi) < 0 {
			return cursor, nil
		}
	}
	return nil, fmt.Errorf("%w cursor of a sweep", wal.ErrMalformed)
}

// run looks at up to Limit keys and commits what it found. lost: the batch must
// not be touched any more.
func (sw *sweep) run(part *partition, place []byte) (lost bool, err error) {
	for _, table := range sweepTables {
		lo, hi := tableSpan(table, part.id)
		if bytes.Compare(place, hi) >= 0 {
			continue
		}
		if bytes.Compare(lo, place) < 0 {
			lo = place
		}
		if sw.res.Cursor, err = sw.table(table, lo, hi); err != nil {
			return false, err
		}
		if sw.res.Cursor != nil {
			break
		}
	}
	change := sw.s.tokens.NewChange(part.id)
	buckets, entries, err := change.Evict(sw.w, sw.r.Horizon)
	if err != nil || (buckets == 0 && sw.w.Empty()) {
		change.Discard()
		return false, err
	}
	sw.res.Tokens = int(entries)
	return sw.s.apply(part, sw.w, change, part.state.Load())
}

// table goes through one table from lo; next is where it stopped, nil at the end.
func (sw *sweep) table(table byte, lo, hi []byte) (next []byte, err error) {
	it, err := sw.s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if sw.res.Looked >= max(sw.r.Limit, 1) {
			return bytes.Clone(it.Key()), nil
		}
		if sw.res.Looked++; sw.res.Looked%checkEvery == 0 && sw.ctx.Err() != nil {
			return nil, context.Cause(sw.ctx)
		}
		if table == tableRetired {
			err = sw.retired(it.Key())
		} else {
			err = sw.ended(it)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, it.Error()
}

// retired frees the windows and the base of an id.
func (sw *sweep) retired(key []byte) error {
	if len(key) != idLen {
		return errBadKey
	}
	id := binary.BigEndian.Uint64(key[tableLen:])
	sw.res.Retired++
	return errors.Join(sw.windows(id), sw.w.Delete(appendIDKey(nil, tableBase, sw.r.Partition, id), nil), sw.w.Delete(key, nil))
}

func (sw *sweep) windows(id uint64) (err error) {
	lo := appendIDKey(nil, tableWindow, sw.r.Partition, id)
	hi := successor(lo)
	it, err := sw.s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	room := min(maxSingles, max(sw.r.Limit, 1)-sw.res.Looked)
	var keys []byte
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n >= room {
			return sw.w.DeleteRange(lo, hi, nil)
		}
		n++
		sw.res.Looked++
		keys = append(keys, it.Key()...)
	}
	if err := it.Error(); err != nil {
		return err
	}
	if len(keys) != n*windowLen {
		return errBadKey
	}
	for ; len(keys) > 0; keys = keys[windowLen:] {
		if err := sw.w.Delete(keys[:windowLen], nil); err != nil {
			return err
		}
	}
	return nil
}

// ended frees a reservation that nothing can ask for any more.
func (sw *sweep) ended(it *pebble.Iterator) error {
	k := it.Key()
	if len(k) != nonceLen {
		return errBadKey
	}
	b, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	v, err := decodeReservation(wal.Nonce(k[tableLen:]), b)
	if err != nil || v.EndedAt >= sw.r.Horizon {
		return err
	}
	sw.res.Reservations++
	return sw.w.Delete(k, nil)
}
