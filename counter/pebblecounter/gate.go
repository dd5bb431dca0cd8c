package pebblecounter

import (
	"context"
	"sync"

	"github.com/headwater-db/headwater/counter"
)

// gate keeps Pebble from being used after it is closed. It is not a lock: who is
// inside may enter again, while Close waits, and is told that it is closed.
type gate struct {
	mu     sync.Mutex
	inside int                    // guarded by mu: calls under way
	views  map[*snapshot]struct{} // guarded by mu: open snapshots
	closed bool                   // guarded by mu
	idle   chan struct{}          // made by close; closed when nobody is inside any more
}

// enter is called first by everything that uses Pebble; leave when it is done.
func (g *gate) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return counter.ErrClosed
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.closed && g.inside == 0 {
		close(g.idle)
	}
}

// add remembers an open snapshot. Its caller is inside.
func (g *gate) add(v *snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.views == nil {
		g.views = make(map[*snapshot]struct{})
	}
	g.views[v] = struct{}{}
}

// remove forgets an open snapshot and enters, for its caller to close it. false
// when there is nothing to do: it is closed already, or Close does it.
func (g *gate) remove(v *snapshot) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.views[v]; !ok || g.closed {
		return false
	}
	delete(g.views, v)
	g.inside++
	return true
}

// close lets nobody in any more, waits until nobody is inside, and returns the
// snapshots that are open. first is false for all calls but one.
func (g *gate) close() (open map[*snapshot]struct{}, first bool) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil, false
	}
	g.closed, g.idle = true, make(chan struct{})
	if g.inside == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	<-g.idle
	g.mu.Lock()
	defer g.mu.Unlock()
	open, g.views = g.views, nil
	return open, true
}
