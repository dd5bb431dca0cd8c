package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// fetches is what this process knows of the consumers that are fetched from here.
type fetches struct {
	mu  sync.Mutex // guards all
	all map[string]*sharedFetch
}

// maxFetches bounds how many consumers are known; the others are found out about again.
const maxFetches = 4096

// of is what is known of one consumer.
func (s *fetches) of(consumer string, partitions int) *sharedFetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.all[consumer]
	if f == nil {
		if s.all == nil || len(s.all) >= maxFetches {
			s.all = make(map[string]*sharedFetch)
		}
		f = &sharedFetch{turn: make(chan struct{}, 1), inFlight: make([]int, partitions), failed: make([]time.Time, partitions), acked: make(chan struct{})}
		s.all[consumer] = f
	}
	return f
}

// wake has those look again that wait until fewer messages are in flight.
func (s *fetches) wake(consumer string) {
	s.mu.Lock()
	f := s.all[consumer]
	s.mu.Unlock()
	if f != nil {
		f.mu.Lock()
		close(f.acked)
		f.acked = make(chan struct{})
		f.mu.Unlock()
	}
}

func (s *fetches) forget(consumer string) {
	s.wake(consumer)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, consumer)
}

// sharedFetch is what the fetches of one consumer have in common: they go one after the other, so that together they
// keep to max_in_flight. Those of another gateway are seen when they are looked for.
type sharedFetch struct {
	turn chan struct{} // holds one; guards what follows
	// first is the partition to begin with.
	first    int
	known    bool
	most     int         // max_in_flight
	inFlight []int       // by partition, as of the last answer: there are not more through this process
	failed   []time.Time // by partition: when it did not answer last

	mu    sync.Mutex // guards acked
	acked chan struct{}
}

func (s *sharedFetch) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// fetching is one FetchMessages.
type fetching struct {
	ns     *Namespace
	shared *sharedFetch
	ask    durable.Fetch
	out    headwaterv1.FetchMessagesResponse
	bytes  int
	failed error // of a partition that did not answer
	full   bool  // as many are in flight as may be
}

const (
	// fetchMargin is how long before the call's deadline an answer without messages is given.
	fetchMargin = 200 * time.Millisecond
	// fetchSlow is how long one partition may take.
	fetchSlow = time.Second
	// fetchShun is how long a partition that did not answer is not waited for where others have messages.
	fetchShun = 2 * time.Second
	// fetchAgain is after how long a partition is asked again that did not answer, or where others are in flight.
	fetchAgain = 200 * time.Millisecond
)

func (f *fetching) run(ctx context.Context, wait time.Duration) (*headwaterv1.FetchMessagesResponse, error) {
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(d)-fetchMargin)
	}
	waiting, cancel := context.WithTimeout(ctx, max(wait, 0))
	defer cancel()
	for {
		acked := f.shared.changed()
		if err := f.sweep(ctx); err != nil {
			return nil, err
		}
		if len(f.out.Messages) > 0 || f.out.Missed > 0 || waiting.Err() != nil {
			break
		}
		if err := f.rest(waiting, acked); err != nil {
			break
		}
	}
	if len(f.out.Messages) > 0 { // they are the caller's, whatever came after
		return &f.out, nil
	}
	if f.failed != nil {
		return nil, f.failed
	}
	return &f.out, ctx.Err()
}

// sweep fetches from each partition in turn until there is enough.
func (f *fetching) sweep(ctx context.Context) error {
	s := f.shared
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	f.failed, f.full = nil, false
	if !s.known {
		f.look(ctx)
		if s.known = s.most > 0; !s.known { // nobody has answered; it is tried again as long as there is time
			f.failed = errSlowOwner
			return nil
		}
	}
	n := len(s.inFlight)
	begin, now := s.first, time.Now()
	order := make([]int, 0, n)
	for k := range n {
		order = append(order, (begin+k)%n)
	}
	slices.SortStableFunc(order, func(p, q int) int { // those that did not answer a moment ago come last
		return cmp.Compare(s.failed[p].Compare(now.Add(-fetchShun)), s.failed[q].Compare(now.Add(-fetchShun)))
	})
	for _, p := range order {
		if len(f.out.Messages) > 0 && now.Sub(s.failed[p]) < fetchShun {
			return nil
		}
		room := f.room(p)
		if room <= 0 {
			f.look(ctx)
			room = f.room(p)
		}
		if f.full = room <= 0; f.full {
			return nil
		}
		done, err := f.from(ctx, wal.Partition(p), room)
		s.first = (p + 1) % n // each has its turn
		if err != nil || done {
			return err
		}
	}
	return nil
}

// room is how many of partition p may be handed out.
func (f *fetching) room(p int) int {
	room := f.shared.most
	for q, n := range f.shared.inFlight {
		if q != p {
			room -= n
		}
	}
	return min(room, f.ask.Limit-len(f.out.Messages))
}

// soon bounds the time of one partition: one that answers slowly does not keep from the caller what others have handed
// out, nor the answer until after the deadline.
func (f *fetching) soon(ctx context.Context) (context.Context, context.CancelFunc) {
	most := fetchSlow
	if d, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(d)-fetchMargin/2)
	}
	return context.WithTimeout(ctx, most)
}

var errSlowOwner = fmt.Errorf("it did not answer in time: %w", consumers.ErrOwnerAway)

// look asks each partition what is in flight, but for those that did not answer a moment ago. It makes the consumer where
// there is none.
func (f *fetching) look(ctx context.Context) {
	for p := range f.shared.inFlight {
		if time.Since(f.shared.failed[p]) < fetchShun {
			continue
		}
		ask := f.ask
		ask.Limit = 0
		soon, cancel := f.soon(ctx)
		got, err := f.ns.Consumers.Fetch(soon, wal.Partition(p), &ask)
		cancel()
		if err != nil {
			f.fail(wal.Partition(p), err)
			continue
		}
		f.shared.most, f.shared.inFlight[p] = got.MaxInFlight, got.InFlight
	}
}

// fail notes that a partition did not answer.
func (f *fetching) fail(p wal.Partition, err error) {
	f.shared.failed[p] = time.Now()
	if f.failed = err; errors.Is(err, context.DeadlineExceeded) {
		f.failed = errSlowOwner
	}
}

// from fetches from one partition; done: there is enough.
func (f *fetching) from(ctx context.Context, p wal.Partition, room int) (done bool, err error) {
	ask := f.ask
	ask.Limit, ask.Bytes, ask.Strict = room, f.ask.Bytes-f.bytes, f.bytes > 0
	soon, cancel := f.soon(ctx)
	defer cancel()
	got, err := f.ns.Consumers.Fetch(soon, p, &ask)
	if err != nil {
		if ctx.Err() != nil && len(f.out.Messages) == 0 {
			return false, err
		}
		f.fail(p, err)
		return ctx.Err() != nil, nil
	}
	f.shared.most, f.shared.inFlight[p] = got.MaxInFlight, got.InFlight
	f.out.Missed += got.Missed
	for i := range got.Messages {
		m, err := f.ns.fetchedMessage(p, got.Life, &got.Messages[i])
		if err != nil {
			return false, err
		}
		f.bytes += len(got.Messages[i].Record)
		f.out.Messages = append(f.out.Messages, m)
	}
	return len(f.out.Messages) >= f.ask.Limit || f.bytes >= f.ask.Bytes, nil
}

// rest waits until there may be something to fetch. The error says that the time is over.
func (f *fetching) rest(ctx context.Context, acked <-chan struct{}) error {
	if f.full || f.failed != nil {
		t := time.NewTimer(fetchAgain)
		defer t.Stop()
		select {
		case <-acked:
		case <-t.C:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	each, cancel := context.WithCancel(ctx)
	defer cancel()
	n := len(f.shared.inFlight)
	ready := make(chan error, n)
	for p := range wal.Partition(n) {
		go func() { ready <- f.ns.Consumers.Wait(each, p, f.ask.Consumer) }()
	}
	select {
	case err := <-ready:
		if err != nil && each.Err() == nil && !timeIsUp(err) {
			f.failed = err
			return f.rest(ctx, acked)
		}
	case <-ctx.Done():
	}
	return ctx.Err()
}

// timeIsUp reports whether a wait only ended, here or where it was.
func timeIsUp(err error) bool {
	c := status.Code(err)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || c == codes.DeadlineExceeded || c == codes.Canceled
}
