package pebblestore

import (
	"io"
	"math"
	"sync"
	"sync/atomic"
)

// gate keeps Pebble from being used after it is closed. It is not a lock: a call
// that is inside may enter again while close waits for it, and is then told that
// the store is closed.
type gate struct {
	// calls is how many calls are inside; shut is added to it by close.
	calls atomic.Int64
	idle  chan struct{} // of one; close waits for it

	mu   sync.Mutex
	open map[io.Closer]struct{} // guarded by mu; nil once close has taken it
}

const shut = math.MinInt64

func newGate() *gate {
	return &gate{idle: make(chan struct{}, 1), open: make(map[io.Closer]struct{})}
}

// enter is called first by everything that uses Pebble, and leave when it is done.
// false when the store is closed; then there is nothing to do.
func (g *gate) enter() bool {
	if g.calls.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.calls.Add(-1) == shut { // the last one, or one that was not let in
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// keep remembers what is open in Pebble beyond the call that opened it. Its caller
// is inside.
func (g *gate) keep(c io.Closer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[c] = struct{}{}
}

// drop forgets what keep remembered and enters, for its caller to close it. false
// when there is nothing to do: it is closed already, or close has it.
func (g *gate) drop(c io.Closer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.open[c]; !ok || !g.enter() {
		return false
	}
	delete(g.open, c)
	return true
}

// close lets nobody in any more, waits until nobody is inside, and returns what is
// still open in Pebble. It is called once.
func (g *gate) close() map[io.Closer]struct{} {
	if g.calls.Add(shut) != shut {
		<-g.idle
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	open := g.open
	g.open = nil
	return open
}
