package server

import (
	"context"
	"sync"
	"time"
)

// taking counts the partitions that this process is taking over, for which readers wait. The zero value counts none.
type taking struct {
	mu   sync.Mutex // guards what follows
	n    int
	idle chan struct{} // closed when n comes to 0; nil while it is
}

const (
	// takingMost is how long a partition counts as being taken over.
	takingMost = 5 * time.Minute
	// yieldMost is how long other work makes room for that at a time, so that it goes on in any case.
	yieldMost = 10 * time.Second
)

// begin counts one more, until done is called.
func (t *taking) begin() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n++; t.n == 1 {
		t.idle = make(chan struct{})
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.n--; t.n == 0 {
			close(t.idle)
			t.idle = nil
		}
	}
}

// yield returns when nothing is being taken over, or after a moment.
func (t *taking) yield(ctx context.Context) {
	t.mu.Lock()
	idle := t.idle
	t.mu.Unlock()
	if idle == nil {
		return
	}
	timer := time.NewTimer(yieldMost)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	case <-ctx.Done():
	}
}
