package delivery

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// What an Event says.
const (
	// EventCancel: messages that no attempt was made to deliver are not delivered.
	EventCancel = "cancel"
	// EventDead: a target will not get a message.
	EventDead = "dead"
	// EventRedrive: it is to be delivered after all.
	EventRedrive = "redrive"
	// EventDrop: it never will.
	EventDrop = "drop"
)

// Event is the payload of a KindDelivery record: what becomes of messages is decided by its place in the log. It
// stands in the partition of the messages.
type Event struct {
	What string `json:"what"`
	// Offset is that of the message; of a cancel without one, all of Key are meant.
	Offset *wal.Offset `json:"offset,omitempty"`
	Key    []byte      `json:"key,omitempty"`
	// Of all but a cancel: the target. Of a death: the time that its delivery had, and why there are no more attempts.
	Target string `json:"target,omitempty"`
	At     int64  `json:"at,omitempty"` // microseconds since 1970
	Reason string `json:"reason,omitempty"`
	// By is the job that redrives or drops.
	By string `json:"by,omitempty"`
}

func (e *Event) encode() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode what becomes of a message: %w", err)
	}
	return b, nil
}

// ofDeliveries is what is said of one delivery.
var ofDeliveries = []string{EventDead, EventRedrive, EventDrop}

func decodeEvent(b []byte) (e Event, err error) {
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%w delivery record: %w", wal.ErrMalformed, err)
	}
	switch {
	case e.What == EventCancel && (e.Offset != nil || e.Key != nil):
	case e.What != EventCancel && e.Offset != nil && slices.Contains(ofDeliveries, e.What):
	case e.What != EventCancel && !slices.Contains(ofDeliveries, e.What):
		return e, fmt.Errorf("%w: a delivery record that says %q", wal.ErrUnknownVersion, e.What)
	default:
		return e, fmt.Errorf("%w delivery record: %s of nothing", wal.ErrMalformed, e.What)
	}
	return e, nil
}

// ReasonUndeliverable is the reason of a letter about a delivery that was given up.
const ReasonUndeliverable = "undeliverable"

// event does what a delivery record says.
func (m *machine) event(ctx context.Context, r *consumers.Run) error {
	e, err := decodeEvent(r.Record.Payload)
	if err != nil {
		return consumers.PoisonUnlessNewer(err)
	}
	if err := r.Settled(ctx); err != nil { // what it is about may be in the open batch
		return err
	}
	r.Changed()
	switch {
	case e.What != EventCancel:
		return m.became(ctx, r, &e)
	case e.Offset != nil:
		return m.cancelOne(ctx, r, *e.Offset)
	default:
		return m.cancelKey(ctx, r, e.Key)
	}
}

// WasCancelled is what a cancel came to. Data is how many messages are not delivered by it, and of how many it came too
// late, both as uvarints.
const WasCancelled = consumers.FirstOwn

// cancelled writes down what the cancel in hand came to.
func cancelled(r *consumers.Run, done, late uint64) {
	r.Except(wal.WholeRecord, WasCancelled, binary.AppendUvarint(binary.AppendUvarint(nil, done), late))
}

// cancelOne cancels one message. One that was cancelled before is.
func (m *machine) cancelOne(ctx context.Context, r *consumers.Run, o wal.Offset) error {
	st, known, err := m.a.cfg.Store.Status(ctx, m.p, o)
	if err != nil {
		return err
	}
	was := known && !slices.ContainsFunc(st.Targets, func(t TargetStatus) bool { return t.State != Cancelled })
	switch {
	case was, m.outbox().Cancel(o, r.LogTime):
		cancelled(r, 1, 0)
	case known:
		cancelled(r, 0, 1)
	}
	return nil
}

// cancelPage is how many messages are looked at at once.
const cancelPage = 1000

// cancelKey cancels what waits of a key.
func (m *machine) cancelKey(ctx context.Context, r *consumers.Run, key []byte) error {
	done, late, err := m.cancelAll(ctx, r, key)
	if err == nil {
		cancelled(r, done, late)
	}
	return err
}

// cancelAll cancels what waits of a key and is in the store, and returns how many messages, and of how many it came too
// late.
func (m *machine) cancelAll(ctx context.Context, r *consumers.Run, key []byte) (done, late uint64, err error) {
	due, o := int64(0), wal.NoOffset
	for {
		ms, err := m.a.cfg.Store.Delayed(ctx, m.p, key, due, o, math.MaxInt64, cancelPage)
		if err != nil {
			return done, late, err
		}
		for i := range ms {
			if m.outbox().Cancel(ms[i].Offset, r.LogTime) {
				done++
			} else {
				late++
			}
			due, o = ms[i].Due, ms[i].Offset
		}
		if len(ms) < cancelPage {
			return done, late, nil
		}
	}
}

// became gives a delivery up, has it wait again, or drops it, with a letter that has the message.
func (m *machine) became(ctx context.Context, r *consumers.Run, e *Event) error {
	p, there, err := m.a.cfg.Store.Pending(ctx, m.p, *e.Offset)
	if err == nil && !there {
		p, there, err = m.a.cfg.Store.Buried(ctx, m.p, *e.Offset)
	}
	if err != nil || !there {
		return err
	}
	var t *TargetStatus
	var d consumers.Disposition
	switch e.What {
	case EventDead:
		t, d = m.outbox().Kill(&Death{Offset: *e.Offset, Target: e.Target, At: e.At, Reason: e.Reason, Now: r.LogTime}), consumers.Parked
	case EventRedrive:
		t, d = m.outbox().Redrive(*e.Offset, e.Target, r.LogTime, e.By), consumers.Redriven
	default:
		t, d = m.outbox().Drop(*e.Offset, e.Target, r.LogTime, e.By), consumers.Dropped
	}
	if t == nil { // done before
		return nil
	}
	r.LetterOf(consumers.DeadLetter{
		Ref: wal.Ref{Partition: m.p, Offset: *e.Offset}, Key: p.Key, Target: e.Target, Reason: ReasonUndeliverable, Disposition: d,
		Detail: t.Error, Attempts: t.Attempts, LogTime: r.LogTime, Record: p.record(), By: t.By,
	})
	return nil
}

// record is the message as a record of the log, which may not have it any more.
func (m *Pending) record() []byte {
	body := Body{Payload: m.Payload, Headers: m.Headers}
	rec := wal.Record{RoutingKey: m.Key, Token: m.Token}
	rec.Kind, rec.Payload = body.encode()
	return wal.AppendRecord(nil, &rec)
}

// Cancel has messages not delivered that were given a delay and of which no attempt has begun: that at o, or all with a
// routing key where o is wal.NoOffset. It returns how many that are, and of how many it came too late.
func (db *DB) Cancel(ctx context.Context, p wal.Partition, o wal.Offset, key []byte) (done, late int64, err error) {
	e := &Event{What: EventCancel, Key: key}
	if o != wal.NoOffset {
		e.Offset = &o
	}
	at, err := db.Decide(ctx, p, e)
	if err != nil {
		return 0, 0, err
	}
	return db.owner.Cancelled(ctx, p, at)
}

// Decide appends what becomes of messages, and returns where when it is applied.
func (db *DB) Decide(ctx context.Context, p wal.Partition, e *Event) (wal.Offset, error) {
	payload, err := e.encode()
	if err != nil {
		return wal.NoOffset, err
	}
	opts := db.options()
	rec := &wal.Record{RoutingKey: e.Key, Kind: wal.KindDelivery, NamespaceVersion: opts.Version, AcceptedAt: db.Now().UnixMicro(), Payload: payload}
	o, err := db.Stream.Append(ctx, p, rec)
	if err != nil {
		return o, err
	}
	return o, db.owner.Wait(ctx, p, o)
}

// Status returns what is known of a message, once what was acknowledged here is applied: a later message may have
// replaced it.
func (db *DB) Status(ctx context.Context, p wal.Partition, o wal.Offset) (Status, bool, error) {
	if err := db.Stream.WaitRead(ctx, p, &wal.ReadPoint{}); err != nil {
		return Status{}, false, err
	}
	if db.Stream.Progress().Applied(p) < o { // or it does not exist
		if err := db.Stream.Barrier(ctx, p); err != nil {
			return Status{}, false, err
		}
	}
	return db.owner.Status(ctx, p, o)
}

// Found is a message that a token names.
type Found struct {
	Partition wal.Partition
	Offset    wal.Offset
}

// Find returns the messages of which something is known that were written under a nonce, once what was acknowledged
// here is applied: those of every key, or that of one. "" is the key of messages without one.
func (db *DB) Find(ctx context.Context, key *string, nonce wal.Nonce) (found []Found, err error) {
	var id wal.TokenID
	first, parts := wal.Partition(0), db.Stream.Info().Partitions
	if key != nil {
		routing := routingKey(*key, &nonce)
		id, first, parts = wal.IDOf(routing, nonce), db.Stream.PartitionOf(routing), 1
	}
	for p := first; p < first+wal.Partition(parts); p++ {
		if err := db.Stream.WaitRead(ctx, p, &wal.ReadPoint{}); err != nil {
			return nil, err
		}
		all, err := db.owner.Find(ctx, p, nonce)
		if err != nil {
			return nil, err
		}
		for _, n := range all {
			if key == nil || n.ID == id {
				found = append(found, Found{p, n.Offset})
			}
		}
	}
	return found, nil
}

// Delayed is Outbox.Delayed, once what was acknowledged here is applied.
func (db *DB) Delayed(
	ctx context.Context, p wal.Partition, key []byte, due int64, o wal.Offset, before int64, limit int,
) ([]Pending, error) {
	if err := db.Stream.WaitRead(ctx, p, &wal.ReadPoint{}); err != nil {
		return nil, err
	}
	return db.owner.Delayed(ctx, p, key, due, o, before, limit)
}

// Dead is Outbox.Dead, once what was acknowledged here is applied.
func (db *DB) Dead(ctx context.Context, p wal.Partition, behind DeadPlace, limit int) ([]DeadDelivery, error) {
	if err := db.Stream.WaitRead(ctx, p, &wal.ReadPoint{}); err != nil {
		return nil, err
	}
	return db.owner.Dead(ctx, p, behind, limit)
}
