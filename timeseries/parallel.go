package timeseries

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// inParallel calls f for 0 to n-1, by so many workers, whose number it is told, and returns the
// first error. After one the others' ctx ends. A panic of f is one of the caller.
func inParallel(ctx context.Context, workers, n int, f func(ctx context.Context, worker, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		broken atomic.Pointer[string]
	)
	for w := range min(workers, n) {
		wg.Go(func() {
			defer func() {
				if x := recover(); x != nil {
					broken.Store(new(fmt.Sprintf("%v\n%s", x, debug.Stack())))
				}
			}()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, w, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if broken := broken.Load(); broken != nil {
		panic(*broken) // in the goroutine of the call, as without workers
	}
	return context.Cause(ctx)
}
