package kv

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// ErrHeld means that too many records wait behind a poisonous key: its
// partition is held until the key is redriven or dropped.
var ErrHeld = errors.New("kv: the queue of a parked key is full")

// Parked returns the queue of a key, and whether it is parked. It may be called
// at any time.
func (a *Applier) Parked(p wal.Partition, key []byte) (q ParkedQueue, ok bool) {
	pa := a.parts[p]
	pa.mu.Lock()
	defer pa.mu.Unlock()
	if cur := pa.parked[string(key)]; cur != nil {
		return *cur, true
	}
	return ParkedQueue{}, false
}

// ParkedKeys returns how many keys of a partition are parked, and the lowest
// offset that only the log still holds for them (wal.NoOffset when none).
func (a *Applier) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	pa := a.parts[p]
	pa.mu.Lock()
	defer pa.mu.Unlock()
	lowest = wal.NoOffset
	for _, q := range pa.parked {
		for _, r := range q.Refs {
			if lowest == wal.NoOffset || r.Offset < lowest {
				lowest = r.Offset
			}
		}
	}
	return len(pa.parked), lowest
}

// queueOf returns the queue that a call must wait in, or nil.
func (pa *partApplier) queueOf(c *Call) *ParkedQueue {
	if len(pa.parked) == 0 {
		return nil
	}
	for i := range c.Mutations {
		if q := pa.parked[string(c.Mutations[i].ID)]; q != nil {
			return q
		}
	}
	return nil
}

func (pa *partApplier) enqueue(q *ParkedQueue, r wal.Ref) error {
	if last := q.Refs[len(q.Refs)-1]; last == r || last.Offset > r.Offset {
		return nil // a record that was half committed before a crash comes by again
	}
	if len(q.Refs) >= pa.a.cfg.MaxParked {
		return fmt.Errorf("%w: %d records wait behind %q", ErrHeld, len(q.Refs), q.Key)
	}
	pa.setQueue(&ParkedQueue{Key: q.Key, Refs: append(q.Refs[:len(q.Refs):len(q.Refs)], r), Reason: q.Reason, Attempts: q.Attempts})
	return nil
}

// setQueue replaces a queue in memory and in the batch; an empty one is gone.
func (pa *partApplier) setQueue(q *ParkedQueue) {
	pa.batch.SaveParked(q)
	pa.mu.Lock()
	defer pa.mu.Unlock()
	if len(q.Refs) == 0 {
		delete(pa.parked, string(q.Key))
		return
	}
	pa.parked[string(q.Key)] = q
}

// park sets a key aside with the record that cannot be applied at its head. The
// dead letter is durable before the parking is saved.
func (pa *partApplier) park(ctx context.Context, e *wal.Entry, index int, key []byte, logTime int64, cause error) error {
	ref := wal.Ref{Partition: pa.p, Offset: e.Offset, Index: index}
	if q := pa.parked[string(key)]; q != nil {
		return pa.enqueue(q, ref)
	}
	letter := wal.DeadLetter{
		Ref: ref, Key: append([]byte(nil), key...), Reason: "poison", Disposition: wal.Parked, Detail: cause.Error(),
		Attempts: 1, LogTime: logTime, Record: append([]byte(nil), e.Data...),
	}
	if err := pa.a.cfg.Letters.Put(ctx, []wal.DeadLetter{letter}); err != nil {
		return fmt.Errorf("write dead letter %s: %w", ref, err)
	}
	pa.a.stats.Parked.Add(1)
	pa.setQueue(&ParkedQueue{Key: letter.Key, Refs: []wal.Ref{ref}, Reason: cause.Error(), Attempts: 1})
	return nil
}

// refuse writes the dead letter of a call that was decided against and that
// nobody may be waiting for.
func (pa *partApplier) refuse(ctx context.Context, c *Call, index int, at place, reason, detail string) error {
	ref := wal.Ref{Partition: pa.p, Offset: at.offset, Index: index}
	letter := wal.DeadLetter{
		Ref: ref, Key: append([]byte(nil), c.Mutations[0].ID...), Reason: reason, Disposition: wal.Refused, Detail: detail,
		Attempts: 1, LogTime: at.logTime,
	}
	if err := pa.a.cfg.Letters.Put(ctx, []wal.DeadLetter{letter}); err != nil {
		return fmt.Errorf("write dead letter %s: %w", ref, err)
	}
	return nil
}

// control redrives or drops what is parked under a key.
func (pa *partApplier) control(ctx context.Context, e *wal.Entry, rec *wal.Record, logTime int64) error {
	c, err := wal.DecodeControl(rec.Payload)
	if err != nil {
		// Nothing to park: a control record that says nothing asks for nothing.
		letter := wal.DeadLetter{
			Ref: wal.Ref{Partition: pa.p, Offset: e.Offset}, Key: append([]byte(nil), rec.RoutingKey...), Reason: "bad_control",
			Disposition: wal.Refused, Detail: err.Error(), Attempts: 1, LogTime: logTime, Record: append([]byte(nil), e.Data...),
		}
		return pa.a.cfg.Letters.Put(ctx, []wal.DeadLetter{letter})
	}
	q := pa.parked[string(c.Key)]
	if q == nil {
		return nil // done before, or never parked by this build
	}
	refs := q.Refs
	if c.Op == wal.OpDrop {
		if refs[0] != c.Ref {
			return nil
		}
		if err := pa.letter(ctx, q, refs[0], wal.Dropped, "", c.By, logTime); err != nil {
			return err
		}
		refs = refs[1:]
	}
	return pa.redrive(ctx, q, refs, c, logTime)
}

// redrive applies refs in order until one cannot be applied, which becomes the
// head of the queue again.
func (pa *partApplier) redrive(ctx context.Context, q *ParkedQueue, refs []wal.Ref, c *wal.Control, logTime int64) error {
	for i, r := range refs {
		poison, err := pa.again(ctx, r)
		if err != nil {
			return fmt.Errorf("redrive %s: %w", r, err)
		}
		if poison != nil {
			next := &ParkedQueue{Key: q.Key, Refs: append([]wal.Ref(nil), refs[i:]...), Reason: poison.Error(), Attempts: q.Attempts + 1}
			if err := pa.letter(ctx, next, r, wal.Parked, poison.Error(), c.By, logTime); err != nil {
				return err
			}
			pa.setQueue(next)
			return nil
		}
		if i == 0 && c.Op == wal.OpRedrive {
			if err := pa.letter(ctx, q, r, wal.Redriven, "", c.By, logTime); err != nil {
				return err
			}
		}
	}
	pa.setQueue(&ParkedQueue{Key: q.Key})
	return nil
}

func (pa *partApplier) letter(ctx context.Context, q *ParkedQueue, r wal.Ref, d wal.Disposition, detail, by string, logTime int64) error {
	l := wal.DeadLetter{Ref: r, Key: q.Key, Reason: "poison", Disposition: d, Detail: detail, Attempts: q.Attempts, LogTime: logTime, By: by}
	if d == wal.Redriven {
		l.Attempts++
	}
	if err := pa.a.cfg.Letters.Put(ctx, []wal.DeadLetter{l}); err != nil {
		return fmt.Errorf("write dead letter %s: %w", r, err)
	}
	return nil
}

// again applies a parked call from the log, under its own position and tokens
// and by its own log time.
func (pa *partApplier) again(ctx context.Context, r wal.Ref) (poison, err error) {
	rd, err := pa.a.cfg.Log.Read(ctx, r.Partition, r.Offset)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	entries, err := rd.Next(ctx)
	if err != nil {
		return nil, err
	}
	e := &entries[0]
	if e.Offset != r.Offset {
		return nil, fmt.Errorf("%w: wanted offset %d, read %d", wal.ErrCorrupt, r.Offset, e.Offset)
	}
	var rec wal.Record
	var payload Payload
	if err := wal.DecodeRecord(e.Data, &rec); err != nil {
		return err, nil
	}
	if rec.Kind != wal.KindKV {
		return fmt.Errorf("a record of kind %s does not belong here", rec.Kind), nil
	}
	if err := DecodePayload(rec.Payload, &payload); err != nil {
		return err, nil
	}
	if r.Index == wal.WholeRecord {
		return pa.whole(ctx, &payload, &rec, e)
	}
	if r.Index >= len(payload.Calls) {
		return fmt.Errorf("the record has no call %d", r.Index), nil
	}
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return nil, err
	}
	return pa.tryCall(ctx, &payload.Calls[r.Index], &rec, r.Index, place{offset: e.Offset, logTime: e.LogTime, acceptedAt: rec.AcceptedAt, settings: settings})
}

// whole applies every call of a record that an earlier build could not read.
func (pa *partApplier) whole(ctx context.Context, payload *Payload, rec *wal.Record, e *wal.Entry) (poison, err error) {
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return nil, err
	}
	at := place{offset: e.Offset, logTime: e.LogTime, acceptedAt: rec.AcceptedAt, settings: settings}
	for i := range payload.Calls {
		if poison, err := pa.tryCall(ctx, &payload.Calls[i], rec, i, at); poison != nil || err != nil {
			return poison, err
		}
	}
	return nil, nil
}
