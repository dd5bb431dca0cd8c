package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

// maxOverlap is how many fragments a new range tombstone is merged with in one
// layer before it goes to the next. A layer is only needed above maxOverlap
// fragments of the one below, so a handful is all there ever is.
const maxOverlap = 64

// fragment is a range tombstone as it is stored. Fragments of a layer do not
// overlap.
type fragment struct {
	start, end []byte
	open       bool // no end
	version    [wal.VersionSize]byte
}

// endsBy reports whether nothing of f lies at or above key.
func (f *fragment) endsBy(key []byte) bool { return !f.open && bytes.Compare(f.end, key) <= 0 }

// beyond reports whether f reaches above the end of r.
func (f *fragment) beyond(r *kv.Range) bool {
	return !r.Open && (f.open || bytes.Compare(f.end, r.End) > 0)
}

func (f *fragment) value() []byte {
	v := make([]byte, 0, wal.VersionSize+1+len(f.end))
	v = append(v, f.version[:]...)
	if f.open {
		return append(v, 1)
	}
	return append(append(v, 0), f.end...)
}

// parseFragment reads a fragment; its slices point into start and value.
func parseFragment(start, value []byte) (f fragment, err error) {
	if len(value) < wal.VersionSize+1 || value[wal.VersionSize] > 1 {
		return f, fmt.Errorf("%w: range tombstone of %d bytes", wal.ErrCorrupt, len(value))
	}
	f.start = start
	copy(f.version[:], value)
	f.open = value[wal.VersionSize] == 1
	f.end = value[wal.VersionSize+1:]
	return f, nil
}

func (f *fragment) clone() fragment {
	c := *f
	c.start, c.end = bytes.Clone(f.start), bytes.Clone(f.end)
	return c
}

// layerKey is the key of the fragment that starts at start.
func layerKey(p wal.Partition, id []byte, layer byte, start []byte) []byte {
	k := recordKey(p, id, kindRange, 1+len(start))
	return append(append(k, layer), start...)
}

// DeleteRecord implements kv.Batch: one blind write, and where newest allows to
// free the space a look at how much there is.
func (b *batch) DeleteRecord(id []byte, v wal.Version, newest bool) {
	if !b.ready(id) {
		return
	}
	b.setErrIf(b.deleteRecord(id, v, newest))
}

// DeleteRange implements kv.Batch.
func (b *batch) DeleteRange(id []byte, r kv.Range, v wal.Version, newest bool) {
	if !b.ready(id) || r.Empty() {
		return
	}
	if len(r.Start) == 0 && r.Open {
		b.setErrIf(b.deleteRecord(id, v, newest))
		return
	}
	b.setErrIf(b.deleteRange(id, &r, v, newest))
}

func (b *batch) setErrIf(err error) {
	if err != nil {
		b.SetErr(pebblefail.Corrupt(err))
	}
}

// begin readies the tombstone batch for a record. Pebble must be open while it is
// read.
func (b *batch) begin(id []byte) error {
	if err := b.s.Enter(context.Background(), b.p.id); err != nil {
		return err
	}
	b.Removes = true
	b.p.marks.mark(id)
	if b.tombs == nil {
		b.tombs = b.s.DB.NewIndexedBatch()
	}
	return nil
}

func (b *batch) deleteRecord(id []byte, v wal.Version, newest bool) error {
	if err := b.begin(id); err != nil {
		return err
	}
	defer b.s.Leave()
	s := summary{record: v.Bytes()}
	if err := b.tombs.Merge(recordKey(b.p.id, id, kindSummary, 0), s.bytes(), nil); err != nil {
		return err
	}
	if !newest {
		return nil
	}
	return b.forget(id, &kv.Range{Open: true})
}

func (b *batch) deleteRange(id []byte, r *kv.Range, v wal.Version, newest bool) error {
	if err := b.begin(id); err != nil {
		return err
	}
	defer b.s.Leave()
	sumKey := recordKey(b.p.id, id, kindSummary, 0)
	old, err := b.summary(sumKey)
	if err != nil {
		return err
	}
	ver := v.Bytes()
	if bytes.Compare(old.record[:], ver[:]) >= 0 {
		return nil // the whole record is deleted as of later
	}
	f := fragment{start: r.Start, end: r.End, open: r.Open, version: ver}
	if err := b.addFragment(id, r, &f, bytes.Compare(ver[:], old.ranges[:]) > 0); err != nil {
		return err
	}
	s := summary{ranges: ver}
	if err := b.tombs.Merge(sumKey, s.bytes(), nil); err != nil {
		return err
	}
	if !newest {
		return nil
	}
	return b.forget(id, r)
}

// summary reads through the tombstones of this batch.
func (b *batch) summary(key []byte) (s summary, err error) {
	v, c, err := b.tombs.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s, err = parseSummary(v)
	return s, errors.Join(err, c.Close())
}

// forget remembers that r has nothing that anybody sees, and frees its space.
func (b *batch) forget(id []byte, r *kv.Range) error {
	if len(b.gone) == 2*maxGone {
		b.gone = b.p.gone.kept(b.gone)
	}
	b.gone = append(b.gone, b.p.gone.begin(id, r))
	return b.freeItems(id, r)
}

// freeItems deletes the items of a span from Pebble, in the order of the calls:
// what is put later in the batch stays. It is for the space and for the reads
// that would have to skip them; the tombstone hides them already.
func (b *batch) freeItems(id []byte, r *kv.Range) error {
	lo := append(recordKey(b.p.id, id, kindItem, len(r.Start)), r.Start...)
	hi := recordKey(b.p.id, id, kindEnd, 0)
	if !r.Open {
		hi = append(recordKey(b.p.id, id, kindItem, len(r.End)), r.End...)
	}
	size, err := b.s.DB.EstimateDiskUsage(lo, hi)
	if err != nil || size < freeBytes {
		return err
	}
	return b.W.DeleteRange(lo, hi, nil)
}

// addFragment puts the range tombstone f, which is r, into the first layer where
// it overlaps few enough. newest says that no fragment of the record is newer.
func (b *batch) addFragment(id []byte, r *kv.Range, f *fragment, newest bool) error {
	for layer := 0; layer < 256; layer++ {
		frags, err := b.overlapping(id, byte(layer), r)
		if err != nil {
			return err
		}
		if len(frags) <= maxOverlap {
			return b.mergeFragment(id, byte(layer), r, f, frags)
		}
		if newest {
			return b.replaceFragments(id, byte(layer), r, f, frags[0])
		}
	}
	return errors.New("range tombstones are 256 layers deep")
}

// overlapping returns the fragments of a layer that overlap r, at most one more
// than maxOverlap.
func (b *batch) overlapping(id []byte, layer byte, r *kv.Range) (frags []fragment, err error) {
	lo := layerKey(b.p.id, id, layer, nil)
	hi := recordKey(b.p.id, id, kindItem, 0)
	if layer < 255 {
		hi = layerKey(b.p.id, id, layer+1, nil)
	}
	it, err := b.tombs.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	// The one that starts below r may reach into it.
	ok := it.SeekLT(layerKey(b.p.id, id, layer, r.Start))
	if !ok {
		ok = it.First()
	}
	for ; ok && len(frags) <= maxOverlap; ok = it.Next() {
		f, err := parseFragment(it.Key()[len(lo):], it.Value())
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		if f.endsBy(r.Start) {
			continue
		}
		if !r.Open && bytes.Compare(f.start, r.End) >= 0 {
			break
		}
		frags = append(frags, f.clone())
	}
	return frags, it.Close()
}

// mergeFragment makes the layer the maximum of what is there, frags, and f.
func (b *batch) mergeFragment(id []byte, layer byte, r *kv.Range, f *fragment, frags []fragment) error {
	var pieces []fragment
	cur, done := r.Start, false
	for i := range frags {
		g := &frags[i]
		if bytes.Compare(g.version[:], f.version[:]) >= 0 {
			if bytes.Compare(cur, g.start) < 0 {
				pieces = append(pieces, fragment{start: cur, end: g.start, version: f.version})
			}
			if bytes.Compare(cur, g.end) < 0 {
				cur = g.end
			}
			done = g.open
			continue
		}
		if err := b.tombs.Delete(layerKey(b.p.id, id, layer, g.start), nil); err != nil {
			return err
		}
		pieces = append(pieces, remainders(g, r)...)
	}
	if !done && (r.Open || bytes.Compare(cur, r.End) < 0) {
		pieces = append(pieces, fragment{start: cur, end: r.End, open: r.Open, version: f.version})
	}
	return b.setFragments(id, layer, pieces)
}

// remainders returns what is left of g outside r.
func remainders(g *fragment, r *kv.Range) (left []fragment) {
	if bytes.Compare(g.start, r.Start) < 0 {
		left = append(left, fragment{start: g.start, end: r.Start, version: g.version})
	}
	if g.beyond(r) {
		left = append(left, fragment{start: r.End, end: g.end, open: g.open, version: g.version})
	}
	return left
}

// replaceFragments puts f over many fragments that are all older, at a cost that
// does not depend on their number. first is the first that overlaps.
func (b *batch) replaceFragments(id []byte, layer byte, r *kv.Range, f *fragment, first fragment) error {
	pieces := append(remainders(&first, r), *f)
	lo := layerKey(b.p.id, id, layer, first.start)
	hi := recordKey(b.p.id, id, kindItem, 0)
	if layer < 255 {
		hi = layerKey(b.p.id, id, layer+1, nil)
	}
	if !r.Open {
		hi = layerKey(b.p.id, id, layer, r.End)
		it, err := b.tombs.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
		if err != nil {
			return err
		}
		if it.Last() {
			last, err := parseFragment(it.Key()[len(lo)-len(first.start):], it.Value())
			if err != nil {
				return errors.Join(err, it.Close())
			}
			if last.beyond(r) {
				last = last.clone()
				pieces = append(pieces, fragment{start: r.End, end: last.end, open: last.open, version: last.version})
			}
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	if err := b.tombs.DeleteRange(lo, hi, nil); err != nil {
		return err
	}
	return b.setFragments(id, layer, pieces)
}

func (b *batch) setFragments(id []byte, layer byte, frags []fragment) error {
	for i := range frags {
		if err := b.tombs.Set(layerKey(b.p.id, id, layer, frags[i].start), frags[i].value(), nil); err != nil {
			return err
		}
	}
	return nil
}
