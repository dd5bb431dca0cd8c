package counter

import "github.com/cespare/xxhash/v2"

// table finds counters by name: open addressing with linear probing, the hash
// beside the pointer. A counter that was not touched lately is not in the CPU's
// cache, and waiting for memory is most of what an add to one of 100,000
// counters costs; lookup therefore does the adds of a record step by step, so that
// the waits of one step go on side by side. Looking up changes nothing, so
// readers may do it at the same time.
type table struct {
	slots []slot // a power of two, at most 3/4 full
	n     int
}

type slot struct {
	hash uint64
	h    *hot // nil: empty
}

const minSlots = 64

// home is where a name's probe begins. The low bits of the hash are those that
// chose the partition: all names of a table share them.
func home(hash uint64) uint64 { return hash >> 24 }

func newTable() table { return table{slots: make([]slot, minSlots)} }

// lookup finds the counters of names; found[i] is that of names[i], or nil.
// hashes is scratch of the same length.
func (t *table) lookup(names [][]byte, hashes []uint64, found []*hot) (touched int64) {
	mask := uint64(len(t.slots) - 1)
	for i, n := range names {
		hashes[i] = xxhash.Sum64(n)
	}
	for i, hash := range hashes {
		found[i] = nil
		if s := &t.slots[home(hash)&mask]; s.hash == hash {
			found[i] = s.h
		}
	}
	for _, h := range found {
		if h != nil { // its three or four cache lines
			touched += h.row.Value + int64(h.row.LastEvent) + h.open[0].Start + h.open[2].Start
		}
	}
	for i, h := range found {
		if h == nil || h.name != string(names[i]) {
			found[i] = t.find(names[i], hashes[i])
		}
	}
	return touched
}

// get returns the counter of a name, or nil.
func (t *table) get(name []byte) *hot { return t.find(name, xxhash.Sum64(name)) }

func (t *table) find(name []byte, hash uint64) *hot {
	mask := uint64(len(t.slots) - 1)
	for i := home(hash) & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.h == nil {
			return nil
		}
		if s.hash == hash && s.h.name == string(name) {
			return s.h
		}
	}
}

// put adds a counter that is not there.
func (t *table) put(h *hot) {
	if t.n++; t.n*4 > len(t.slots)*3 {
		old := t.slots
		t.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.h != nil {
				t.place(s)
			}
		}
	}
	t.place(slot{xxhash.Sum64String(h.name), h})
}

func (t *table) place(s slot) {
	mask := uint64(len(t.slots) - 1)
	i := home(s.hash) & mask
	for t.slots[i].h != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

// remove takes a counter out and moves those that it had pushed on back, so that
// no probe ends too early.
func (t *table) remove(h *hot) {
	mask := uint64(len(t.slots) - 1)
	i := home(xxhash.Sum64String(h.name)) & mask
	for t.slots[i].h != h {
		if t.slots[i].h == nil {
			return
		}
		i = (i + 1) & mask
	}
	t.n--
	for j := i; ; {
		t.slots[i] = slot{}
		for {
			j = (j + 1) & mask
			if t.slots[j].h == nil {
				return
			}
			// One whose home is after the gap, up to its place, stays.
			if (j-home(t.slots[j].hash))&mask >= (j-i)&mask {
				break
			}
		}
		t.slots[i] = t.slots[j]
		i = j
	}
}
