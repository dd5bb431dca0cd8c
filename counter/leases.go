package counter

import (
	"container/heap"
	"math"

	"github.com/headwater-db/headwater/wal"
)

// MaxReservations bounds the reservations of a partition that are held at once:
// all of them are in memory.
const MaxReservations = 1 << 20

// leases are the reservations of a partition that are held, by id and by when
// their leases end.
type leases struct {
	held map[wal.TokenID]*Reservation
	ends leaseHeap
	sums map[string]int64 // of held, by counter
}

func newLeases() leases {
	return leases{held: make(map[wal.TokenID]*Reservation), sums: make(map[string]int64)}
}

func (l *leases) add(v *Reservation) {
	l.remove(v.ID)
	l.held[v.ID] = v
	l.sums[string(v.Counter)] += v.Amount
	heap.Push(&l.ends, v)
}

// remove takes a reservation out of those that are held, and returns it; nil where it is none.
func (l *leases) remove(id wal.TokenID) *Reservation {
	v := l.held[id]
	if v == nil {
		return nil
	}
	delete(l.held, id)
	if sum := l.sums[string(v.Counter)] - v.Amount; sum != 0 {
		l.sums[string(v.Counter)] = sum
	} else {
		delete(l.sums, string(v.Counter))
	}
	return v
}

// first returns the reservation whose lease ends next, or nil. One that was
// settled or cancelled may still stand in the heap; it is taken out here.
func (l *leases) first() *Reservation {
	for len(l.ends) > 0 {
		v := l.ends[0]
		if l.held[v.ID] == v {
			return v
		}
		heap.Pop(&l.ends)
	}
	return nil
}

// due reports whether a lease may have ended at t: what first returns may be a
// later one. Readers may call it.
func (l *leases) due(t int64) bool { return len(l.ends) > 0 && l.ends[0].ExpiresAt <= t }

// overdue sums, by counter, what is held by leases that end at or before t: to a
// reader they are free, whether a record has said so yet or not. Readers may
// call it.
func (l *leases) overdue(name string, t int64) (sum int64) {
	return l.overdueFrom(0, name, t)
}

func (l *leases) overdueFrom(i int, name string, t int64) (sum int64) {
	if i >= len(l.ends) || l.ends[i].ExpiresAt > t {
		return 0
	}
	if v := l.ends[i]; l.held[v.ID] == v && string(v.Counter) == name {
		sum = v.Amount
	}
	return sum + l.overdueFrom(2*i+1, name, t) + l.overdueFrom(2*i+2, name, t)
}

type leaseHeap []*Reservation

func (h leaseHeap) Len() int           { return len(h) }
func (h leaseHeap) Less(i, j int) bool { return h[i].ExpiresAt < h[j].ExpiresAt }
func (h leaseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *leaseHeap) Push(x any)        { *h = append(*h, x.(*Reservation)) }
func (h *leaseHeap) Pop() any {
	old := *h
	v := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return v
}

// expireOne ends one lease, whose counter is loaded. It is as of what is applied
// already: that it is over is the time's doing, not the record's, which may yet
// have to be tried again.
func (r *Rollup) expireOne(v *Reservation) {
	h := r.find(v.Counter)
	last := max(h.row.LastOffset, r.state.Applied)
	r.end(h, v.ID, Expired, v.ExpiresAt)
	r.mark(h)
	h.row.LastOffset = last
}

// end takes a reservation out of those that are held. One that another process has ended, and that is not known here, is
// kept as ended.
func (r *Rollup) end(h *hot, id wal.TokenID, s ReservationState, t int64) {
	ended := Reservation{ID: id, Counter: []byte(h.name)}
	if v := r.leases.remove(id); v != nil {
		h.row.Held -= v.Amount
		ended = *v
	}
	ended.State, ended.EndedAt = s, t
	r.pending.reservations[id] = ended
}

// available is value less held, held at the low end of int64.
func available(value, held int64) int64 {
	if value < math.MinInt64+held {
		return math.MinInt64
	}
	return value - held
}

// value is what a counter counts at log time t.
func (row *Row) value(t int64) int64 {
	if row.alive(t) {
		return row.Value
	}
	return 0
}

// judgeReserve decides whether a part of what is available can be held.
func (r *Rollup) judgeReserve(h *hot, amount, lease int64, at *at, e *TokenEntry) {
	switch {
	case amount > available(h.row.value(at.logTime), h.row.Held):
		e.Outcome = Insufficient
	case len(r.leases.held) >= MaxReservations:
		e.Outcome = TooMany
	default:
		e.ExpiresAt = later(at.logTime, lease)
	}
}

// held holds a part of a counter.
func (r *Rollup) held(h *hot, v *Reservation, at *at) {
	if !r.covered(h) {
		r.touch(h, at, 0)
	}
	if old := r.leases.held[v.ID]; old != nil { // of another process's rows
		h.row.Held -= old.Amount
	}
	h.row.Held += v.Amount
	r.mark(h)
	r.leases.add(v)
	r.pending.reservations[v.ID] = *v
}

// judgeSettle decides what a settlement takes from the value. v is nil when there
// is no such reservation.
func (r *Rollup) judgeSettle(h *hot, v *Reservation, amount int64, all bool, at *at, e *TokenEntry) {
	if all && v != nil {
		amount = v.Amount
	}
	switch {
	case v == nil || string(v.Counter) != h.name:
		e.Outcome = NoReservation
	case v.State != Held:
		e.Outcome, e.Ended = ReservationEnded, v.State
	case amount > v.Amount || amount < 0:
		e.Outcome, e.AppliedDelta = TooMuch, v.Amount
	case h.row.value(at.logTime) < math.MinInt64+amount:
		e.Outcome = Overflow
	default:
		e.AppliedDelta = -amount
	}
}

// settled takes an amount from the value and frees the hold.
func (r *Rollup) settled(h *hot, id wal.TokenID, amount int64, at *at) {
	if !r.covered(h) {
		r.touch(h, at, 0)
		h.row.Value -= amount
		r.event(h, EventSettle, -amount, at.acceptedAt)
		r.window(h, -amount, at.acceptedAt)
	}
	r.end(h, id, Settled, at.logTime)
	r.mark(h)
}

// judgeCancel decides whether a reservation can be cancelled. One that was
// cancelled, or whose lease has ended, is left as it is.
func (r *Rollup) judgeCancel(h *hot, v *Reservation, e *TokenEntry) {
	switch {
	case v == nil || string(v.Counter) != h.name:
		e.Outcome = NoReservation
	case v.State == Settled:
		e.Outcome, e.Ended = ReservationEnded, Settled
	}
}
