package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// Relay appends the messages of one partition of a log namespace to the log of another namespace, each once: a
// delivery.Forwarder.
type Relay struct {
	topic wal.Incarnation
	to    func(ctx context.Context, newest bool) (*Namespace, error)
}

// NewRelay returns a relay of a partition of topic. to returns the namespace that the messages go to, with all that the
// registry says of it by now where newest is asked for; an error passes, unless it is a *delivery.PermanentError.
func NewRelay(topic wal.Incarnation, to func(ctx context.Context, newest bool) (*Namespace, error)) *Relay {
	return &Relay{topic: topic, to: to}
}

// Forward implements delivery.Forwarder. Messages share one call to the log.
func (r *Relay) Forward(ctx context.Context, ms []*delivery.Attempt) (n int, err error) {
	ns, err := r.open(ctx, false)
	if err != nil {
		return 0, err
	}
	as, ends, err := r.all(ns, ms)
	if _, dead := errors.AsType[*delivery.PermanentError](err); dead {
		// By what this process knows, which may be older than the change of the namespace that lets the message in.
		if ns, err = r.open(ctx, true); err != nil {
			return 0, err
		}
		as, ends, err = r.all(ns, ms)
	}
	if len(as) > 0 {
		ns.Stream.AppendAll(ctx, as)
	}
	begin := 0
	for n = range ends {
		for i := begin; i < ends[n]; i++ {
			switch failed := as[i].Err; {
			case errors.Is(failed, wal.ErrTooLarge):
				return n, &delivery.PermanentError{Err: failed}
			case failed != nil:
				return n, failed
			}
		}
		begin = ends[n]
	}
	return len(ends), err
}

// open returns the namespace, unless its log is full.
func (r *Relay) open(ctx context.Context, newest bool) (*Namespace, error) {
	ns, err := r.to(ctx, newest)
	if err != nil {
		return nil, err
	}
	return ns, ns.logFull()
}

// all makes the records of messages, up to the first that err is about. ends is where those of each message end.
func (r *Relay) all(ns *Namespace, ms []*delivery.Attempt) (as []wal.Appending, ends []int, err error) {
	ends = make([]int, 0, len(ms))
	// What is under way. What was acknowledged before is in the log before this; and a store that was lost since, and goes
	// on where the log begins, may know nothing of it.
	last := make(map[wal.Partition]wal.SourcePlace)
	for _, m := range ms {
		var recs []wal.Appending
		if recs, err = r.records(ns, m); err != nil {
			return as, ends, err // those before it go on
		}
		for i := range recs {
			a := &recs[i]
			src := m.Source
			src.Topic, src.After = r.topic, last[a.Partition]
			a.Record.Origin = src.Encode()
			last[a.Partition] = src.Place
		}
		as = append(as, recs...)
		ends = append(ends, len(as))
	}
	return as, ends, nil
}

// records makes those of a message. A *delivery.PermanentError is of a message that never will be a write of ns.
func (r *Relay) records(ns *Namespace, m *delivery.Attempt) ([]wal.Appending, error) {
	if m.Token.Nonce == (wal.Nonce{}) { // of an older build: any will do that is the same each time
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", r.topic, m.Source.Partition, m.Source.Place.Offset))
		copy(m.Token.Nonce[:], sum[:])
	}
	d, err := parseDelivered(ns, m)
	if err != nil {
		return nil, &delivery.PermanentError{Err: err}
	}
	recs, err := d.records(ns)
	if err != nil && !errors.Is(err, wal.ErrTokensFull) {
		return nil, &delivery.PermanentError{Err: err}
	}
	return recs, err
}
