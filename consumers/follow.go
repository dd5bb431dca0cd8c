package consumers

import (
	"context"
	"fmt"
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// Exceptions reads the exceptions that a store has saved of a partition, from <=
// o < to, in order. row is valid during the call of f.
type Exceptions interface {
	Exceptions(ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset, row []byte) error) error
}

// Siblings are the stores of one namespace that decide alike: the PRIMARY and
// those that follow it. A store that follows reads what was decided from the
// sibling that is furthest, and never passes it. Safe for concurrent use.
type Siblings struct {
	many    atomic.Bool
	mu      sync.Mutex // guards what follows
	stores  []sibling
	changed chan struct{} // closed and replaced when any store has saved more
}

type sibling struct {
	loop   *Loop
	ledger Exceptions
}

// NewSiblings returns an empty set.
func NewSiblings() *Siblings { return &Siblings{changed: make(chan struct{})} }

// Add puts a store in. Its loop is made with this set.
func (s *Siblings) Add(l *Loop, e Exceptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores = append(s.stores[:len(s.stores):len(s.stores)], sibling{l, e})
	s.many.Store(len(s.stores) > 1)
	s.wakeLocked()
}

// Remove takes a store out. Nobody reads its ledger for a sibling once it returns
// and the batch in hand of every other store is done.
func (s *Siblings) Remove(l *Loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := make([]sibling, 0, len(s.stores))
	for _, x := range s.stores {
		if x.loop != l {
			left = append(left, x)
		}
	}
	s.stores = left
	s.many.Store(len(s.stores) > 1)
	s.wakeLocked()
}

// Wake has every store that waits look again. Call it when LoopConfig.TakesOver
// may have changed.
func (s *Siblings) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

func (s *Siblings) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// moved wakes the stores that wait for another. It costs nothing where there is
// one store.
func (s *Siblings) moved() {
	if !s.many.Load() {
		return
	}
	s.Wake()
}

// furthest returns the sibling of l that has saved most of p, up to which offset,
// and what is closed when that may have changed.
func (s *Siblings) furthest(l *Loop, p wal.Partition) (best sibling, upTo wal.Offset, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	upTo = wal.NoOffset
	for _, x := range s.stores {
		if x.loop == l {
			continue
		}
		q := x.loop.Part(p)
		if q == nil {
			continue
		}
		if o := q.SavedOffset(); best.loop == nil || o > upTo {
			best, upTo = x, o
		}
	}
	return best, upTo, s.changed
}

// noHold lets a partition go on.
const noHold = math.MaxInt64

// Hold keeps a store that follows from applying anything above o, until Release.
// Any goroutine.
func (q *Part) Hold(o wal.Offset) {
	q.hold.Store(int64(o))
	q.l.cfg.Siblings.moved()
}

// Release ends a Hold.
func (q *Part) Release() { q.Hold(noHold) }

// Ready returns how many of entries may be applied now. Where that is not all,
// changed is closed when it may be more: a store that follows waits until
// another has decided. In the partition's goroutine.
func (l *Loop) Ready(p wal.Partition, entries []wal.Entry) (n int, changed <-chan struct{}) {
	q := l.parts[p].Load()
	if q == nil || !q.st.Follows {
		return through(entries, wal.Offset(l.limits[p].Load())), nil
	}
	if q.takeOver() {
		return len(entries), nil
	}
	_, upTo, changed := l.cfg.Siblings.furthest(l, p)
	upTo = min(upTo, wal.Offset(q.hold.Load()))
	return through(entries, upTo), changed
}

// through is how many of entries stand at o or before.
func through(entries []wal.Entry, o wal.Offset) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].Offset > o })
}

// toldTurn notes for other goroutines whether the partition follows, and since which
// step.
func (q *Part) toldTurn() {
	q.follows.Store(q.st.Follows)
	q.step.Store(q.st.Step)
}

// String says how far the partition is. Any goroutine.
func (q *Part) String() string {
	does := "decides"
	if q.follows.Load() {
		does = "follows"
	}
	return fmt.Sprintf("%s, step %d, saved up to %d, told up to %d", does, q.step.Load(), q.SavedOffset(), q.told.Load())
}

// takeOver has the partition decide if that is its part. In its goroutine.
func (q *Part) takeOver() bool {
	if f := q.l.cfg.TakesOver; f == nil || !f(q) {
		return false
	}
	q.st.Follows = false
	q.toldTurn()
	return true
}

// TakeOver has a partition that follows decide, if LoopConfig.TakesOver says so, also
// where no record comes. In the goroutine of the partition.
func (l *Loop) TakeOver(ctx context.Context, p wal.Partition) error {
	q := l.parts[p].Load()
	if q == nil || !q.st.Follows || !q.takeOver() {
		return nil
	}
	return q.commit(ctx)
}

// Forsaken reports whether nobody is left that decides a partition which q follows,
// where others are all the other stores of the namespace. Example: the PRIMARY is built
// anew from a log in which another store decided for a while, which was dropped since.
// Then the PRIMARY may decide: from the same log it decides the same. It is false while
// another store decides, has saved more, or has yet to come to the record that had q
// follow, which may name it. Any goroutine.
func (q *Part) Forsaken(others []*Part) bool {
	for _, o := range others {
		if !o.follows.Load() || o.step.Load() != q.step.Load() || o.SavedOffset() > q.SavedOffset() {
			return false
		}
	}
	return q.follows.Load()
}

// decidedRows are the exceptions of the entries in hand.
type decidedRows struct {
	offsets []wal.Offset
	ends    []int
	buf     []byte
	next    int
}

// readDecisions reads the exceptions of entries, which Ready has let through.
func (q *Part) readDecisions(ctx context.Context, entries []wal.Entry) error {
	d := &q.rows
	d.reset()
	if len(entries) == 0 {
		return nil
	}
	from, to := entries[0].Offset, entries[len(entries)-1].Offset
	best, upTo, _ := q.l.cfg.Siblings.furthest(q.l, q.p)
	if best.loop == nil || upTo < to {
		return fmt.Errorf("no store has decided up to offset %d", to)
	}
	return best.ledger.Exceptions(ctx, q.p, from, to+1, d.add)
}

func (d *decidedRows) reset() {
	d.offsets, d.ends, d.buf, d.next = d.offsets[:0], d.ends[:0], d.buf[:0], 0
}

func (d *decidedRows) add(o wal.Offset, row []byte) error {
	d.buf = append(d.buf, row...)
	d.offsets, d.ends = append(d.offsets, o), append(d.ends, len(d.buf))
	return nil
}

// decisionsOf gives the record in hand the exceptions that were read, and copies
// their row: whoever follows this store later reads it here.
func (q *Part) decisionsOf(r *Run) (err error) {
	if !r.Follows() {
		return nil
	}
	d, o := &q.rows, r.Entry.Offset
	for d.next < len(d.offsets) && d.offsets[d.next] < o {
		d.next++
	}
	if d.next == len(d.offsets) || d.offsets[d.next] != o {
		return nil
	}
	begin := 0
	if d.next > 0 {
		begin = d.ends[d.next-1]
	}
	r.row = append(r.row, d.buf[begin:d.ends[d.next]]...)
	r.decided, err = DecodeDecisions(r.decided, o, r.row)
	return err
}
