package benchload

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Call is one call of a caller; n counts that caller's calls. It returns what was
// done, in items.
type Call func(ctx context.Context, caller, n int) (items int, err error)

// Measured is what a Loop saw.
type Measured struct {
	Latency Histogram
	Calls   int64 // answered without an error
	Items   int64 // of those calls
	Errors  map[string]int64
	// Elapsed is from the first call to the last answer.
	Elapsed time.Duration
}

// PerSecond is the rate of items.
func (m *Measured) PerSecond() float64 { return float64(m.Items) / m.Elapsed.Seconds() }

// Loop lets callers call for d, each its next call when it has the answer to the
// last, and returns when all have ended. Calls that are under way at the end are
// finished and counted, with the time that they took. name turns an error into
// the few words that it is counted under; nil is its text. A caller goes on after
// an error. ctx ends it early.
func Loop(ctx context.Context, callers int, d time.Duration, name func(error) string, call Call) *Measured {
	if name == nil {
		name = error.Error
	}
	total := &Measured{Errors: make(map[string]int64)}
	var mu sync.Mutex // guards total
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for c := range callers {
		wg.Go(func() {
			m := &Measured{Errors: make(map[string]int64)}
			at := time.Now()
			for n := 0; at.Before(end) && ctx.Err() == nil; n++ {
				items, err := call(ctx, c, n)
				now := time.Now()
				switch {
				case err == nil:
					m.Latency.Record(now.Sub(at))
					m.Calls++
					m.Items += int64(items)
				case ctx.Err() != nil && errors.Is(err, context.Canceled):
				default:
					m.Errors[name(err)]++
				}
				at = now
			}
			mu.Lock()
			defer mu.Unlock()
			total.Latency.Add(&m.Latency)
			total.Calls += m.Calls
			total.Items += m.Items
			for k, v := range m.Errors {
				total.Errors[k] += v
			}
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	return total
}
