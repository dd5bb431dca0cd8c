package proof

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// loseCounterStores removes the stores of counters below a data directory, and
// returns how many there were. It is repeated while a process still writes there.
func loseCounterStores(dir string) (int, error) {
	stores, err := filepath.Glob(filepath.Join(dir, "stores", "*", "counter-*"))
	if err != nil {
		return 0, err
	}
	for _, s := range stores {
		for {
			err := os.RemoveAll(s)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.ENOTEMPTY) {
				return 0, err
			}
		}
	}
	return len(stores), nil
}

// TestCounterStoresAreRebuilt loses the stores of counters, of a process that was
// killed and of one that was stopped: all that is in them comes from the log again,
// the tokens and reservations included.
func TestCounterStoresAreRebuilt(t *testing.T) {
	seed, r := seedOf(t)
	began := time.Now()
	b := &ledger{}
	k := newKilled(t)
	for round := range 3 {
		c := connect(t, k.p.grpc)
		l := &tallies{ledger: b, round: round, counters: 12, spaces: []string{demoSpace, exactSpace, boundSpace}, most: (round + 1) * 1000}
		l.run(c, seed, 6, nil)
		c.close()
		if round == 1 {
			k.p.signal(t, syscall.SIGTERM)
			<-k.p.gone
		} else {
			k.p.kill(t)
		}
		n, err := loseCounterStores(k.sv.dir)
		if err != nil || n != 4 {
			t.Fatalf("%d stores of counters are lost: %v", n, err)
		}
		k.again()
		c = connect(t, k.p.grpc)
		if err := b.again(c, b.sample(r, 200)); err != nil {
			t.Fatal(err)
		}
		if err := b.verifyAll(c, l.spaces, began); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, k.p.said())
		}
		c.close()
	}
}

// TestCounterStoresAreLostUnderReads removes the stores of counters under a
// process that is read and written: a read answers what is true, or an error that
// says so, and never more than was added; after a kill the counts are exact.
func TestCounterStoresAreLostUnderReads(t *testing.T) {
	seed, r := seedOf(t)
	began := time.Now()
	b := &ledger{}
	k := newKilled(t)
	c := connect(t, k.p.grpc)
	l := &tallies{ledger: b, counters: 12, spaces: []string{demoSpace, exactSpace, boundSpace}, most: 2000}
	l.run(c, seed, 6, nil)
	if err := b.err(); err != nil {
		t.Fatal(err)
	}
	c.close()
	k.again() // so that nothing is in memory
	c = connect(t, k.p.grpc)
	n, err := partitionsOf(c, demoSpace)
	if err != nil {
		t.Fatal(err)
	}
	still, err := b.figures(demoSpace, n)
	if err != nil {
		t.Fatal(err)
	}
	watch := newWatched(still)
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { watch.write(c, stop) })
	for range 3 {
		work.Go(func() { watch.read(t, c, stop) })
	}
	// Some reads before, and some after; the process may stop over it by itself.
	watch.await(t, k.p, 20)
	if n, err := loseCounterStores(k.sv.dir); err != nil || n != 4 {
		t.Fatalf("%d stores of counters are lost: %v", n, err)
	}
	lostAt := watch.reads.Load()
	watch.await(t, k.p, lostAt+4000)
	k.p.signal(t, syscall.SIGKILL)
	<-k.p.gone
	close(stop)
	work.Wait()
	c.close()
	if _, err := loseCounterStores(k.sv.dir); err != nil { // what was written meanwhile
		t.Fatal(err)
	}
	k.again()
	c = connect(t, k.p.grpc)
	defer c.close()
	if err := b.settle(c); err != nil {
		t.Fatal(err)
	}
	if err := b.again(c, b.sample(r, 200)); err != nil {
		t.Fatal(err)
	}
	if err := b.verifyAll(c, l.spaces, began); err != nil {
		t.Fatal(err)
	}
	if err := watch.settle(c); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d reads, %d of them after the loss, %d refused %v; %d adds", watch.reads.Load(), watch.reads.Load()-lostAt, watch.failed.Load(), watch.reasons(), watch.sent.Load())
}

// watched is a counter that one caller adds 1 to, again and again, and others
// read. Its adds have keys of their numbers.
type watched struct {
	sent, acked   atomic.Int64
	reads, failed atomic.Int64
	still         map[string]*figure // counters that nobody adds to meanwhile
	mu            sync.Mutex         // guards why
	why           map[string]int
}

const watchedCounter = foreignPrefix + "/watched"

func newWatched(still map[string]*figure) *watched {
	return &watched{still: still, why: make(map[string]int)}
}

func (w *watched) add(c *conn, n int64) reckoning {
	ctx, cancel := callContext()
	defer cancel()
	return c.count(ctx, &tally{add: &headwaterv1.AddCountRequest{Namespace: demoSpace, Counter: watchedCounter, Delta: 1, Token: &headwaterv1.IdempotencyToken{
		Identity: &headwaterv1.IdempotencyToken_Key{Key: fmt.Sprintf("watched %d", n)},
	}}})
}

// write adds until stop is closed, or an add has no answer.
func (w *watched) write(c *conn, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		n := w.sent.Add(1)
		if a := w.add(c, n); a.outcome != acked {
			return // settle sends it again
		}
		w.acked.Store(n)
	}
}

// read reads until stop is closed: accurately, or with nothing pending, it is at
// least what was acknowledged before the read; never is it more than what was sent
// by its end, or less than what this caller has seen.
func (w *watched) read(t *testing.T, c *conn, stop <-chan struct{}) {
	seen := int64(0)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		if i%8 == 7 {
			w.readStill(t, c, fmt.Sprintf("c%02d", i/8%12))
			continue
		}
		req := &headwaterv1.GetCountRequest{Namespace: demoSpace, Counter: watchedCounter, Accuracy: headwaterv1.Count_EVENTUAL}
		if i%2 == 0 {
			req.Accuracy = headwaterv1.Count_ACCURATE
		}
		least := w.acked.Load()
		ctx, cancel := callContext()
		r, err := c.counters().GetCount(ctx, req)
		cancel()
		most := w.sent.Load()
		w.reads.Add(1)
		if err != nil {
			w.refused(t, err)
			continue
		}
		if req.Accuracy == headwaterv1.Count_EVENTUAL && r.Count.Pending != 0 {
			least = seen // what is missing is pending; what was there stays
		}
		if v := r.Count.Value; v > most || v < max(least, seen) {
			t.Errorf("%v: it must be %d to %d, and this caller has seen %d", r.Count, least, most, seen)
			return
		}
		seen = r.Count.Value
	}
}

// readStill reads a counter that nobody adds to, which comes from the store the
// first time.
func (w *watched) readStill(t *testing.T, c *conn, name string) {
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.counters().GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: demoSpace, Counter: name})
	w.reads.Add(1)
	if err != nil {
		w.refused(t, err)
	} else if v := r.Count.Value; v != w.still[name].value {
		t.Errorf("%s is read as %d, and is %d", name, v, w.still[name].value)
	}
}

// refused takes an error of a read that says that it passes.
func (w *watched) refused(t *testing.T, err error) {
	w.failed.Add(1)
	e := apierrors.FromStatus(err)
	w.mu.Lock()
	w.why[e.Reason+" "+e.Code.String()]++
	w.mu.Unlock()
	if e.Code != codes.Unavailable && e.Code != codes.Internal && e.Code != codes.DeadlineExceeded {
		t.Errorf("a read without its store: %v", err)
	}
}

func (w *watched) reasons() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// await returns when so many reads were made, or the process has gone.
func (w *watched) await(t *testing.T, p *process, reads int64) {
	t.Helper()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for w.reads.Load() < reads {
		select {
		case <-p.gone:
			return
		case <-limit.C:
			t.Fatalf("%d reads in %v, want %d", w.reads.Load(), timeout, reads)
		case <-time.After(time.Millisecond):
		}
	}
}

// settle sends all adds again, and requires the count to be exact then.
func (w *watched) settle(c *conn) error {
	for n := range w.sent.Load() {
		if a := w.add(c, n+1); a.outcome != acked || n+1 <= w.acked.Load() && !a.again {
			return fmt.Errorf("add %d of %d (%d were acknowledged) sent again: %v", n+1, w.sent.Load(), w.acked.Load(), &a)
		}
	}
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.counters().GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: demoSpace, Counter: watchedCounter, Accuracy: headwaterv1.Count_ACCURATE})
	if err != nil {
		return err
	}
	if r.Count.Value != w.sent.Load() {
		return fmt.Errorf("%d after %d adds", r.Count.Value, w.sent.Load())
	}
	return nil
}
