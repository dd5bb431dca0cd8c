package proof

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// crowd is many callers on a few connections that follow a process over kills.
type crowd struct {
	k   *killed
	b   *ledger
	cut atomic.Int64 // calls that a kill cut off

	mu sync.Mutex // guards cs and next
	cs []*conn    // to where the process is; nil when that is not known
	// next is closed when the process is elsewhere.
	next <-chan struct{}
}

func (w *crowd) conn(i int) (*conn, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.next: // elsewhere
		w.cs = nil
	default:
	}
	if w.cs == nil {
		var addr string
		addr, w.next = w.k.sv.where()
		for range 8 {
			w.cs = append(w.cs, connect(w.k.sv.t, addr))
		}
	}
	return w.cs[i%len(w.cs)], w.next
}

// all sends every call at once, each until it has an answer, and kills the process
// when a number of them have theirs: once for each number.
func (w *crowd) all(calls []*tally, known bool, kills ...int64) {
	t := w.k.sv.t
	t.Helper()
	var answered atomic.Int64
	reached := make(chan struct{}, len(kills))
	var wg sync.WaitGroup
	for i, x := range calls {
		wg.Go(func() {
			for {
				c, next := w.conn(i)
				ctx, cancel := callContext()
				a := c.count(ctx, x)
				cancel()
				w.b.note(x, &a, known)
				if a.outcome != unknown {
					break
				}
				w.cut.Add(1)
				select {
				case <-next:
				case <-time.After(timeout):
					t.Errorf("%v: %v, and the process was not killed", x, &a)
					return
				}
			}
			n := answered.Add(1)
			for _, kill := range kills {
				if n == kill {
					reached <- struct{}{}
				}
			}
		})
	}
	for range kills {
		<-reached
		w.k.again()
	}
	wg.Wait()
	if err := w.b.err(); err != nil {
		t.Fatal(err)
	}
}

// TestAQuotaIsExactOverKills lets 1,000 callers reserve one each of 100, kills the
// process in the middle, and has everybody ask again under the same token: 100 are
// granted, never 101, and each keeps what it was granted.
func TestAQuotaIsExactOverKills(t *testing.T) {
	_, r := seedOf(t)
	rounds := 1
	if long() {
		rounds = 10
	}
	k := newKilled(t)
	for round := range rounds {
		quota(t, k, r, fmt.Sprintf("quota%d", round))
	}
}

func quota(t *testing.T, k *killed, r *rand.Rand, name string) {
	t.Helper()
	const have, want = 100, 1000
	began := time.Now()
	b := &ledger{}
	w := &crowd{k: k, b: b}
	_, w.next = k.sv.where()
	first := b.enter(&tally{ns: exactSpace, counter: name, get: &headwaterv1.AddAndGetCountRequest{Namespace: exactSpace, Counter: name, Delta: have, Token: nonceToken(wal.NewNonce(), 0)}})
	w.all([]*tally{first}, false)
	var calls []*tally
	for range want {
		calls = append(calls, b.enter(&tally{ns: exactSpace, counter: name, reserve: &headwaterv1.ReserveCountRequest{
			Namespace: exactSpace, Counter: name, Amount: 1, Lease: durationpb.New(time.Hour), Token: nonceToken(wal.NewNonce(), 0),
		}}))
	}
	// Once while some are granted, and once while the others are refused.
	w.all(calls, false, 1+r.Int64N(have-1), have+r.Int64N(want-2*have))
	var granted []*tally
	ids := make(map[string]bool)
	for _, x := range calls {
		if x.first.outcome == acked {
			granted = append(granted, x)
			ids[x.first.reservation] = true
		}
	}
	if len(granted) != have || len(ids) != have {
		t.Fatalf("%d were granted, with %d ids, and there were %d", len(granted), len(ids), have)
	}
	w.expect(name, have, have)
	w.all(calls, true) // all of it once more
	w.expect(name, have, have)

	// Half of them is used, and the other half given back.
	var ends []*tally
	for i, x := range granted {
		e := &tally{ns: exactSpace, counter: name}
		if tok := nonceToken(wal.NewNonce(), 0); i%2 == 0 {
			e.settle = &headwaterv1.SettleReservationRequest{Namespace: exactSpace, ReservationId: x.first.reservation, Token: tok}
		} else {
			e.cancel = &headwaterv1.CancelReservationRequest{Namespace: exactSpace, ReservationId: x.first.reservation, Token: tok}
		}
		ends = append(ends, b.enter(e))
	}
	w.all(ends, false, 1+r.Int64N(have-1))
	w.expect(name, have/2, 0)
	c, _ := w.conn(0)
	n, err := partitionsOf(c, exactSpace)
	if err != nil {
		t.Fatal(err)
	}
	figures, err := b.figures(exactSpace, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := recount(c, exactSpace, name, figures[name], began); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d were granted to %d callers; the kills cut off %d calls", len(granted), want, w.cut.Load())
}

// expect reads a counter accurately.
func (w *crowd) expect(name string, value, held int64) {
	w.k.sv.t.Helper()
	c, _ := w.conn(0)
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.counters().GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: exactSpace, Counter: name})
	if err != nil || r.Count.Value != value || r.Count.Held != held || r.Count.Accuracy != headwaterv1.Count_ACCURATE {
		w.k.sv.t.Fatalf("%s is %v, want %d with %d held: %v", name, r.GetCount(), value, held, err)
	}
}

// TestEveryCopyHasOneEffect sends calls of every kind three times at once, and
// three times again after each of two kills: one effect, and one answer.
func TestEveryCopyHasOneEffect(t *testing.T) {
	seed, r := seedOf(t)
	n := 120
	if long() {
		n = 1200
	}
	began := time.Now()
	k := newKilled(t)
	b := &ledger{}
	w := &crowd{k: k, b: b}
	_, w.next = k.sv.where()
	maker := &teller{tallies: &tallies{ledger: b, counters: 6, spaces: []string{demoSpace, exactSpace, boundSpace}}, r: rand.New(rand.NewPCG(seed, 9))}
	thrice := func(calls []*tally, known bool, kills ...int64) {
		t.Helper()
		var all []*tally
		for range 3 {
			all = append(all, calls...)
		}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		w.all(all, known, kills...)
	}
	var calls []*tally
	for i := range n {
		calls = append(calls, b.enter(maker.anyCall(i)))
	}
	// No counter comes to so much, so one call at least is refused, whatever the seed.
	const tooMuch = "c00"
	calls = append(calls, b.enter(&tally{ns: exactSpace, counter: tooMuch, reserve: &headwaterv1.ReserveCountRequest{
		Namespace: exactSpace, Counter: tooMuch, Amount: 1 << 40, Lease: durationpb.New(time.Hour), Token: maker.token(),
	}}))
	thrice(calls, false, int64(n/2), int64(2*n))
	// What was reserved is settled or cancelled, three times as well.
	var ends []*tally
	for _, x := range calls {
		if x.reserve == nil || x.first.outcome != acked {
			continue
		}
		e := &tally{ns: x.ns, counter: x.counter}
		if tok := nonceToken(wal.NewNonce(), 0); len(ends)%2 == 0 {
			e.settle = &headwaterv1.SettleReservationRequest{Namespace: x.ns, ReservationId: x.first.reservation, Token: tok}
		} else {
			e.cancel = &headwaterv1.CancelReservationRequest{Namespace: x.ns, ReservationId: x.first.reservation, Token: tok}
		}
		ends = append(ends, b.enter(e))
	}
	thrice(ends, false)
	calls = append(calls, ends...)
	lives := 2
	if !testing.Short() {
		lives = 6 // a token that one flush forgot is one of many, and not every call shows it
	}
	for range lives {
		k.again()
		thrice(calls, true)
		c, _ := w.conn(0)
		if err := b.verifyAll(c, maker.spaces, began); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d calls, cut off %d times; answers: %d unknown, %d acknowledged, %d refused %v", len(calls), w.cut.Load(), b.counts[unknown], b.counts[acked], b.counts[refused], b.refusal)
	if b.counts[refused] == 0 {
		t.Error("no call was refused")
	}
	mustHave(t, len(ends) > 0, "reservation to end")
}

// anyCall is a call of each kind in turn, but for those that need a reservation.
func (w *teller) anyCall(i int) *tally {
	ns := w.spaces[w.r.IntN(len(w.spaces))]
	name := w.name()
	switch i % 6 {
	case 0, 1:
		return &tally{ns: ns, adds: w.batch(ns)}
	case 2:
		return &tally{ns: ns, add: &headwaterv1.AddCountRequest{Namespace: ns, Counter: name, Delta: w.delta(), Token: w.token()}}
	case 3:
		return w.addAndGet(ns)
	case 4:
		return &tally{ns: ns, counter: name, reserve: &headwaterv1.ReserveCountRequest{
			Namespace: ns, Counter: name, Amount: 1 + w.r.Int64N(40), Lease: durationpb.New(time.Hour), Token: w.token(),
		}}
	default:
		return &tally{ns: ns, counter: name, clear: &headwaterv1.ClearCountRequest{Namespace: ns, Counter: name, Token: w.token()}}
	}
}
