package pebblets

import (
	"bytes"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// An event that comes with other items than it has changes nothing, and is counted. Looking each
// event up would cost more than writing it. Most are newer than all of their series, and need
// no look: example: a sensor's readings come in order, and only what it sends again is looked
// up.

// mostFronts is how many series of a partition are remembered.
const mostFronts = 100_000

// front is how far the series of a partition reach: the time of the newest event of each, or
// later. In the goroutine of the partition's applier.
type front map[string]int64

// mostNewer is how many newer slices are looked at for the newest event of a series.
const mostNewer = 4

// mayBeThere reports whether there may be an event of a series at t, and notes that there is one
// now.
func (b *batch) mayBeThere(in timeseries.Slice, series []byte, t int64) bool {
	f := b.s.fronts[b.p]
	newest, known := f[string(series)]
	if !known {
		var ok bool
		if newest, ok = b.newest(in, series); !ok {
			return true // too much to look at
		}
		if len(f) >= mostFronts {
			clear(f)
		}
	}
	if !known || t > newest {
		f[string(series)] = max(t, newest)
	}
	return t <= newest
}

// newest is the time of the newest event of a series, in the slice in or a newer one; ok is false
// where it cannot be told cheaply.
func (b *batch) newest(in timeseries.Slice, series []byte) (t int64, ok bool) {
	all := b.s.Slices(b.p)
	lo, hi := pebblestore.Span(tableEvent, b.p)
	it, err := b.s.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return 0, false // the commit meets it again
	}
	defer func() { ok = it.Close() == nil && ok }()
	t = math.MinInt64
	for i := len(all) - 1; i >= 0 && all[i].Start >= in.Start; i-- {
		if len(all)-i > mostNewer {
			return 0, false
		}
		prefix := appendSeries(nil, b.p, all[i].Start, series)
		it.SetBounds(prefix, pebblestore.Successor(prefix))
		if it.First() {
			if _, _, at, _, good := splitEvent(it.Key()); good {
				return at, true
			}
		}
	}
	return t, it.Error() == nil
}

// added are the events of a batch, which the store does not know yet.
type added struct {
	bytes []byte // keys and items, one behind the other
	ends  []addedEnd
	at    map[uint64]int32 // hash of a key -> its last place in ends
}

type addedEnd struct {
	begin, key, items int
	before            int32 // the place of an earlier one of the same hash; -1: none
}

func (a *added) add(key, items []byte) {
	if a.at == nil {
		a.at = make(map[uint64]int32)
	}
	h, before := xxhash.Sum64(key), int32(-1)
	if i, ok := a.at[h]; ok {
		before = i
	}
	begin := len(a.bytes)
	a.bytes = append(append(a.bytes, key...), items...)
	a.ends = append(a.ends, addedEnd{begin, begin + len(key), len(a.bytes), before})
	a.at[h] = int32(len(a.ends) - 1)
}

// of are the items of the events of a key, the first that was added first, from a place on.
func (a *added) of(key []byte, from int) (all [][]byte) {
	i, ok := a.at[xxhash.Sum64(key)]
	for ; ok && int(i) >= from; i = a.ends[i].before {
		if e := &a.ends[i]; bytes.Equal(a.bytes[e.begin:e.key], key) {
			all = append(all, a.bytes[e.key:e.items])
		}
	}
	slices.Reverse(all)
	return all
}

func (a *added) reset() {
	a.bytes, a.ends = a.bytes[:0], a.ends[:0]
	clear(a.at)
}

// look counts an event that differs from what is there.
func (b *batch) look(in timeseries.Slice, series []byte, t int64, key, items []byte) {
	if b.mayBeThere(in, series, t) {
		differs, err := b.differs(series, key, items)
		b.SetErr(err)
		if differs {
			b.conflicts++
		}
	}
	b.added.add(key, items)
}

// differs reports whether the event of a key has one of the items with another value.
func (b *batch) differs(series, key, items []byte) (_ bool, err error) {
	var there []byte
	from, deleted := b.deleted[string(series)]
	if !deleted {
		_, err = b.s.DB.View(key, func(v []byte) error { there = bytes.Clone(v); return nil })
	}
	for _, later := range b.added.of(key, from) {
		if err == nil {
			there, err = timeseries.MergeItems(nil, there, later)
		}
	}
	if err != nil {
		return false, err
	}
	if b.items, err = timeseries.DecodeItems(b.items[:0], there); err != nil {
		return false, err
	}
	if b.others, err = timeseries.DecodeItems(b.others[:0], items); err != nil {
		return false, err
	}
	e := timeseries.Event{Items: b.items}
	for i := range b.others {
		it := &b.others[i]
		if v := e.Item(it.Key); v != nil && !v.Same(&it.Value) {
			return true, nil
		}
	}
	return false, nil
}

// newFronts are those of all partitions.
func newFronts(partitions int) []front {
	all := make([]front, partitions)
	for p := range wal.Partition(partitions) {
		all[p] = make(front)
	}
	return all
}
