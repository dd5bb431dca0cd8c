package wal

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
)

// Watermark is the highest offset of one partition that has been applied in
// order, and the place where reads wait for it. Safe for concurrent use.
type Watermark struct {
	applied atomic.Int64

	mu      sync.Mutex // guards what follows and the raising of applied
	waiters waiterHeap
	failed  error         // why it rises no more; nil while it may
	wanted  chan struct{} // closed when somebody waits; nil: nobody asked
}

// NewWatermark starts at applied: NoOffset for an empty store.
func NewWatermark(applied Offset) *Watermark {
	w := &Watermark{}
	w.applied.Store(int64(applied))
	return w
}

// Applied returns the watermark.
func (w *Watermark) Applied() Offset { return Offset(w.applied.Load()) }

// Advance raises the watermark and wakes who waited for it. Lower values change
// nothing.
func (w *Watermark) Advance(o Offset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o <= w.Applied() {
		return
	}
	w.applied.Store(int64(o))
	for len(w.waiters) > 0 && w.waiters[0].want <= o {
		x := heap.Pop(&w.waiters).(*waiter)
		close(x.done)
	}
}

// Fail says that the watermark rises no more: who waits, now or later, for what
// it has not reached gets err. The first call counts.
func (w *Watermark) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return
	}
	w.failed = err
	for _, x := range w.waiters {
		x.index = -1
		x.err = err
		close(x.done)
	}
	w.waiters = nil
}

// Resume ends Fail: the watermark may rise again.
func (w *Watermark) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = nil
}

// Failed returns what Fail was given, or nil.
func (w *Watermark) Failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// Wanted returns a channel that is closed once somebody waits for the watermark to rise.
func (w *Watermark) Wanted() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiters) > 0 {
		now := make(chan struct{})
		close(now)
		return now
	}
	if w.wanted == nil {
		w.wanted = make(chan struct{})
	}
	return w.wanted
}

// Wait returns nil once the watermark is at or above o, the error given to Fail,
// or ctx's error.
func (w *Watermark) Wait(ctx context.Context, o Offset) error {
	if w.Applied() >= o {
		return nil
	}
	w.mu.Lock()
	if w.Applied() >= o {
		w.mu.Unlock()
		return nil
	}
	if err := w.failed; err != nil {
		w.mu.Unlock()
		return err
	}
	x := &waiter{want: o, done: make(chan struct{})}
	heap.Push(&w.waiters, x)
	if w.wanted != nil {
		close(w.wanted)
		w.wanted = nil
	}
	w.mu.Unlock()
	select {
	case <-x.done:
		return x.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.index >= 0 {
		heap.Remove(&w.waiters, x.index)
		return ctx.Err()
	}
	return x.err // it was reached, or failed, in the same moment
}

type waiter struct {
	want  Offset
	done  chan struct{}
	err   error // set before done is closed
	index int   // in the heap; -1 once popped
}

type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].want < h[j].want }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}
