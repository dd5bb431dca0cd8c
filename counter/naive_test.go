package counter

import (
	"math/big"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// naive is what calls come to, decided one after the other with maps and numbers
// that have no end. It knows nothing of stores, batches or memory.
type naive struct {
	now      int64
	windows  []time.Duration
	counters map[string]*naiveCounter
	leases   map[wal.TokenID]*naiveLease
	held     map[wal.TokenID]*naiveLease // of leases
}

// naiveCounter is one life of a counter, and what is held of it beyond that.
type naiveCounter struct {
	lives   int
	value   int64
	held    int64
	expires int64 // 0: never
	fixed   bool
	events  int64
	windows map[naiveWindow]*naiveBucket
}

type naiveWindow struct {
	size  time.Duration
	start int64
}

// naiveBucket keeps the halves of a sum, which cannot overflow.
type naiveBucket struct{ high, low, adds int64 }

func (b *naiveBucket) sum() *big.Int {
	s := new(big.Int).Lsh(big.NewInt(b.high), 32)
	return s.Add(s, big.NewInt(b.low))
}

type naiveLease struct {
	counter string
	amount  int64
	ends    int64
	state   ReservationState
}

// naiveAnswer is what a call is told.
type naiveAnswer struct {
	outcome     Outcome
	value, held int64
	applied     int64
	violation   Violation
	ended       ReservationState
}

func newNaive(windows []time.Duration) *naive {
	return &naive{windows: windows, counters: map[string]*naiveCounter{}, leases: map[wal.TokenID]*naiveLease{}, held: map[wal.TokenID]*naiveLease{}}
}

// at moves the time on.
func (n *naive) at(t int64) {
	n.now = max(n.now, t)
	for id, l := range n.held {
		if l.ends <= n.now {
			l.state = Expired
			n.counters[l.counter].held -= l.amount
			delete(n.held, id)
		}
	}
}

func (n *naive) counter(name string) *naiveCounter {
	c := n.counters[name]
	if c == nil {
		c = &naiveCounter{}
		n.counters[name] = c
	}
	return c
}

func (n *naive) alive(c *naiveCounter) bool {
	return c.lives > 0 && (c.expires == 0 || c.expires > n.now)
}

func (n *naive) value(c *naiveCounter) int64 {
	if n.alive(c) {
		return c.value
	}
	return 0
}

func (n *naive) touch(c *naiveCounter, s *Settings, ttl int64) {
	if !n.alive(c) {
		*c = naiveCounter{lives: c.lives + 1, held: c.held, windows: map[naiveWindow]*naiveBucket{}}
		if ttl > 0 {
			c.expires, c.fixed = n.now+ttl, true
		}
	}
	switch idle := s.TTL.Microseconds(); {
	case c.fixed:
	case idle > 0:
		c.expires = max(c.expires, n.now+idle)
	default:
		c.expires = 0
	}
}

func (n *naive) event(c *naiveCounter, delta, t int64, counted bool) {
	c.events++
	if !counted {
		return
	}
	for _, size := range n.windows {
		us := size.Microseconds()
		q := t / us
		if t%us < 0 {
			q--
		}
		w := naiveWindow{size, q * us}
		b := c.windows[w]
		if b == nil {
			b = &naiveBucket{}
			c.windows[w] = b
		}
		b.high += delta >> 32
		b.low += delta & (1<<32 - 1)
		b.adds++
	}
}

func (n *naive) add(a *Add, call *Bounds, s *Settings, accepted int64) (ans naiveAnswer) {
	c := n.counter(string(a.Counter))
	cur, delta := big.NewInt(n.value(c)), big.NewInt(a.Delta)
	zero := new(big.Int)
	for _, b := range []*Bounds{call, &s.Bounds} {
		room := new(big.Int)
		switch {
		case delta.Sign() > 0 && b.HasCeiling:
			if room.Sub(big.NewInt(b.Ceiling), cur); room.Sign() < 0 {
				room = zero
			}
			if delta.Cmp(room) <= 0 {
				continue
			}
			ans.violation = AtCeiling
		case delta.Sign() < 0 && b.HasFloor:
			if room.Sub(big.NewInt(b.Floor), cur); room.Sign() > 0 {
				room = zero
			}
			if delta.Cmp(room) >= 0 {
				continue
			}
			ans.violation = AtFloor
		default:
			continue
		}
		if delta = room; !b.Saturate {
			delta = zero
			break
		}
	}
	sum := new(big.Int).Add(cur, delta)
	switch {
	case ans.violation != NoViolation && delta.Sign() == 0:
		ans.outcome = Rejected
	case !sum.IsInt64():
		ans.outcome = Overflow
	default:
		n.touch(c, s, a.TTL)
		c.value = sum.Int64()
		t := a.EventTime
		if t == 0 {
			t = accepted
		}
		n.event(c, delta.Int64(), t, true)
		ans.outcome, ans.applied = Applied, delta.Int64()
	}
	ans.value, ans.held = n.value(c), c.held
	return ans
}

// call decides a call that is not OpAdd.
func (n *naive) call(k *Call, id wal.TokenID, s *Settings, accepted int64) (ans naiveAnswer) {
	name := string(k.Add.Counter)
	c := n.counter(name)
	l := n.leases[k.Reservation]
	ans.outcome = Applied
	switch k.Op {
	case OpAddAndGet:
		return n.add(&k.Add, &k.Bounds, s, accepted)
	case OpClear:
		if n.alive(c) {
			n.touch(c, s, 0)
			c.value = 0
			n.event(c, 0, 0, false)
		}
	case OpReserve:
		free := new(big.Int).Sub(big.NewInt(n.value(c)), big.NewInt(c.held))
		if free.Cmp(big.NewInt(k.Amount)) < 0 {
			ans.outcome = Insufficient
			break
		}
		n.touch(c, s, 0)
		c.held += k.Amount
		l := &naiveLease{counter: name, amount: k.Amount, ends: n.now + k.Lease.Microseconds(), state: Held}
		n.leases[id], n.held[id] = l, l
	case OpSettle:
		amount := k.Amount
		if k.All && l != nil {
			amount = l.amount
		}
		switch {
		case l == nil || l.counter != name:
			ans.outcome = NoReservation
		case l.state != Held:
			ans.outcome, ans.ended = ReservationEnded, l.state
		case amount > l.amount || amount < 0:
			ans.outcome, ans.applied = TooMuch, l.amount
		case !new(big.Int).Sub(big.NewInt(n.value(c)), big.NewInt(amount)).IsInt64():
			ans.outcome = Overflow
		default:
			n.touch(c, s, 0)
			c.value -= amount
			c.held -= l.amount
			l.state = Settled
			delete(n.held, k.Reservation)
			n.event(c, -amount, accepted, true)
			ans.applied = -amount
		}
	case OpCancel:
		switch {
		case l == nil || l.counter != name:
			ans.outcome = NoReservation
		case l.state == Settled:
			ans.outcome, ans.ended = ReservationEnded, Settled
		case l.state == Held:
			c.held -= l.amount
			l.state = Cancelled
			delete(n.held, k.Reservation)
		}
	}
	ans.value, ans.held = n.value(c), c.held
	return ans
}
