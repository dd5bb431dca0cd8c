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

// byName is a lock for each name.
type byName struct {
	mu sync.Mutex // guards m
	m  map[string]*nameLock
}

type nameLock struct {
	held  chan struct{} // holds one
	users int           // who hold it or wait for it
}

// lock returns when the name is the caller's until unlock, or the error of the
// context that ends first.
func (n *byName) lock(ctx, also context.Context, name string) (unlock func(), err error) {
	n.mu.Lock()
	l := n.m[name]
	if l == nil {
		l = &nameLock{held: make(chan struct{}, 1)}
		if n.m == nil {
			n.m = make(map[string]*nameLock)
		}
		n.m[name] = l
	}
	l.users++
	n.mu.Unlock()
	leave := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(n.m, name)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-also.Done():
		err = also.Err()
	}
	leave()
	return nil, err
}
