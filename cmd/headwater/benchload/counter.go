package benchload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/headwater-db/headwater/client"
)

// counterAdder is what one caller needs to draw counters.
type counterAdder struct {
	random *rand.Rand
	zipf   *rand.Zipf // nil: all alike
	adds   []client.CounterAdd
	text   []byte // the names of adds, one behind the other
	ends   []int  // of the names
}

// prepareCounters makes the names and the callers' states once, so that what is
// measured is calls and not the making of strings. addAll writes its own names.
func (r *run) prepareCounters(callers int) {
	r.names = make([]string, r.o.Records)
	for i := range r.names {
		r.names[i] = r.o.Prefix + strconv.Itoa(i)
	}
	r.adders = make([]counterAdder, callers)
	for i := range r.adders {
		a := &r.adders[i]
		a.random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		if r.o.Zipf > 1 {
			a.zipf = rand.NewZipf(a.random, r.o.Zipf, 1, uint64(r.o.Records-1))
		}
	}
}

// counter draws one for a caller.
func (r *run) counter(caller int) string { return r.names[r.adders[caller].draw(len(r.names))] }

// draw draws one of n.
func (a *counterAdder) draw(n int) int {
	if a.zipf != nil {
		return int(a.zipf.Uint64())
	}
	return a.random.IntN(n)
}

// addAll adds 1 to counters that are drawn anew for each call. The call's token
// is the client's, a new one each time. The names are written for the call, one
// behind the other, as redis-benchmark writes its keys: fetching each from
// wherever it lies among 100,000 was a seventh of all the CPU of a measurement.
func (r *run) addAll(ctx context.Context, caller, _ int) (int, error) {
	a := &r.adders[caller]
	if a.adds == nil {
		a.adds, a.ends = make([]client.CounterAdd, r.o.BatchItems), make([]int, r.o.BatchItems)
	}
	a.text = a.text[:0]
	for i := range a.ends {
		a.text = strconv.AppendInt(append(a.text, r.o.Prefix...), int64(a.draw(r.o.Records)), 10)
		a.ends[i] = len(a.text)
	}
	names, from := string(a.text), 0
	for i, end := range a.ends {
		a.adds[i] = client.CounterAdd{Counter: names[from:end], Delta: 1}
		from = end
	}
	return len(a.adds), r.wrote(r.c.Counter(r.o.Namespace).AddAll(ctx, a.adds, client.CounterWriteOptions{}))
}

func (r *run) add(ctx context.Context, caller, _ int) (int, error) {
	return 1, r.wrote(r.c.Counter(r.o.Namespace).Add(ctx, r.counter(caller), 1))
}

func (r *run) addGet(ctx context.Context, caller, _ int) (int, error) {
	a, err := r.c.Counter(r.o.Namespace).AddAndGet(ctx, r.counter(caller), 1, client.AddAndGetOptions{})
	return 1, r.wrote(a.WriteResult, err)
}

// getCount reads at the namespace's accuracy, without waiting for the writes of
// this client, which are not the reader's.
func (r *run) getCount(ctx context.Context, caller, _ int) (int, error) {
	_, err := r.c.Counter(r.o.Namespace).GetWith(ctx, r.counter(caller), client.CountOptions{Accuracy: client.CountEventual})
	return 1, err
}

// fillCounters adds to every counter once.
func (r *run) fillCounters(ctx context.Context) error {
	for from := 0; from < len(r.names); from += client.MaxAdds {
		names := r.names[from:min(from+client.MaxAdds, len(r.names))]
		adds := make([]client.CounterAdd, len(names))
		for i, name := range names {
			adds[i] = client.CounterAdd{Counter: name, Delta: 1}
		}
		if _, err := r.c.Counter(r.o.Namespace).AddAll(ctx, adds, client.CounterWriteOptions{}); err != nil {
			return fmt.Errorf("write what will be read: %w", err)
		}
	}
	return nil
}

// getWhileWriting measures reads while writers add as fast as they can.
func (r *run) getWhileWriting(ctx context.Context) *Report {
	w := &run{c: r.c, o: r.o}
	w.o.Workload, w.o.Callers, w.o.Writers = "counter-batch", r.o.Writers, 0
	w.prepareCounters(r.o.Writers)
	var writes *Report
	var wg sync.WaitGroup
	var begin sync.Once
	writing := make(chan struct{})
	begun := func() { begin.Do(func() { close(writing) }) }
	wg.Go(func() {
		defer begun()
		writes = w.report(Loop(ctx, w.o.Callers, w.o.Duration, errorName, func(ctx context.Context, caller, n int) (int, error) {
			begun()
			return w.addAll(ctx, caller, n)
		}))
	})
	<-writing
	rep := r.report(Loop(ctx, r.o.Callers, r.o.Duration, errorName, r.getCount))
	wg.Wait()
	rep.Writers = writes
	return rep
}
