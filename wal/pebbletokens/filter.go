package pebbletokens

import (
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/headwater-db/headwater/wal"
)

const (
	filterBitsPerEntry = 12
	filterBlockWords   = 4 // of 64 bits: 256 bits are a block, half a cache line
	firstSegment       = 1 << 12
	lastSegment        = 1 << 24
)

// filter answers "never seen" for identities without a look into the store: a split
// block Bloom filter (one bit in each of eight 32-bit lanes of one block; about
// 0.5 % false positives when full) that grows by segments. Adding is done under
// mu, asking without a lock.
type filter struct {
	budget *atomic.Int64
	// complete: an identity that is not in the filter is not in the bucket. It becomes
	// true after the last segment it stands for is there, and false before they go.
	complete atomic.Bool
	segments atomic.Pointer[[]*segment]

	mu     sync.Mutex
	closed bool // guarded by mu: out of budget, or evicted
}

type segment struct {
	words    []atomic.Uint64
	entries  int // guarded by the filter's mu
	capacity int
}

func (g *segment) bytes() int64 { return int64(len(g.words) * 8) }

func idHash(n *wal.TokenID) uint64 { return xxhash.Sum64(n[:]) }

// salts spread the lower half of a hash over the eight lanes of a block.
var salts = [8]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

func masks(h uint64) (m [filterBlockWords]uint64) {
	x := uint32(h)
	for i := range m {
		m[i] = 1<<(x*salts[2*i]>>27) | 1<<(32+x*salts[2*i+1]>>27)
	}
	return m
}

func (g *segment) block(h uint64) []atomic.Uint64 {
	blocks := uint64(len(g.words) / filterBlockWords)
	i := (h >> 32) * blocks >> 32 * filterBlockWords
	return g.words[i : i+filterBlockWords]
}

func (g *segment) has(h uint64) bool {
	m := masks(h)
	b := g.block(h)
	for i := range m {
		if b[i].Load()&m[i] != m[i] {
			return false
		}
	}
	return true
}

// mayHave reports whether an identity of hash h may be in the bucket.
func (f *filter) mayHave(h uint64) bool {
	if !f.complete.Load() {
		return true
	}
	if segs := f.segments.Load(); segs != nil {
		for _, g := range *segs {
			if g.has(h) {
				return true
			}
		}
	}
	// Where it was given up in between, the segments were gone already.
	return !f.complete.Load()
}

// add makes mayHave(h) true.
func (f *filter) add(h uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.roomLocked()
	if g == nil {
		return
	}
	m := masks(h)
	b := g.block(h)
	for i := range m {
		if b[i].Load()&m[i] != m[i] {
			b[i].Or(m[i])
		}
	}
	g.entries++
}

// roomLocked returns the segment to add to, nil when there is no memory for one:
// then the filter is given up, and look-ups go to the store.
func (f *filter) roomLocked() *segment {
	if f.closed {
		return nil
	}
	var segs []*segment
	if p := f.segments.Load(); p != nil {
		segs = *p
	}
	capacity := firstSegment
	if n := len(segs); n > 0 {
		last := segs[n-1]
		if last.entries < last.capacity {
			return last
		}
		capacity = min(last.capacity*4, lastSegment)
	}
	g := &segment{capacity: capacity}
	words := capacity * filterBitsPerEntry / 64
	if f.budget.Add(-int64(words*8)) < 0 {
		f.budget.Add(int64(words * 8))
		f.giveUpLocked()
		return nil
	}
	g.words = make([]atomic.Uint64, words)
	grown := append(segs[:len(segs):len(segs)], g)
	f.segments.Store(&grown)
	return g
}

func (f *filter) giveUpLocked() {
	f.closed = true
	f.complete.Store(false)
	if segs := f.segments.Swap(nil); segs != nil {
		for _, g := range *segs {
			f.budget.Add(g.bytes())
		}
	}
}

// drop gives the memory back when the bucket is gone.
func (f *filter) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giveUpLocked()
}

// rebuilt says that everything in the store is in the filter now.
func (f *filter) rebuilt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.complete.Store(true)
	}
}
