package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Progress is how far one runner has applied a namespace, partition by
// partition, and what this process has acknowledged. The runner's applier
// raises it, reads wait on it. Safe for concurrent use.
type Progress struct {
	parts []partProgress

	mu      sync.Mutex // serialises changes of changed
	changed atomic.Pointer[[]*func(Partition)]
}

type partProgress struct {
	watermark *Watermark
	logTime   atomic.Int64 // of the record at the watermark
	acked     atomic.Int64 // highest offset that this process acknowledged
	onApplied atomic.Pointer[func(Offset)]
	pending   pending // since when records wait; see Stream.Lag
}

// NewProgress starts with nothing applied.
func NewProgress(partitions int) *Progress {
	p := &Progress{parts: make([]partProgress, partitions)}
	for i := range p.parts {
		p.parts[i].watermark = NewWatermark(NoOffset)
		p.parts[i].acked.Store(int64(NoOffset))
	}
	return p
}

// Partitions is the number of partitions.
func (g *Progress) Partitions() int { return len(g.parts) }

// Applied returns the watermark of p.
func (g *Progress) Applied(p Partition) Offset { return g.parts[p].watermark.Applied() }

// LogTime returns the append time of the record at the watermark, microseconds
// since 1970.
func (g *Progress) LogTime(p Partition) int64 { return g.parts[p].logTime.Load() }

// Acked returns the highest offset that this process acknowledged in p.
func (g *Progress) Acked(p Partition) Offset { return Offset(g.parts[p].acked.Load()) }

// Advance raises the watermark of p to o, whose log time is t. The effect of
// everything up to o can be read when it is called.
func (g *Progress) Advance(p Partition, o Offset, t int64) {
	part := &g.parts[p]
	if t > part.logTime.Load() {
		part.logTime.Store(t)
	}
	part.watermark.Advance(o)
	if f := part.onApplied.Load(); f != nil {
		(*f)(o)
	}
	g.tell(p)
}

// OnChange has f called after each Advance, Stop, Interrupt and Resume, in their goroutine, until remove is
// called; once more after that, perhaps. f must not block.
func (g *Progress) OnChange(f func(Partition)) (remove func()) {
	mine := &f
	change := func(to func([]*func(Partition)) []*func(Partition)) {
		g.mu.Lock()
		defer g.mu.Unlock()
		var now []*func(Partition)
		if all := g.changed.Load(); all != nil {
			now = slices.Clone(*all)
		}
		now = to(now)
		g.changed.Store(&now)
	}
	change(func(all []*func(Partition)) []*func(Partition) { return append(all, mine) })
	return func() {
		change(func(all []*func(Partition)) []*func(Partition) {
			return slices.DeleteFunc(all, func(f *func(Partition)) bool { return f == mine })
		})
	}
}

func (g *Progress) tell(p Partition) {
	if all := g.changed.Load(); all != nil {
		for _, f := range *all {
			(*f)(p)
		}
	}
}

// Ack notes that o is acknowledged, so that this process's own reads see it.
func (g *Progress) Ack(p Partition, o Offset) {
	a := &g.parts[p].acked
	for {
		cur := a.Load()
		if int64(o) <= cur || a.CompareAndSwap(cur, int64(o)) {
			return
		}
	}
}

// Stop says why p is not applied any further. Waits for it fail at once.
func (g *Progress) Stop(p Partition, err error) {
	g.parts[p].watermark.Fail(&StoppedError{Partition: p, Cause: err})
	g.tell(p)
}

// Interrupt says why it is not known how far p is applied. Waits fail at once until Resume; writes are
// taken, as they are not after Stop.
func (g *Progress) Interrupt(p Partition, err error) {
	g.parts[p].watermark.Fail(err)
	g.tell(p)
}

// Resume ends Stop and Interrupt: p is applied again, by another process.
func (g *Progress) Resume(p Partition) {
	g.parts[p].watermark.Resume()
	g.tell(p)
}

// Stopped returns why p is not applied any further, a *StoppedError, or nil.
func (g *Progress) Stopped(p Partition) error {
	err := g.parts[p].watermark.Failed()
	var stopped *StoppedError
	if errors.As(err, &stopped) {
		return err
	}
	return nil
}

// Wait returns nil once p is applied up to o. When ctx ends first, or the
// partition has stopped, the error is a *BehindError.
func (g *Progress) Wait(ctx context.Context, p Partition, o Offset) error {
	part := &g.parts[p]
	if err := part.watermark.Wait(ctx, o); err != nil {
		return &BehindError{Partition: p, Wanted: o, Applied: part.watermark.Applied(), Cause: err}
	}
	return nil
}

// Wanted returns a channel that is closed once somebody waits for p.
func (g *Progress) Wanted(p Partition) <-chan struct{} { return g.parts[p].watermark.Wanted() }

// StoppedError says that a partition is not applied any further.
type StoppedError struct {
	Partition Partition
	Cause     error
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("partition %d has stopped: %v", e.Partition, e.Cause)
}

// Unwrap returns why.
func (e *StoppedError) Unwrap() error { return e.Cause }

// BehindError says that a read could not reach what it asked for.
type BehindError struct {
	Partition       Partition
	Wanted, Applied Offset
	Cause           error
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("partition %d is applied up to %d, %d was asked for: %v", e.Partition, e.Applied, e.Wanted, e.Cause)
}

// Unwrap returns why.
func (e *BehindError) Unwrap() error { return e.Cause }
