package kafkalog

import (
	"context"
	"sync"
)

// shared runs one operation for everyone who asks. Who asks while it runs gets
// the next run, never the one in flight: its answer may be older than the
// question.
type shared[T any] struct {
	// run starts the operation and returns; it calls done exactly once.
	run func(done func(T, error))

	mu      sync.Mutex // guards the rest
	running bool
	waiting *flight[T] // the run after the one in flight
}

type flight[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// do returns the outcome of a run that began after the call.
func (s *shared[T]) do(ctx context.Context) (T, error) {
	s.mu.Lock()
	if s.waiting == nil {
		s.waiting = &flight[T]{done: make(chan struct{})}
	}
	f := s.waiting
	start := !s.running
	if start {
		s.running, s.waiting = true, nil
	}
	s.mu.Unlock()
	if start {
		s.start(f)
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

func (s *shared[T]) start(f *flight[T]) {
	s.run(func(v T, err error) {
		f.value, f.err = v, err
		close(f.done)
		s.mu.Lock()
		next := s.waiting
		s.waiting = nil
		s.running = next != nil
		s.mu.Unlock()
		if next != nil {
			s.start(next)
		}
	})
}
