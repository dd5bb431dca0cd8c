package proof

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// killed is a real process that is killed and started again under its callers.
type killed struct {
	sv   *service // where it is
	p    *process
	args []string
}

func newKilled(t *testing.T, args ...string) *killed {
	t.Helper()
	k := &killed{sv: &service{t: t, dir: t.TempDir(), next: make(chan struct{})}, args: args}
	k.p = start(t, k.sv.dir, args...)
	k.sv.addr = k.p.grpc
	c := connect(t, k.p.grpc)
	counterSpaces(t, c, "")
	c.close()
	return k
}

// again kills the process and starts another on the same directory.
func (k *killed) again() {
	k.sv.t.Helper()
	k.p.kill(k.sv.t)
	k.p = start(k.sv.t, k.sv.dir, k.args...)
	k.sv.mu.Lock()
	k.sv.addr = k.p.grpc
	close(k.sv.next)
	k.sv.next = make(chan struct{})
	k.sv.mu.Unlock()
}

// counterOps are the shared state of callers whose operations a checker orders.
type counterOps struct {
	t        *testing.T
	epoch    time.Time
	counters []opsOfCounter
	reserved atomic.Int64 // numbers reservations
	unknown  atomic.Int64
	refused  atomic.Int64
	done     atomic.Int64
	// onStep is called after each operation with how many there are.
	onStep func(n int64)
}

type opsOfCounter struct {
	ns, name string
	mu       sync.Mutex // guards ops
	ops      []porcupine.Operation
}

func newCounterOps(t *testing.T, onStep func(n int64), spaces ...string) *counterOps {
	g := &counterOps{t: t, epoch: time.Now(), counters: make([]opsOfCounter, 4), onStep: onStep}
	for i := range g.counters {
		g.counters[i].ns, g.counters[i].name = spaces[i%len(spaces)], fmt.Sprintf("quota%d", i)
	}
	return g
}

func (g *counterOps) clock() int64 { return int64(time.Since(g.epoch)) }

// hand is one caller of counterOps.
type hand struct {
	g      *counterOps
	k      *caller
	r      *rand.Rand
	client int
	held   [4][]handHold // by counter
}

type handHold struct {
	n  int
	id string
}

func (h *hand) nonce() (n wal.Nonce) {
	for i := range n {
		n[i] = byte(h.r.Uint32())
	}
	return n
}

// step does one operation and enters it.
func (h *hand) step() {
	i := h.r.IntN(len(h.g.counters))
	o := &h.g.counters[i]
	in, w := h.draw(i, o)
	call := h.g.clock()
	out, never, ok := h.do(&in, o, w)
	if !ok {
		return
	}
	end := h.g.clock()
	if never {
		end = math.MaxInt64
		h.g.unknown.Add(1)
	}
	if out.outcome == refused {
		h.g.refused.Add(1)
	}
	o.mu.Lock()
	o.ops = append(o.ops, porcupine.Operation{ClientId: h.client, Input: in, Call: call, Output: out, Return: end})
	o.mu.Unlock()
	h.g.onStep(h.g.done.Add(1))
	if in.kind == "reserve" && out.outcome == acked {
		h.held[i] = append(h.held[i], handHold{in.n, out.id})
	}
}

// draw makes up an operation. w is nil for a read.
func (h *hand) draw(i int, o *opsOfCounter) (in countInput, w *tally) {
	tok := nonceToken(h.nonce(), 0)
	w = &tally{ns: o.ns, counter: o.name}
	n := h.r.IntN(20)
	if n >= 16 && len(h.held[i]) == 0 {
		n = 13
	}
	switch {
	case n < 6:
		return countInput{kind: "read"}, nil
	case n < 9:
		in = countInput{kind: "add", delta: h.r.Int64N(30) - 5}
		w.add = &headwaterv1.AddCountRequest{Namespace: o.ns, Counter: o.name, Delta: in.delta, Token: tok}
	case n < 12:
		in = countInput{kind: "get", delta: h.r.Int64N(40) - 15, floor: h.r.Int64N(20), ceiling: 30 + h.r.Int64N(60), saturate: h.r.IntN(2) == 0}
		w.get = &headwaterv1.AddAndGetCountRequest{Namespace: o.ns, Counter: o.name, Delta: in.delta, Token: tok, Bounds: &headwaterv1.Bounds{Floor: &in.floor, Ceiling: &in.ceiling}}
		if w.get.Bounds.OnViolation = headwaterv1.Bounds_REJECT; in.saturate {
			w.get.Bounds.OnViolation = headwaterv1.Bounds_SATURATE
		}
	case n == 12:
		in = countInput{kind: "clear"}
		w.clear = &headwaterv1.ClearCountRequest{Namespace: o.ns, Counter: o.name, Token: tok}
	case n < 16:
		in = countInput{kind: "reserve", amount: 1 + h.r.Int64N(12), n: int(h.g.reserved.Add(1))}
		w.reserve = &headwaterv1.ReserveCountRequest{Namespace: o.ns, Counter: o.name, Amount: in.amount, Lease: durationpb.New(time.Hour), Token: tok}
	default:
		j := h.r.IntN(len(h.held[i]))
		v := h.held[i][j]
		if h.r.IntN(5) > 0 { // the others are ended twice
			h.held[i] = append(h.held[i][:j], h.held[i][j+1:]...)
		}
		if n == 16 {
			in = countInput{kind: "cancel", n: v.n}
			w.cancel = &headwaterv1.CancelReservationRequest{Namespace: o.ns, ReservationId: v.id, Token: tok}
			return in, w
		}
		in = countInput{kind: "settle", n: v.n, amount: h.r.Int64N(8)}
		w.settle = &headwaterv1.SettleReservationRequest{Namespace: o.ns, ReservationId: v.id, Amount: &in.amount, Token: tok}
	}
	return in, w
}

// do does one operation, sending it again after a kill. never: how it ended is
// never learnt. ok false: it did nothing.
func (h *hand) do(in *countInput, o *opsOfCounter, w *tally) (out countOutput, never, ok bool) {
	ctx, cancel := callContext()
	defer cancel()
	if in.kind == "read" {
		r, err := h.k.conn().counters().GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: o.ns, Counter: o.name, Accuracy: headwaterv1.Count_ACCURATE})
		if err != nil {
			h.k.lost()
			return out, false, false
		}
		return countOutput{outcome: acked, value: r.Count.Value, held: r.Count.Held}, false, true
	}
	a := h.k.conn().count(ctx, w)
	open := false // an earlier copy may have its effect
	for a.outcome == unknown || a.outcome == notApplied && h.k.sv.stays {
		h.k.lost()
		if a.outcome == notApplied && !open {
			return out, false, false
		}
		if open = true; h.r.IntN(6) == 0 {
			return countOutput{outcome: unknown}, true, true
		}
		a = h.k.conn().count(ctx, w)
	}
	if a.outcome != acked && a.outcome != refused {
		h.g.t.Errorf("%v: %v", w, &a)
	}
	return countOutput{outcome: a.outcome, value: a.value, held: a.held, applied: a.delta, id: a.reservation}, false, true
}

// check has porcupine find an order of what happened, counter by counter.
func (g *counterOps) check() {
	g.t.Helper()
	total := 0
	for i := range g.counters {
		o := &g.counters[i]
		total += len(o.ops)
		hasOrder(g.t, o.name, countModel.ToModel(), o.ops)
	}
	g.t.Logf("%d operations, %d refused, %d of unknown outcome", total, g.refused.Load(), g.unknown.Load())
	mustHave(g.t, g.refused.Load() > 0 && total >= 100, "refused call")
}

// run lets each caller do so many operations; done is closed when they have.
func (g *counterOps) run(seed uint64, callers []*caller, each int) (done chan struct{}) {
	var wg sync.WaitGroup
	for i, k := range callers {
		h := &hand{g: g, k: k, r: rand.New(rand.NewPCG(seed, uint64(i))), client: i}
		wg.Go(func() {
			for range each {
				h.step()
			}
		})
	}
	done = make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}
