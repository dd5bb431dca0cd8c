package client_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

func faulty(f *clienttest.Faults) client.Config {
	return client.Config{DialOptions: []grpc.DialOption{f.Option()}, RetryInitial: time.Millisecond, RetryMax: 5 * time.Millisecond}
}

// Every add of many goroutines counts once, though answers are lost and requests
// come twice: in shared requests, under tokens of their own, in lists, and with
// their answers.
func TestConcurrentAddsCountOnceOverABadNetwork(t *testing.T) {
	t.Parallel()
	f := &clienttest.Faults{LoseEvery: 3, RepeatEvery: 4}
	_, c := clienttest.NewServer(t, clienttest.Config{Client: faulty(f)})
	n := c.Counter("demo-counter")
	const callers, each = 32, 20
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("c-%d", i%4)
				if _, err := n.Add(t.Context(), name, 1); err != nil {
					t.Error(err)
				}
				o := client.AddOptions{Token: client.Token{Key: fmt.Sprintf("%d/%d", g, i)}}
				for range 2 {
					if _, err := n.AddWith(t.Context(), name, 10, o); err != nil {
						t.Error(err)
					}
				}
				if _, err := n.AddAll(t.Context(), []client.CounterAdd{{Counter: name, Delta: 60}, {Counter: name, Delta: 40}}, client.CounterWriteOptions{}); err != nil {
					t.Error(err)
				}
				a, err := n.AddAndGet(t.Context(), name, 1000, client.AddAndGetOptions{})
				if err != nil || a.Applied != 1000 || a.Count.Value < 1111 {
					t.Errorf("%+v, %v", a, err)
				}
			}
		})
	}
	wg.Wait()
	if f.Lost() == 0 || f.Repeated() == 0 {
		t.Error("nothing was lost or repeated")
	}
	total := int64(0)
	for m, err := range n.List(t.Context(), client.ListCountsOptions{Prefix: "c-", PageSize: 3}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(callers * each / 4 * 1111); m.Count.Value != want {
			t.Errorf("%s is %d, want %d", m.Counter, m.Count.Value, want)
		}
		total += m.Count.Value
		series, err := n.Series(t.Context(), m.Counter, client.SeriesOptions{Since: time.Now().Add(-time.Hour), Granularity: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		sum, adds := int64(0), int64(0)
		for _, p := range series.Points {
			sum, adds = sum+p.Sum, adds+p.Adds
		}
		if sum != m.Count.Value || adds != callers*each/4*5 {
			t.Errorf("series of %s: %d of %d adds", m.Counter, sum, adds)
		}
		v, err := n.Verify(t.Context(), m.Counter)
		if err != nil || v.Drift != 0 || v.Recounted != m.Count.Value {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if total != callers*each*1111 {
		t.Errorf("total %d", total)
	}
}

// An add whose own token was used for another one of its counter fails alone.
func TestAConflictingAddFailsAlone(t *testing.T) {
	t.Parallel()
	n := clienttest.New(t).Counter("demo-counter")
	used := client.AddOptions{Token: client.Token{Key: "used"}}
	if _, err := n.AddWith(t.Context(), "first", 1, used); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var conflicts atomic.Int64
	for g := range 64 {
		wg.Go(func() {
			for i := range 10 {
				if g%8 == 0 && i%5 == 0 {
					_, err := n.AddWith(t.Context(), "first", 2, used)
					e, ok := errors.AsType[*client.Error](err)
					if !ok || !errors.Is(err, client.ErrConflict) || e.Outcome != client.NotApplied || e.Token.Key != "used" {
						t.Errorf("%v", err)
					}
					conflicts.Add(1)
				}
				if _, err := n.Add(t.Context(), fmt.Sprintf("good-%d", g), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	counts, err := n.GetMany(t.Context(), []string{"first", "other", "good-0", "good-63", "none"}, client.CountOptions{Accuracy: client.CountAccurate})
	if err != nil || counts["first"].Value != 1 || counts["other"].Value != 0 || counts["good-0"].Value != 10 || counts["good-63"].Value != 10 || counts["none"].Value != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// A quota is never exceeded, whatever is lost on the way.
func TestReservationsNeverExceedTheValue(t *testing.T) {
	t.Parallel()
	f := &clienttest.Faults{LoseEvery: 3, RepeatEvery: 4}
	_, c := clienttest.NewServer(t, clienttest.Config{Client: faulty(f)})
	n := c.Counter("demo-counter")
	if _, err := n.Add(t.Context(), "quota", 20); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var held atomic.Int64
	for g := range 50 {
		wg.Go(func() {
			r, err := n.Reserve(t.Context(), "quota", 1, time.Hour, client.CounterWriteOptions{})
			switch {
			case errors.Is(err, client.ErrInsufficient):
				return
			case err != nil:
				t.Error(err)
				return
			}
			held.Add(1)
			if g%2 == 0 {
				_, err = r.Settle(t.Context(), client.CounterWriteOptions{})
			} else {
				_, err = n.Reservation(r.ID).SettleAmount(t.Context(), 1, client.CounterWriteOptions{})
			}
			if err != nil {
				t.Error(err)
			}
			if _, err = r.Settle(t.Context(), client.CounterWriteOptions{}); err == nil {
				t.Error("settled twice")
			}
		})
	}
	wg.Wait()
	count, err := n.GetWith(t.Context(), "quota", client.CountOptions{Accuracy: client.CountAccurate})
	if err != nil || count.Value != 0 || count.Held != 0 || held.Load() != 20 {
		t.Errorf("%+v, %v; %d reserved", count, err, held.Load())
	}
}
