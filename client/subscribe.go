package client

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// Handler processes one message. nil acknowledges it. An error has it handed out again after SubscribeOptions.Retry, or as
// RetryAfter or Terminate say. Those of its key behind it wait.
type Handler func(ctx context.Context, m *FetchedMessage) error

// handled is an error that says what is to become of its message.
type handled struct {
	err   error
	delay time.Duration
	term  bool
}

func (h *handled) Error() string { return h.err.Error() }
func (h *handled) Unwrap() error { return h.err }

// RetryAfter is an error of a Handler that has the message handed out again after a delay.
func RetryAfter(delay time.Duration, err error) error { return &handled{err: err, delay: delay} }

// Terminate is an error of a Handler that has the message never handed out again: it becomes a dead letter.
func Terminate(err error) error { return &handled{err: err, term: true} }

// SubscribeOptions say how Subscribe goes about it. The zero value is good.
type SubscribeOptions struct {
	// Concurrency is how many messages are processed at a time. Those of a key are one after the other, in order. 0: 1.
	Concurrency int
	// Batch is how many are fetched at once: they are in flight, and wait here. 0: 100.
	Batch int
	// AckWait is after how long without a sign a message is handed to another caller. While its handler runs, signs are
	// given. 0: 30 s.
	AckWait time.Duration
	// Retry is the delay after an error of the handler. 0: 1 s.
	Retry          time.Duration
	IncludeRefused bool
	// Failed is told of each error of the handler, and of acknowledgements that came too late or could not be sent, with
	// the message; nil: nobody is. It may be called by several goroutines.
	Failed func(m *FetchedMessage, err error)
}

// ErrLate: an acknowledgement came when the message was no longer this caller's. It is handed out again, or was.
var ErrLate = errors.New("the acknowledgement came too late")

// Subscribe has handler process the messages of a log for a named consumer, whose place the server keeps: at least once,
// those of a key in order, each by one of all that subscribe to the consumer. It returns when ctx is done, with its error,
// after the messages in hand; or with the error of a request that fails for good. While the server cannot be reached it
// goes on trying.
func (l *Log) Subscribe(ctx context.Context, consumer string, handler Handler, o SubscribeOptions) error {
	o.Concurrency, o.Batch = max(o.Concurrency, 1), cmp.Or(o.Batch, 100)
	o.AckWait, o.Retry = cmp.Or(o.AckWait, 30*time.Second), cmp.Or(o.Retry, time.Second)
	if o.Failed == nil {
		o.Failed = func(*FetchedMessage, error) {}
	}
	s := &subscription{l: l, consumer: consumer, handler: handler, o: &o, seed: maphash.MakeSeed()}
	for ctx.Err() == nil {
		ms, err := l.Fetch(ctx, consumer, FetchOptions{Max: o.Batch, Wait: l.c.cfg.AttemptTimeout / 2, AckWait: o.AckWait, IncludeRefused: o.IncludeRefused})
		switch {
		case err == nil:
			s.process(ctx, ms)
		case ctx.Err() != nil:
		case !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrOverloaded) && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
	return ctx.Err()
}

// subscription is one Subscribe.
type subscription struct {
	l        *Log
	consumer string
	handler  Handler
	o        *SubscribeOptions
	seed     maphash.Seed
}

// batch is what was fetched at once.
type batch struct {
	*subscription
	mu   sync.Mutex
	left map[string]*FetchedMessage // by ack id: those that nothing is said of yet
	said chan said
}

type said struct {
	m   *FetchedMessage
	ack Acknowledgement
}

// process has the messages processed, and says what came of them. A message that is begun ends.
func (s *subscription) process(ctx context.Context, ms []FetchedMessage) {
	if len(ms) == 0 {
		return
	}
	b := &batch{subscription: s, left: make(map[string]*FetchedMessage, len(ms)), said: make(chan said, len(ms))}
	lanes := make([][]*FetchedMessage, min(s.o.Concurrency, len(ms)))
	for i := range ms {
		m := &ms[i]
		b.left[m.ackID] = m
		n := maphash.String(s.seed, m.Key) % uint64(len(lanes))
		if m.Key == "" {
			n = uint64(i) % uint64(len(lanes))
		}
		lanes[n] = append(lanes[n], m)
	}
	done := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() { b.say(context.WithoutCancel(ctx)) })
	saying.Go(func() { b.keep(context.WithoutCancel(ctx), done) })
	var work sync.WaitGroup
	for _, lane := range lanes {
		work.Go(func() { b.run(ctx, lane) })
	}
	work.Wait()
	close(b.said)
	close(done)
	saying.Wait()
}

// run processes messages one after the other. Once one of a key has failed, the others of that key wait for it.
func (b *batch) run(ctx context.Context, lane []*FetchedMessage) {
	failed := make(map[string]bool)
	for _, m := range lane {
		if ctx.Err() != nil || m.Key != "" && failed[m.Key] {
			b.end(m, m.Nak(0))
			continue
		}
		err := b.handler(ctx, m)
		if err == nil {
			b.end(m, m.Ack())
			continue
		}
		b.o.Failed(m, err)
		delay := b.o.Retry
		h, told := errors.AsType[*handled](err)
		if told && h.term {
			b.end(m, m.Term())
			continue
		}
		if told {
			delay = h.delay
		}
		failed[m.Key] = true
		b.end(m, m.Nak(delay))
	}
}

func (b *batch) end(m *FetchedMessage, ack Acknowledgement) {
	b.mu.Lock()
	delete(b.left, m.ackID)
	b.mu.Unlock()
	b.said <- said{m, ack}
}

// maxAcks is how many acknowledgements a request takes.
const maxAcks = 1000

// say sends what is said, as much at a time as there is.
func (b *batch) say(ctx context.Context) {
	for one := range b.said {
		all := []said{one}
	more:
		for len(all) < maxAcks {
			select {
			case next, ok := <-b.said:
				if !ok {
					break more
				}
				all = append(all, next)
			default:
				break more
			}
		}
		b.send(ctx, all)
	}
}

func (b *batch) send(ctx context.Context, all []said) {
	acks := make([]Acknowledgement, len(all))
	for i := range all {
		acks[i] = all[i].ack
	}
	late, err := b.l.Acknowledge(ctx, b.consumer, acks...)
	if err != nil {
		for i := range all {
			b.o.Failed(all[i].m, err)
		}
	}
	for _, i := range late {
		b.o.Failed(all[i].m, ErrLate)
	}
}

// keep tells the server that the messages that are left take longer.
func (b *batch) keep(ctx context.Context, done <-chan struct{}) {
	t := time.NewTicker(b.o.AckWait / 3)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-done:
			return
		}
		b.mu.Lock()
		var acks []Acknowledgement
		for _, m := range b.left {
			acks = append(acks, m.Progress(0))
		}
		b.mu.Unlock()
		if len(acks) > 0 { // what is late is told when it is acknowledged
			_, _ = b.l.Acknowledge(ctx, b.consumer, acks...)
		}
	}
}
