package proof

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

const (
	// edgeCounter is added to in steps that leave int64 soon.
	edgeCounter = "edge"
	// foreignPrefix begins the names of counters that a ledger does not keep.
	foreignPrefix = "foreign"
)

// tallies is what concurrent callers ask of counter namespaces. What they ask
// comes from the seed; when they are cut off does not.
type tallies struct {
	ledger   *ledger
	round    int
	counters int
	spaces   []string
	most     int           // calls after which it ends by itself; 0 is no bound
	other    *conn         // as in load
	pause    time.Duration // as in load
}

// run keeps callers busy over c until stop is closed.
func (l *tallies) run(c *conn, seed uint64, callers int, stop <-chan struct{}) {
	var wg sync.WaitGroup
	for i := range callers {
		w := &teller{tallies: l, r: rand.New(rand.NewPCG(seed, uint64(l.round)<<16|uint64(i)))}
		w.c, w.second = gateways(i, c, l.other)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, begun := l.ledger.size(); l.most > 0 && begun >= l.most {
						return
					}
					w.step()
				}
				if w.cut {
					<-time.After(whileAway)
				}
				if l.pause > 0 {
					<-time.After(l.pause)
				}
			}
		})
	}
	wg.Wait()
}

// teller is one caller.
type teller struct {
	*tallies
	c *conn
	// second is where a copy goes that is sent at the same time.
	second *conn
	cut    bool // the last call was not answered, or not applied
	r      *rand.Rand
	held   []*tally                  // reservations of this caller that may be held
	own    []*headwaterv1.CounterAdd // adds with tokens of their own, to share with other calls
	done   []*tally                  // settled calls of this caller, to send again
}

func (w *teller) step() {
	ns := w.spaces[w.r.IntN(len(w.spaces))]
	switch n := w.r.IntN(100); {
	case n < 25:
		w.send(w.call(&tally{ns: ns, adds: w.batch(ns)}))
	case n < 40:
		req := &headwaterv1.AddCountRequest{Namespace: ns, Counter: w.name(), Delta: w.delta(), Token: w.token()}
		if w.r.IntN(4) == 0 {
			req.EventTime = eventTime(w.r.IntN(eventHours), w.r.IntN(3600))
		}
		if w.r.IntN(10) == 0 {
			req.Counter, req.Delta, req.EventTime = edgeCounter, w.delta()<<55, nil
		}
		w.send(w.call(&tally{ns: ns, add: req}))
	case n < 60:
		w.send(w.call(w.addAndGet(ns)))
	case n < 65:
		name := w.name()
		w.send(w.call(&tally{ns: ns, counter: name, clear: &headwaterv1.ClearCountRequest{Namespace: ns, Counter: name, Token: w.token()}}))
	case n < 75:
		name := w.name()
		w.send(w.call(&tally{ns: ns, counter: name, reserve: &headwaterv1.ReserveCountRequest{
			Namespace: ns, Counter: name, Amount: 1 + w.r.Int64N(60), Lease: durationpb.New(w.lease()), Token: w.token(),
		}}))
	case n < 87:
		w.end()
	default:
		w.resend()
	}
}

// call enters a request in the ledger.
func (w *teller) call(x *tally) *tally {
	x.round = w.round
	return w.ledger.enter(x)
}

// token is the server's time or, for half of the calls, a time of the caller's
// own that is up to a second off, so that order in the log and order in time
// differ.
func (w *teller) token() *headwaterv1.IdempotencyToken {
	n := w.nonce()
	if w.r.IntN(2) == 0 {
		return nonceToken(n, 0)
	}
	return nonceToken(n, time.Now().Add(time.Duration(w.r.IntN(2_000_000)-1_000_000)*time.Microsecond).UnixMicro())
}

func (w *teller) nonce() (n wal.Nonce) {
	binary.BigEndian.PutUint64(n[:], w.r.Uint64())
	binary.BigEndian.PutUint64(n[8:], w.r.Uint64())
	return n
}

func (w *teller) name() string { return fmt.Sprintf("c%02d", w.r.IntN(w.counters)) }

func (w *teller) delta() int64 { return w.r.Int64N(150) - 40 }

// lease is one that ends within the test, or one that does not.
func (w *teller) lease() time.Duration {
	if w.r.IntN(2) == 0 {
		return time.Duration(1+w.r.IntN(100)) * time.Millisecond
	}
	return time.Hour
}

// batch is adds to several counters, some of them twice, some with a time or a
// token of their own; such an add may be part of an earlier batch as well, or stand
// twice in this one.
func (w *teller) batch(ns string) *headwaterv1.AddCountsRequest {
	req := &headwaterv1.AddCountsRequest{Namespace: ns, Token: w.token()}
	for range 1 + w.r.IntN(40) {
		a := &headwaterv1.CounterAdd{Counter: w.name(), Delta: w.delta()}
		if w.r.IntN(4) == 0 {
			a.EventTime = eventTime(w.r.IntN(eventHours), w.r.IntN(3600))
		}
		switch w.r.IntN(16) {
		case 0:
			a.Token = nonceToken(w.nonce(), 0)
			w.own = append(w.own, a)
		case 1:
			if n := len(w.own); n > 0 {
				a = w.own[n-1-w.r.IntN(min(n, 8))]
			}
		}
		req.Adds = append(req.Adds, a)
	}
	return req
}

func (w *teller) addAndGet(ns string) *tally {
	req := &headwaterv1.AddAndGetCountRequest{Namespace: ns, Counter: w.name(), Delta: w.delta(), Token: w.token()}
	switch w.r.IntN(8) {
	case 0, 1, 2:
		b := &headwaterv1.Bounds{OnViolation: headwaterv1.Bounds_REJECT}
		if w.r.IntN(2) == 0 {
			b.OnViolation = headwaterv1.Bounds_SATURATE
		}
		floor, ceiling := w.r.Int64N(100)-100, w.r.Int64N(400)
		if w.r.IntN(3) > 0 {
			b.Floor = &floor
		}
		if w.r.IntN(3) > 0 || b.Floor == nil {
			b.Ceiling = &ceiling
		}
		req.Bounds = b
	case 3:
		req.Counter, req.Ttl = fmt.Sprintf("mortal%d", w.r.IntN(3)), durationpb.New(time.Duration(1+w.r.IntN(80))*time.Millisecond)
	case 4:
		req.Counter, req.Delta = edgeCounter, w.delta()<<55
	case 5:
		req.EventTime = eventTime(w.r.IntN(eventHours), w.r.IntN(3600))
	}
	return &tally{ns: ns, counter: req.Counter, get: req}
}

// end settles or cancels a reservation of this caller, some of them twice.
func (w *teller) end() {
	if len(w.held) == 0 {
		return
	}
	i := w.r.IntN(len(w.held))
	v := w.held[i]
	if w.r.IntN(4) > 0 {
		w.held[i] = w.held[len(w.held)-1]
		w.held = w.held[:len(w.held)-1]
	}
	x := &tally{ns: v.ns, counter: v.counter}
	if id := v.first.reservation; w.r.IntN(3) == 0 {
		x.cancel = &headwaterv1.CancelReservationRequest{Namespace: v.ns, ReservationId: id, Token: w.token()}
	} else {
		x.settle = &headwaterv1.SettleReservationRequest{Namespace: v.ns, ReservationId: id, Token: w.token()}
		if w.r.IntN(3) > 0 {
			n := w.r.Int64N(v.reserve.Amount + 3) // now and then too much
			x.settle.Amount = &n
		}
	}
	w.send(w.call(x))
}

// send sends a call, every eighth time three times at once.
func (w *teller) send(x *tally) {
	ctx, cancel := callContext()
	defer cancel()
	var wg sync.WaitGroup
	if w.r.IntN(8) == 0 {
		for range 2 {
			wg.Go(func() {
				a := w.second.count(ctx, x)
				w.ledger.note(x, &a, false)
			})
		}
	}
	a := w.c.count(ctx, x)
	w.ledger.note(x, &a, false)
	wg.Wait()
	if w.cut = a.outcome != acked && a.outcome != refused; w.cut {
		return
	}
	w.done = append(w.done, x)
	if x.reserve != nil && a.outcome == acked {
		w.held = append(w.held, x)
	}
}

// resend sends a call that has its answer again, or another under its token.
func (w *teller) resend() {
	if len(w.done) == 0 {
		return
	}
	x := w.done[w.r.IntN(len(w.done))]
	ctx, cancel := callContext()
	defer cancel()
	if o := x.other(); o != nil && w.r.IntN(3) == 0 {
		a := w.c.count(ctx, o)
		w.ledger.noteOther(x, &a)
		return
	}
	a := w.c.count(ctx, x)
	w.ledger.note(x, &a, true)
}
