package pebblekv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// Phases of a sweep: the first byte of a cursor.
const (
	sweepRecords = 'r'
	sweepUploads = 'u'
)

// Stages of a record, in the order they are swept: its tombstones go last, when
// everything that they hide is gone.
const (
	stageItems = iota
	stageRanges
	stageSummary
)

// place is where a sweep goes on.
type place struct {
	phase byte
	key   []byte // of Pebble, the next to look at; nil is the first of the phase
	// Of a record that the last sweep was in the middle of:
	inRecord bool
	stage    byte
	left     bool // a range tombstone stays
	// horizon is the sweep's when it came to the record. A tombstone must be older
	// than that to go: a write that it hides may have come since to a place that
	// was passed, but none older than the horizon was then.
	horizon int64
}

const placeLen = 1 + 1 + 1 + 1 + 8

func (p *place) encode() []byte {
	b := append(make([]byte, 0, placeLen+len(p.key)), p.phase, 0, p.stage, 0)
	if p.inRecord {
		b[1] = 1
	}
	if p.left {
		b[3] = 1
	}
	return append(binary.BigEndian.AppendUint64(b, uint64(p.horizon)), p.key...)
}

func decodePlace(b []byte) (p place, err error) {
	if len(b) == 0 {
		return place{phase: sweepRecords}, nil
	}
	if len(b) < placeLen || (b[0] != sweepRecords && b[0] != sweepUploads) || b[2] > stageSummary {
		return p, fmt.Errorf("%w cursor of a sweep", wal.ErrMalformed)
	}
	p = place{phase: b[0], inRecord: b[1] == 1, stage: b[2], left: b[3] == 1}
	p.horizon = int64(binary.BigEndian.Uint64(b[4:]))
	p.key = bytes.Clone(b[placeLen:])
	return p, nil
}

// sweep is one call of Sweep. What it removes goes into one batch.
type sweep struct {
	*pebblestore.Sweep[kv.State]
	s     *Store
	part  *partition
	r     *kv.SweepRequest
	res   kv.SweepResult
	place place
}

// Sweep implements kv.Store. It removes nothing that a read at or after the
// request's LogTime could tell, and a tombstone only after all that it hides.
func (s *Store) Sweep(ctx context.Context, r *kv.SweepRequest) (kv.SweepResult, error) {
	sw := sweep{s: s, r: r}
	tokens, err := s.Ledger.Sweep(ctx, r.Partition, r.Horizon, r.Limit, sw.walk)
	if err != nil {
		return kv.SweepResult{}, err
	}
	sw.part.marks.sweptTo(sw.res.Cursor)
	sw.res.Tokens = int(tokens)
	return sw.res, nil
}

// walk looks at up to Limit keys.
func (sw *sweep) walk(shell *pebblestore.Sweep[kv.State]) (err error) {
	sw.Sweep, sw.part = shell, sw.s.parts[sw.r.Partition]
	if open := sw.part.open; open != nil && !open.Empty() {
		return errBatchOpen
	}
	if sw.place, err = decodePlace(sw.r.Cursor); err != nil {
		return err
	}
	sw.part.marks.sweepFrom(sw.r.Cursor)
	done, err := sw.phases()
	if !done {
		sw.res.Cursor = sw.place.encode()
	}
	sw.res.Looked = sw.Looked
	return err
}

// phases goes on from the place; done when it came to the end.
func (sw *sweep) phases() (done bool, err error) {
	if sw.place.phase == sweepRecords {
		if done, err = sw.records(); err != nil || !done {
			return false, err
		}
		sw.place = place{phase: sweepUploads}
	}
	return sw.uploads()
}

// settled reports whether a tombstone or expired item is of a time that nothing
// older can come from any more. The moment is spread over an eighth of the
// window, by key and version, so that tombstones of one moment do not go at
// one moment.
func (sw *sweep) settled(horizon int64, key, ver []byte) bool {
	spread := uint64(max(sw.r.LogTime-sw.r.Horizon, 0)) / 8
	jitter := int64((xxhash.Sum64(key) ^ xxhash.Sum64(ver)) % (spread + 1))
	return int64(binary.BigEndian.Uint64(ver)) < horizon-jitter
}

func (sw *sweep) delete(key []byte) error { return sw.W.Delete(key, nil) }

// records goes through the record table from its place.
func (sw *sweep) records() (done bool, err error) {
	lo, hi := pebblestore.Span(tableRecord, sw.r.Partition)
	view, err := sw.s.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	if sw.place.key == nil {
		sw.place.key = lo
	}
	ok := view.SeekGE(sw.place.key)
	if sw.place.inRecord {
		// Go on in it, even if its last key is gone.
		id, _, _, err := ledger.SplitRecordKey(sw.place.key)
		if err != nil {
			return false, fmt.Errorf("%w cursor of a sweep: %w", wal.ErrMalformed, err)
		}
		rs := recordSweep{sweep: sw, view: view, id: id}
		if rs.cov, err = openCover(view, sw.r.Partition, id); err != nil {
			return false, err
		}
		if done, err = rs.run(sw.place.key); err != nil || !done {
			return false, err
		}
		ok = view.Valid()
	}
	for ok {
		k := view.Key()
		id, kind, _, err := ledger.SplitRecordKey(k)
		if err != nil {
			return false, fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
		}
		sw.place = place{phase: sweepRecords, key: bytes.Clone(k), horizon: sw.r.Horizon}
		if sw.Room() <= 0 {
			return false, nil
		}
		rs := recordSweep{sweep: sw, view: view, id: bytes.Clone(id)}
		rs.cov = cover{view: view, p: sw.r.Partition, id: rs.id}
		from := sw.place.key
		if kind == kindSummary {
			v, err := view.ValueAndErr()
			if err != nil {
				return false, err
			}
			if rs.cov.sum, err = parseSummary(v); err != nil {
				return false, err
			}
		}
		if kind != kindItem {
			from = recordKey(sw.r.Partition, id, kindItem, 0)
		}
		sw.place.inRecord = true
		if done, err = rs.run(from); err != nil || !done {
			return false, err
		}
		ok = view.Valid()
	}
	return true, view.Error()
}

// recordSweep is the sweep of one record.
type recordSweep struct {
	*sweep
	view *pebble.Iterator
	id   []byte
	cov  cover
}

// run goes through the stages that are left, from a key of the first of them.
// When done, view is at the first key behind the record.
func (rs *recordSweep) run(from []byte) (done bool, err error) {
	defer func() { err = errors.Join(err, rs.cov.close()) }()
	if rs.cov.sum != (summary{}) {
		rs.part.marks.found(rs.id)
	}
	if rs.place.stage == stageItems {
		if done, err = rs.items(from); err != nil || !done {
			return false, err
		}
		if rs.cov.sum == (summary{}) {
			return true, nil
		}
		from = recordKey(rs.r.Partition, rs.id, kindRange, 0)
		rs.place.stage = stageRanges
	}
	if rs.place.stage == stageRanges {
		if rs.cov.sum.ranges != noVersion {
			if done, err = rs.ranges(from); err != nil || !done {
				return false, err
			}
		}
		rs.place.stage = stageSummary
	}
	if err := rs.summary(); err != nil {
		return false, err
	}
	rs.view.SeekGE(recordKey(rs.r.Partition, rs.id, kindEnd, 0))
	return true, rs.view.Error()
}

// each calls do with every key of a kind from a key on.
func (rs *recordSweep) each(kind byte, from []byte, do func(key, rest, value []byte) error) (done bool, err error) {
	prefix := recordKey(rs.r.Partition, rs.id, kind, 0)
	ok := rs.view.Valid() && bytes.Equal(rs.view.Key(), from) || rs.view.SeekGE(from)
	for ; ok; ok = rs.view.Next() {
		k := rs.view.Key()
		if !bytes.HasPrefix(k, prefix) {
			break
		}
		more, err := rs.Look()
		if err != nil {
			return false, err
		}
		if !more {
			rs.place.key = bytes.Clone(k)
			return false, nil
		}
		v, err := rs.view.ValueAndErr()
		if err != nil {
			return false, err
		}
		if err := do(k, k[len(prefix):], v); err != nil {
			return false, err
		}
	}
	return true, rs.view.Error()
}

// horizon is what the record's tombstones are judged by.
func (rs *recordSweep) horizon() int64 { return min(rs.place.horizon, rs.r.Horizon) }

func (rs *recordSweep) items(from []byte) (bool, error) {
	return rs.each(kindItem, from, func(k, key, raw []byte) error {
		c, err := parseCell(raw)
		if err != nil {
			return err
		}
		hidden, err := rs.cov.hides(key, raw)
		if err != nil {
			return err
		}
		switch ver := raw[:wal.VersionSize]; {
		case hidden:
			rs.res.Covered++
		case c.version.Class == wal.Deleted && rs.settled(rs.r.Horizon, k, ver):
			rs.res.Tombstones++
		case c.version.Expiry != 0 && c.version.Expiry <= rs.r.LogTime && c.version.Time < rs.r.Horizon:
			rs.res.Expired++
		default:
			return nil
		}
		return rs.delete(k)
	})
}

func (rs *recordSweep) ranges(from []byte) (bool, error) {
	return rs.each(kindRange, from, func(k, _, v []byte) error {
		f, err := parseFragment(nil, v)
		if err != nil {
			return err
		}
		if bytes.Compare(f.version[:], rs.cov.sum.record[:]) > 0 && !rs.settled(rs.horizon(), k, f.version[:]) {
			rs.place.left = true
			return nil
		}
		rs.res.Tombstones++
		return rs.delete(k)
	})
}

// summary writes what is left of the record's tombstones.
func (rs *recordSweep) summary() error {
	k := recordKey(rs.r.Partition, rs.id, kindSummary, 0)
	sum := rs.cov.sum
	if sum.record != noVersion && rs.settled(rs.horizon(), k, sum.record[:]) {
		sum.record = noVersion
		rs.res.Tombstones++
	}
	// A range may have been deleted since, behind the place that the sweep went on
	// from: then the newest range tombstone is not of a time that is settled.
	if gone := rs.settled(rs.horizon(), k, sum.ranges[:]) || bytes.Compare(sum.ranges[:], rs.cov.sum.record[:]) <= 0; gone && !rs.place.left {
		sum.ranges = noVersion
	}
	switch sum {
	case rs.cov.sum:
		return nil
	case summary{}:
		return rs.delete(k)
	}
	return rs.W.Set(k, sum.bytes(), nil)
}

// uploads frees stages that were given up and values that lost.
func (sw *sweep) uploads() (done bool, err error) {
	next, n, err := sw.s.SweepUploads(sw.Sweep, sw.r.Partition, sw.place.key, sw.lost, func(u *kv.StoredUpload) error {
		return dropChunks(sw.W, sw.r.Partition, u.ID)
	})
	sw.res.Uploads += n
	sw.place = place{phase: sweepUploads, key: next}
	return next == nil && err == nil, err
}

// lost reports whether nothing can lead to the upload any more.
func (sw *sweep) lost(u *kv.StoredUpload) (bool, error) {
	if !u.Committed {
		return u.Expiry <= sw.r.LogTime, nil
	}
	raw, err := sw.s.DB.Value(appendItemKey(nil, sw.r.Partition, u.Record, u.Key))
	if err != nil || raw == nil {
		return err == nil, err
	}
	c, err := parseCell(raw)
	return err == nil && c.UploadID() != u.ID, err
}
