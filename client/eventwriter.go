package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
)

// EventWriterOptions say how events are put together.
type EventWriterOptions struct {
	// Batch is how many events go into one call, 1 to MaxEvents; 0: 1,000.
	Batch int
	// Linger is how long an event waits for others; 0: 10 ms.
	Linger time.Duration
	// InFlight is how many calls are under way at once; 0: 4. Add waits while so many are,
	// and another is full.
	InFlight int
	// Buffered writes as WriteBuffered does.
	Buffered bool
	// Refused, when set, is told of each event that the namespace does not accept, from
	// several goroutines. Without it such an event is an error of the writer.
	Refused func(e Event, why RefusedEvent)
}

// EventWriter puts events together into calls. Safe for concurrent use. Close it.
//
// An event that has no id gets one as it is added, so that it is one event however often it is
// written: what a writer has failed to write can be added to another.
type EventWriter struct {
	n     *TimeSeries
	o     EventWriterOptions
	ctx   context.Context
	stop  context.CancelFunc
	calls chan struct{} // has a place for each call under way

	mu     sync.Mutex // guards what follows
	batch  []Event    // that is being filled
	linger *time.Timer
	open   int           // calls that were begun and have not ended
	ended  chan struct{} // closed and replaced when one ends
	closed bool
	err    error   // the first
	failed []Event // of calls that failed, and what came too late
}

// ErrWriterClosed: the EventWriter was closed.
var ErrWriterClosed = errors.New("the event writer is closed")

// Writer returns a writer of events. A wrong option is an error of its first Add.
func (n *TimeSeries) Writer(o EventWriterOptions) *EventWriter {
	w := &EventWriter{n: n, o: o, ended: make(chan struct{})}
	if w.o.Batch == 0 {
		w.o.Batch = 1_000
	}
	if w.o.Linger == 0 {
		w.o.Linger = 10 * time.Millisecond
	}
	if w.o.InFlight == 0 {
		w.o.InFlight = 4
	}
	if w.o.Batch < 1 || w.o.Batch > MaxEvents || w.o.Linger < 0 || w.o.InFlight < 1 {
		w.err = invalid(apierrors.TooManyItems, fmt.Sprintf("a writer takes a Batch of 1 to %d, a Linger and InFlight above zero", MaxEvents))
		w.o.InFlight = 1
	}
	w.calls = make(chan struct{}, w.o.InFlight)
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// Add adds an event, which is durable when a later Flush or Close returns nil. It returns
// the error of an earlier call, after which the writer takes nothing more; see Unwritten. ctx
// bounds how long it waits for calls that are under way.
func (w *EventWriter) Add(ctx context.Context, e Event) error {
	if _, err := e.Message(); err != nil { // nothing else can be said of it alone
		return err
	}
	if e.ID == "" {
		var id [16]byte
		if _, err := rand.Read(id[:]); err != nil {
			return fmt.Errorf("draw an id: %w", err)
		}
		e.ID = hex.EncodeToString(id[:])
	}
	w.mu.Lock()
	for len(w.batch) >= w.o.Batch && w.err == nil && !w.closed {
		w.mu.Unlock()
		if err := w.begin(ctx); err != nil {
			return err
		}
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return ErrWriterClosed
	}
	w.batch = append(w.batch, e)
	if len(w.batch) == 1 {
		w.linger = time.AfterFunc(w.o.Linger, func() { _ = w.begin(w.ctx) }) // it ends with the writer
	}
	return nil
}

// begin sends the batch that is being filled, when there is a place for a call.
func (w *EventWriter) begin(ctx context.Context) error {
	select {
	case w.calls <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for calls that are under way: %w", context.Cause(ctx))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.batch
	if len(events) == 0 || w.err != nil {
		<-w.calls
		return nil
	}
	w.batch = nil
	w.linger.Stop()
	w.open++
	go w.send(events)
	return nil
}

func (w *EventWriter) send(events []Event) {
	write := w.n.Write
	if w.o.Buffered {
		write = w.n.WriteBuffered
	}
	res, err := write(w.ctx, events, Token{})
	if e, ok := errors.AsType[*Error](err); ok && w.o.Refused != nil && refusedEvents[e.Reason] {
		err = nil // none was taken
		for i := range events {
			res.Refused = append(res.Refused, RefusedEvent{i, e.Reason, e.Message})
		}
	}
	var left []Event
	for _, r := range res.Refused {
		if w.o.Refused != nil {
			w.o.Refused(events[r.Index], r)
			continue
		}
		left = append(left, events[r.Index])
		err = invalid(r.Reason, r.Message)
	}
	if err != nil && left == nil {
		left = events
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if w.err == nil {
			w.err = err
		}
		w.failed = append(w.failed, left...)
	}
	w.open--
	close(w.ended)
	w.ended = make(chan struct{})
	<-w.calls
}

// refusedEvents are why a call is not taken of which every event is refused.
var refusedEvents = map[string]bool{
	apierrors.EventTooOld: true, apierrors.EventTooNew: true, apierrors.SeriesBlocked: true, apierrors.SliceClosed: true,
}

// Flush returns nil when every event that was added before is durable, or was refused and told;
// else the first error.
func (w *EventWriter) Flush(ctx context.Context) error {
	for {
		w.mu.Lock()
		err, waiting, open, ended := w.err, len(w.batch), w.open, w.ended
		w.mu.Unlock()
		switch {
		case err != nil:
			return err
		case waiting > 0:
			if err := w.begin(ctx); err != nil {
				return err
			}
			continue
		case open == 0:
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("wait for calls that are under way: %w", context.Cause(ctx))
		}
	}
}

// Close flushes and ends the writer: Add takes no more. What is not durable when it returns an
// error is what Unwritten returns.
func (w *EventWriter) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	err := w.Flush(ctx)
	w.stop() // cuts off what is left
	for {
		w.mu.Lock()
		open, ended := w.open, w.ended
		if w.linger != nil {
			w.linger.Stop()
		}
		w.mu.Unlock()
		if open == 0 {
			return err
		}
		<-ended
	}
}

// Unwritten are the events that were added and are not known to be durable, once the writer has
// failed or was closed. They may be added to another writer.
func (w *EventWriter) Unwritten() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(append([]Event(nil), w.failed...), w.batch...)
}
