package proof

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// looseLoad is one round of adds to a best_effort namespace. Each caller has
// counters of its own, and now and then has one added to and read at once: that
// is durable, and with it every add that was queued for the counter before.
type looseLoad struct {
	callers []*looseCaller
	wg      sync.WaitGroup

	mu   sync.Mutex // guards loss and errs
	loss time.Duration
	errs []error
}

type looseCaller struct {
	l     *looseLoad
	r     *rand.Rand
	names []string
	calls []*looseCall
	// By counter: sent is the sum of all calls, each once, and adds their number;
	// queued, of those that were acknowledged; sure, of those that must survive.
	sent, adds, queued, sure map[string]int64
}

// looseCall is one call: adds that are queued, or one that waits for its count.
type looseCall struct {
	adds  *headwaterv1.AddCountsRequest
	get   *headwaterv1.AddAndGetCountRequest
	acked bool
	value int64 // that get was told
}

func newLooseLoad(seed uint64, round, callers int) *looseLoad {
	l := &looseLoad{}
	for i := range callers {
		k := &looseCaller{l: l, r: newRand(seed+1, round, i), sent: map[string]int64{}, adds: map[string]int64{}, queued: map[string]int64{}, sure: map[string]int64{}}
		for j := range 2 {
			k.names = append(k.names, foreignCounter("/%d/%d/%d", round, i, j))
		}
		l.callers = append(l.callers, k)
	}
	return l
}

// run keeps the callers busy until stop is closed; done is closed when they have
// ended.
func (l *looseLoad) run(c *conn, stop <-chan struct{}) (done chan struct{}) {
	for _, k := range l.callers {
		l.wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if !k.step(c) {
						return // cut off
					}
				}
			}
		})
	}
	done = make(chan struct{})
	go func() {
		l.wg.Wait()
		close(done)
	}()
	return done
}

func (l *looseLoad) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

// window is the longest time that an add waits to be durable, as the server says.
func (l *looseLoad) window() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loss
}

// allFlushed notes that everything that was queued must survive.
func (l *looseLoad) allFlushed() {
	for _, k := range l.callers {
		for name, n := range k.queued {
			k.sure[name] = max(n, k.sure[name])
		}
	}
}

// queued is how many adds were acknowledged when they were queued.
func (l *looseLoad) queued() (n int) {
	for _, k := range l.callers {
		for _, x := range k.calls {
			if x.adds != nil && x.acked {
				n += len(x.adds.Adds)
			}
		}
	}
	return n
}

func (k *looseCaller) nonce() (n wal.Nonce) {
	for i := range n {
		n[i] = byte(k.r.Uint32())
	}
	return n
}

// step makes one call. false: it was not answered.
func (k *looseCaller) step(c *conn) bool {
	x := &looseCall{}
	tok := nonceToken(k.nonce(), 0)
	if k.r.IntN(10) == 0 {
		x.get = &headwaterv1.AddAndGetCountRequest{Namespace: looseSpace, Counter: k.names[k.r.IntN(len(k.names))], Delta: 1 + k.r.Int64N(9), Token: tok}
		k.enter(x.get.Counter, x.get.Delta)
	} else {
		x.adds = &headwaterv1.AddCountsRequest{Namespace: looseSpace, Token: tok}
		for range 1 + k.r.IntN(20) {
			a := &headwaterv1.CounterAdd{Counter: k.names[k.r.IntN(len(k.names))], Delta: 1 + k.r.Int64N(9)}
			x.adds.Adds = append(x.adds.Adds, a)
			k.enter(a.Counter, a.Delta)
		}
	}
	k.calls = append(k.calls, x)
	for range 1 + k.r.IntN(4)/3 { // every fourth one twice
		if !k.send(c, x, true) {
			return false
		}
	}
	return true
}

// enter counts what a call adds to a counter, once, however often it is sent.
func (k *looseCaller) enter(name string, delta int64) {
	k.sent[name] += delta
	k.adds[name]++
}

// send sends one copy of a call. live: this caller has no other call under way, so
// that what it is told must be exact.
func (k *looseCaller) send(c *conn, x *looseCall, live bool) bool {
	ctx, cancel := callContext()
	defer cancel()
	if x.get != nil {
		a := c.count(ctx, &tally{get: x.get})
		switch {
		case a.outcome == unknown:
			return false
		case a.outcome != acked || a.buffered:
			k.l.fault("%v: %v, buffered %v", x.get, &a, a.buffered)
		case x.acked && a.value != x.value:
			k.l.fault("%v: %d, and then %d", x.get, x.value, a.value)
		case live && !x.acked && a.value != k.sent[x.get.Counter]:
			k.l.fault("%v: it is %d, and what was queued before comes to %d", x.get, a.value, k.sent[x.get.Counter])
		}
		x.acked, x.value = true, a.value
		if live {
			k.sure[x.get.Counter] = k.sent[x.get.Counter]
		}
		return true
	}
	r, err := c.counters().AddCounts(ctx, x.adds)
	if err != nil {
		if a := reckoned(nil, nil, err); a.outcome != unknown {
			k.l.fault("%v: %w", x.adds, err)
		}
		return false
	}
	if r.Result.Durability != headwaterv1.WriteResult_BUFFERED || r.Result.LossWindow.AsDuration() <= 0 {
		k.l.fault("%v: %v", x.adds, r.Result)
	}
	k.l.mu.Lock()
	k.l.loss = max(k.l.loss, r.Result.LossWindow.AsDuration())
	k.l.mu.Unlock()
	if !x.acked {
		for _, a := range x.adds.Adds {
			k.queued[a.Counter] += a.Delta
		}
	}
	x.acked = true
	return true
}

// check compares what is left after a kill with what must be and with what can be
// there, sends every call again under its token, and requires the exact sums then.
// lost is how many counters lack adds that were queued.
func (l *looseLoad) check(c *conn, began time.Time) (lost int, err error) {
	for _, k := range l.callers {
		for _, name := range k.names {
			v, err := looseValue(c, name)
			if err != nil {
				return 0, err
			}
			if v < k.sure[name] || v > k.sent[name] {
				return 0, fmt.Errorf("%s is %d after the kill; %d is durable, and %d was sent", name, v, k.sure[name], k.sent[name])
			}
			if v < k.queued[name] {
				lost++
			}
			if err := recount(c, looseSpace, name, &figure{value: v, rest: window{v, countOf(c, name, began)}}, began); err != nil {
				return 0, err
			}
		}
		for _, x := range k.calls {
			if !k.send(c, x, false) {
				return 0, fmt.Errorf("%v %v was sent again, and not answered", x.adds, x.get)
			}
		}
	}
	for _, k := range l.callers {
		for _, name := range k.names {
			if err := k.whole(c, name, began); err != nil {
				return 0, err
			}
		}
	}
	return lost, errors.Join(l.errs...)
}

// whole requires a counter to have every call exactly once.
func (k *looseCaller) whole(c *conn, name string, began time.Time) error {
	ctx, cancel := callContext()
	defer cancel()
	a := c.count(ctx, &tally{get: &headwaterv1.AddAndGetCountRequest{Namespace: looseSpace, Counter: name, Delta: 1}})
	if a.outcome != acked || a.value != k.sent[name]+1 {
		return fmt.Errorf("%s after all calls were sent again: %v; they come to %d, and 1", name, &a, k.sent[name])
	}
	v := a.value
	return recount(c, looseSpace, name, &figure{value: v, rest: window{v, k.adds[name] + 1}}, began)
}

func looseValue(c *conn, name string) (int64, error) {
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.counters().GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: looseSpace, Counter: name})
	if err != nil {
		return 0, err
	}
	return r.Count.Value, nil
}

// countOf is how many adds the series of a counter has.
func countOf(c *conn, name string, began time.Time) (n int64) {
	ws, err := series(c, looseSpace, name, began.Add(-time.Minute).Truncate(time.Minute), time.Now().Add(2*time.Minute).Truncate(time.Minute), time.Minute)
	if err != nil {
		return -1 // recount will say it
	}
	for _, w := range ws {
		n += w.adds
	}
	return n
}
