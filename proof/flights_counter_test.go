package proof

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/demo"
)

// flightsToCount are the sample in the binary or, where HEADWATER_FLIGHTS names a
// file, all of that.
func flightsToCount(t *testing.T) *demo.Flights {
	t.Helper()
	name := os.Getenv("HEADWATER_FLIGHTS")
	if name == "" {
		f, err := demo.Sample(0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f, err := demo.File(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// counting is a load of flights that is killed and begun again, from the first
// call, under the same tokens.
type counting struct {
	batches []demo.CounterBatch
	acked   []atomic.Bool // calls that were acknowledged, in whatever round
	fresh   atomic.Int64  // of this round, those that were not known
	again   atomic.Int64  // answers that a call is known, of those acknowledged before
	found   atomic.Int64  // and of those that nobody was told of
	cut     atomic.Int64  // calls that ended without an answer
	killing atomic.Bool   // the server of this round is being killed
}

// round sends every call from eight clients, and kills the server when kill calls
// were counted; 0: not at all. It ends when all have their answer or the server is
// gone.
func (l *counting) round(t *testing.T, p *process, kill int64) {
	t.Helper()
	l.fresh.Store(0)
	l.killing.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var next atomic.Int64
	var once sync.Once
	var wg sync.WaitGroup
	for range 8 {
		c, err := client.Dial(p.grpc, client.Config{Timeout: timeout, FailFast: true})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(l.batches) {
					return
				}
				if !l.send(ctx, t, c, p, i) {
					return
				}
				if kill > 0 && l.fresh.Load() >= kill {
					once.Do(func() {
						l.killing.Store(true)
						p.signal(t, syscall.SIGKILL)
						<-p.gone
						cancel() // what the others have in hand is cut off
					})
				}
			}
		})
	}
	wg.Wait()
}

// send sends one call. false: the server is gone.
func (l *counting) send(ctx context.Context, t *testing.T, c *client.Client, p *process, i int) bool {
	b := &l.batches[i]
	was := l.acked[i].Load()
	res, err := c.Counter("demo-counter").AddAll(ctx, b.Adds(nil), client.CounterWriteOptions{Token: client.Token{Key: b.Token}})
	if err != nil {
		if !l.killing.Load() {
			t.Errorf("call %d: %v\n%s", i, err, p.said())
		}
		l.cut.Add(1)
		return false
	}
	switch known := res.Duplicate == client.Repeated; {
	case was && !known:
		t.Errorf("call %d was acknowledged, and counted once more under the same token (%v)", i, res.Duplicate)
	case was:
		l.again.Add(1)
	case known:
		l.found.Add(1)
	default:
		l.fresh.Add(1)
	}
	l.acked[i].Store(true)
	return true
}

// check reads every counter and compares it with the file.
func (l *counting) check(t *testing.T, p *process, f *demo.Flights, r *rand.Rand) {
	t.Helper()
	c, err := client.Dial(p.grpc, client.Config{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := c.Counter("demo-counter")
	want := f.Counts()
	var names []string
	for name := range want {
		names = append(names, name)
	}
	got, err := n.GetMany(t.Context(), names, client.CountOptions{Accuracy: client.CountAccurate})
	if err != nil {
		t.Fatalf("read the counts: %v\n%s", err, p.said())
	}
	listed := 0
	for x, err := range n.List(t.Context(), client.ListCountsOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := want[x.Counter]; !ok {
			t.Errorf("%s is there, and the file has no such thing", x.Counter)
		}
		listed++
	}
	if listed != len(want) {
		t.Errorf("%d counters are listed, and the file has %d", listed, len(want))
	}
	wrong := 0
	for name, v := range want {
		if got[name].Value != v {
			if wrong++; wrong <= 5 {
				t.Errorf("%s is %d, and the file counts %d", name, got[name].Value, v)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d counters differ from the file", wrong, len(want))
	}
	for range 20 {
		name := names[r.IntN(len(names))]
		v, err := n.Verify(t.Context(), name)
		if err != nil {
			t.Fatalf("recount %s: %v", name, err)
		}
		if v.Drift != 0 || v.Recounted != want[name] {
			t.Errorf("%s recounted is %d, drift %d; the file counts %d", name, v.Recounted, v.Drift, want[name])
		}
	}
}

// TestKilledCountIsExact counts real flights from eight clients, kills the server
// by SIGKILL three times in the middle, and sends everything again under the same
// tokens each time: the counts are the file's.
func TestKilledCountIsExact(t *testing.T) {
	f := flightsToCount(t)
	_, r := seedOf(t)
	l := &counting{batches: f.CounterBatches(50)}
	l.acked = make([]atomic.Bool, len(l.batches))
	dir := t.TempDir()
	left := int64(len(l.batches))
	for kill := range 3 {
		p := start(t, dir)
		// Somewhere in the first two thirds of what is left.
		l.round(t, p, 1+r.Int64N(left*2/3))
		select {
		case <-p.gone:
		default:
			t.Fatalf("kill %d: the load has ended, and the server was not killed", kill)
		}
		left = 0
		for i := range l.acked {
			if !l.acked[i].Load() {
				left++
			}
		}
	}
	p := start(t, dir)
	l.round(t, p, 0)
	for i := range l.acked {
		if !l.acked[i].Load() {
			t.Fatalf("call %d has no answer\n%s", i, p.said())
		}
	}
	l.check(t, p, f, r)
	p.kill(t)
	p = start(t, dir)
	l.check(t, p, f, r)
	again := l.again.Load()
	l.round(t, p, 0) // all of it once more
	if n := l.again.Load() - again; n != int64(len(l.batches)) || l.fresh.Load() != 0 {
		t.Errorf("of %d calls that were sent once more %d were known, and %d counted", len(l.batches), n, l.fresh.Load())
	}
	l.check(t, p, f, r)
	mustHave(t, l.cut.Load() > 0, "call that a kill cut off")
	t.Logf("%d flights, %d increments, %d counters, %d calls; 3 kills cut off %d calls; of the calls sent again %d had been acknowledged, and %d were there though nobody had been told",
		f.Rows, f.Rows*demo.IncrementsPerFlight, len(f.Counts()), len(l.batches), l.cut.Load(), l.again.Load(), l.found.Load())
}
