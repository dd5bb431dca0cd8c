package consumers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// control does what a control record asks for.
func (q *Part) control(ctx context.Context, r *Run) error {
	c, err := DecodeControl(r.Record.Payload)
	if err != nil {
		// Nothing to park: a control record that says nothing asks for nothing.
		r.letter(DeadLetter{
			Ref: r.Ref(wal.WholeRecord), Key: bytes.Clone(r.Record.RoutingKey), Reason: "bad_control", Detail: err.Error(),
			LogTime: r.LogTime, Record: bytes.Clone(r.Entry.Data),
		})
		return nil
	}
	if c.Op == OpPromote {
		return q.promote(ctx, r, c)
	}
	k := q.parking.Queue(c.Key)
	if k == nil {
		return nil // done before, or never parked by this build
	}
	begun, err := q.begun(ctx, r)
	if err != nil {
		return err
	}
	r.changed = true
	if c.Op == OpDrop && !begun && k.Refs[0] == c.Ref {
		r.exceptRef(c.Ref, WasDropped, nil)
	}
	return q.parking.Control(ctx, r.Entry.Offset, c, r.LogTime, begun)
}

// begun takes up a control record of which a part was saved before a crash: what
// was decided of that part is kept. See Run.Settled.
func (q *Part) begun(ctx context.Context, r *Run) (begun bool, err error) {
	if r.Follows() {
		return false, nil
	}
	o := r.Entry.Offset
	err = q.l.cfg.Ledger.Exceptions(ctx, q.p, o, o+1, func(_ wal.Offset, row []byte) error {
		ds, err := DecodeDecisions(nil, o, row)
		if err != nil || len(ds) == 0 {
			return err
		}
		begun = true
		r.row, r.last = append(r.row[:0], row...), ds[len(ds)-1].Index
		r.begun, err = DecodeDecisions(nil, o, r.row)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read what was begun of record %d: %w", o, err)
	}
	return begun, nil
}

// promote turns the partition over to another store, from the next record on. A
// step that was done is not done again: copies of a control record, and those of
// an earlier step that come late, change nothing.
func (q *Part) promote(ctx context.Context, r *Run, c *Control) error {
	if c.Step <= q.st.Step {
		return nil
	}
	// What this store decided so far, it has to tell.
	if err := q.parking.Flush(ctx); err != nil {
		return err
	}
	q.st.Step = c.Step
	r.Except(wal.WholeRecord, WasTurned, []byte(c.Store))
	q.st.Follows = c.Store != q.l.cfg.Store
	q.toldTurn()
	return nil
}

// exceptRef writes down what became of a parked call, in the row of the control
// record in hand.
func (r *Run) exceptRef(ref wal.Ref, what What, data []byte) {
	if r.Follows() {
		return
	}
	d := Decision{Offset: ref.Offset, Index: ref.Index, What: what, Data: data}
	r.row = AppendDecision(r.row, r.Entry.Offset, &r.last, &d)
}

// again applies a parked call from the log, under its own position and tokens and
// by its own log time. It is Parking's hook, within a control record.
func (q *Part) again(ctx context.Context, ref wal.Ref) (poison, err error) {
	by := &q.run
	if find(by.begun, ref.Offset, ref.Index, WasDropped) != nil {
		return nil, nil
	}
	redone := find(by.begun, ref.Offset, ref.Index, WasRedriven) != nil
	decided := by.decided
	if redone {
		decided = by.begun
	}
	if by.Follows() {
		if find(by.decided, ref.Offset, ref.Index, WasRedriven) == nil {
			return q.stillParked(by, ref)
		}
	}
	err = wal.ReadOne(ctx, q.l.cfg.Log, ref.Partition, ref.Offset, func(e *wal.Entry) error {
		r := &Run{Part: q, Entry: e, LogTime: e.LogTime, Redriven: true, by: by, decided: decided, repeats: redone}
		if err := wal.DecodeRecord(e.Data, &r.Record); err != nil {
			return fmt.Errorf("%w: %w", ErrPoison, err)
		}
		if r.AcceptedAt = r.Record.AcceptedAt; r.AcceptedAt == 0 {
			r.AcceptedAt = r.LogTime
		}
		if !slices.Contains(q.l.cfg.Kinds, r.Record.Kind) {
			return fmt.Errorf("%w: a record of kind %s does not belong here", ErrPoison, r.Record.Kind)
		}
		row, last := len(by.row), by.last
		if !redone {
			by.exceptRef(ref, WasRedriven, nil)
		}
		err := q.m.Again(ctx, r, ref.Index)
		if errors.Is(err, ErrPoison) && !by.Follows() {
			by.row, by.last = by.row[:row], last
		}
		return err
	})
	if !errors.Is(err, ErrPoison) {
		return nil, err
	}
	if by.Follows() {
		return nil, fmt.Errorf("%w: %s: %w", ErrCannotFollow, ref, err)
	}
	now := &q.parking.redrive
	by.exceptRef(ref, WasParked, parkedData(nil, now.queue.Key, now.tries, err.Error()))
	return err, nil
}

// stillParked returns why a call is parked again, as it was decided.
func (q *Part) stillParked(by *Run, ref wal.Ref) (poison, err error) {
	d := find(by.decided, ref.Offset, ref.Index, WasParked)
	if d == nil {
		return nil, fmt.Errorf("%w: nothing was decided of parked call %s", ErrCannotFollow, ref)
	}
	_, _, reason, err := decodeParkedData(bytes.Clone(d.Data))
	if err != nil {
		return nil, err
	}
	return errors.New(reason), nil
}
