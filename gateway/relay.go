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
	to    func(ctx context.Context) (*Namespace, error)
}

// NewRelay returns a relay of a partition of topic. to returns the namespace that the messages go to; an error passes,
// unless it is a *delivery.PermanentError.
func NewRelay(topic wal.Incarnation, to func(ctx context.Context) (*Namespace, error)) *Relay {
	return &Relay{topic: topic, to: to}
}

// Forward implements delivery.Forwarder. Messages share one call to the log.
func (r *Relay) Forward(ctx context.Context, ms []*delivery.Attempt) (n int, err error) {
	ns, err := r.to(ctx)
	if err != nil {
		return 0, err
	}
	if ns.full.Load() {
		return 0, ns.logFull()
	}
	var as []wal.Appending
	ends := make([]int, 0, len(ms)) // of the records of each message
	// What is under way. What was acknowledged before is in the log before this; and a store that was lost since, and goes
	// on where the log begins, may know nothing of it.
	last := make(map[wal.Partition]wal.SourcePlace)
	for _, m := range ms {
		var recs []wal.Appending
		if recs, err = r.records(ns, m); err != nil {
			break // those before it go on
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
