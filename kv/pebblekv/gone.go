package pebblekv

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/kv"
)

// How many deletes a partition remembers, and of one record.
const (
	maxGone         = 256
	maxGoneOfRecord = 16
)

// gone are the last deletes of ranges and records in a partition, in memory, each
// with the keys that were put into it since. Example: a record of a million items is
// deleted and read at once. Pebble's memtable still has the million, and a page would
// step over each of them; a reader that knows the delete goes to the keys that were put
// since. Only a delete that was the newest of the partition is here: nothing older can
// come back into its range. A delete that was forgotten costs the reader those steps.
type gone struct {
	n  atomic.Int32 // spans; none saves the lock
	mu sync.Mutex
	// Guarded by mu:
	of    map[string][]*span // by record id
	order []*span            // oldest first
}

// span is the range of one delete. Guarded by gone's mu but for id and r, which do
// not change.
type span struct {
	id      string
	r       kv.Range
	live    bool // it is committed
	dropped bool // it is forgotten: puts are not noted any more
	put     bool // something was put into it since,
	lo, hi  []byte
}

func contains(r *kv.Range, key []byte) bool {
	return bytes.Compare(r.Start, key) <= 0 && (r.Open || bytes.Compare(key, r.End) < 0)
}

// within reports whether all of a is in b.
func within(a, b *kv.Range) bool {
	return bytes.Compare(b.Start, a.Start) <= 0 && (b.Open || !a.Open && bytes.Compare(a.End, b.End) <= 0)
}

// begin remembers a delete that is about to be committed. Puts that come behind it
// are noted from here on.
func (g *gone) begin(id []byte, r *kv.Range) *span {
	s := &span{id: string(id), r: kv.Range{Start: bytes.Clone(r.Start), End: bytes.Clone(r.End), Open: r.Open}}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of == nil {
		g.of = make(map[string][]*span)
	}
	if len(g.order) == maxGone {
		g.drop(g.order[0])
	}
	if of := g.of[s.id]; len(of) == maxGoneOfRecord {
		g.drop(of[0])
	}
	g.of[s.id] = append(g.of[s.id], s)
	g.order = append(g.order, s)
	g.n.Store(int32(len(g.order)))
	return s
}

// drop forgets a span. mu is held.
func (g *gone) drop(s *span) {
	if s.dropped {
		return
	}
	s.dropped = true
	is := func(o *span) bool { return o == s }
	g.order = slices.DeleteFunc(g.order, is)
	if of := slices.DeleteFunc(g.of[s.id], is); len(of) > 0 {
		g.of[s.id] = of
	} else {
		delete(g.of, s.id)
	}
	g.n.Store(int32(len(g.order)))
}

// kept returns those of the deletes of a batch that are not forgotten, at most
// maxGone. It uses the memory of spans.
func (g *gone) kept(spans []*span) []*span {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(spans, func(s *span) bool { return s.dropped })
}

// end is told whether the deletes were committed, and clears spans. Those of before
// that lie within one are not needed any more.
func (g *gone) end(spans []*span, committed bool) {
	if len(spans) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	defer clear(spans)
	for _, s := range spans {
		if !committed {
			g.drop(s)
			continue
		}
		if s.dropped {
			continue
		}
		s.live = true
		for _, o := range slices.Clone(g.of[s.id]) {
			if o == s {
				break
			}
			if within(&o.r, &s.r) {
				g.drop(o)
			}
		}
	}
}

// note is told of a put, before it is committed.
func (g *gone) note(id, key []byte) {
	if g.n.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.of[string(id)] {
		if !contains(&s.r, key) {
			continue
		}
		if !s.put || bytes.Compare(key, s.lo) < 0 {
			s.lo = append(s.lo[:0], key...)
		}
		if !s.put || bytes.Compare(key, s.hi) > 0 {
			s.hi = append(s.hi[:0], key...)
		}
		s.put = true
	}
}

// before returns the deletes of a record that are committed. A reader asks for
// them before it opens its view of the store, so that they are in it, and for
// what they hide afterwards: then every put that is in the view has been noted.
func (g *gone) before(id []byte) (live []*span) {
	if g.n.Load() == 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.of[string(id)] {
		if s.live {
			live = append(live, s)
		}
	}
	return live
}

// left returns the stretches of r, in order, that the deletes leave: outside them
// a view that was opened between before and left shows nothing.
func (g *gone) left(live []*span, r *kv.Range) []kv.Range {
	holes := make([]kv.Range, 0, 2*len(live))
	g.mu.Lock()
	for _, s := range live {
		switch {
		case s.dropped:
		case !s.put:
			holes = append(holes, s.r)
		default:
			behind := append(append(make([]byte, 0, len(s.hi)+1), s.hi...), 0)
			holes = append(holes, kv.Range{Start: s.r.Start, End: bytes.Clone(s.lo)}, kv.Range{Start: behind, End: s.r.End, Open: s.r.Open})
		}
	}
	g.mu.Unlock()
	slices.SortFunc(holes, func(a, b kv.Range) int { return bytes.Compare(a.Start, b.Start) })
	rest := *r
	var left []kv.Range
	for i := range holes {
		h := &holes[i]
		if h.Empty() || !h.Open && bytes.Compare(h.End, rest.Start) <= 0 {
			continue
		}
		if !rest.Open && bytes.Compare(h.Start, rest.End) >= 0 {
			break
		}
		if bytes.Compare(rest.Start, h.Start) < 0 {
			left = append(left, kv.Range{Start: rest.Start, End: h.Start})
		}
		if h.Open {
			return left
		}
		rest.Start = h.End
	}
	if !rest.Empty() {
		left = append(left, rest)
	}
	return left
}
