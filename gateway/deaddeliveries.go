package gateway

import (
	"context"
	"slices"
	"strings"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/durable"
)

// isDead reports whether a delivery is dead still, as its letter says.
func (n *Namespace) isDead(ctx context.Context, l *consumers.DeadLetter) (bool, error) {
	if name, ok := strings.CutPrefix(l.Target, ConsumerTarget); ok {
		return n.isGivenUp(ctx, name, l)
	}
	if n.Messages == nil {
		return true, nil
	}
	st, known, err := n.Messages.Status(ctx, l.Ref.Partition, l.Ref.Offset)
	if err != nil || !known { // then the letter is what is left of it
		return true, err
	}
	for i := range st.Targets {
		if t := &st.Targets[i]; t.Target == l.Target {
			return t.State == delivery.Dead && t.Attempts == l.Attempts, nil
		}
	}
	return true, nil
}

// ConsumerTarget begins, in the letters of what a named consumer has given up, what is told of as the target.
const ConsumerTarget = "consumer:"

// isGivenUp reports whether a consumer has given a record up still, as its letter says.
func (n *Namespace) isGivenUp(ctx context.Context, consumer string, l *consumers.DeadLetter) (bool, error) {
	if n.Consumers == nil {
		return true, nil
	}
	dead, err := n.Consumers.Dead(ctx, l.Ref.Partition, consumer)
	return slices.Contains(dead, durable.Dead{Consumer: consumer, Offset: l.Ref.Offset, Attempts: l.Attempts}), err
}

// givenUp are the letters of a selection about what consumers have given up and can be handed again.
func (n *Namespace) givenUp(ctx context.Context, sel *letterSelection) (out []consumers.DeadLetter, err error) {
	if n.Consumers == nil || n.Letters == nil {
		return nil, nil
	}
	type record struct {
		p    wal.Partition
		dead durable.Dead
	}
	left := make(map[record]bool)
	for _, p := range n.partitions() {
		dead, err := n.Consumers.Dead(ctx, p, "")
		if err != nil {
			return nil, err
		}
		for _, d := range dead {
			left[record{p, d}] = true
		}
	}
	q := n.letterQuery(sel, MaxLetterPage)
	q.Stands, q.Enough = nil, 0 // left tells
	for more := len(left) > 0; more; {
		var letters []consumers.DeadLetter
		if letters, q.From, more, err = n.Letters.List(ctx, q); err != nil {
			return nil, err
		}
		for i := range letters {
			l := &letters[i]
			name, ok := strings.CutPrefix(l.Target, ConsumerTarget)
			r := record{l.Ref.Partition, durable.Dead{Consumer: name, Offset: l.Ref.Offset, Attempts: l.Attempts}}
			if ok && l.Disposition == consumers.Parked && left[r] {
				delete(left, r)
				out = append(out, *l)
			}
		}
	}
	return out, nil
}

// deadPage is how many dead deliveries are asked for at once.
const deadPage = 1000

// deadDeliveries are those of a selection.
func (n *Namespace) deadDeliveries(ctx context.Context, sel *letterSelection) (out []consumers.DeadLetter, err error) {
	if n.Messages == nil {
		return nil, nil
	}
	for _, p := range n.partitions() {
		behind := delivery.DeadPlace{Offset: wal.NoOffset}
		for {
			ds, err := n.Messages.Dead(ctx, p, behind, deadPage)
			if err != nil {
				return nil, err
			}
			for i := range ds {
				d := &ds[i]
				l := consumers.DeadLetter{
					Ref: wal.Ref{Partition: p, Offset: d.Offset}, Key: d.Key, Reason: delivery.ReasonUndeliverable, Disposition: consumers.Parked,
					Detail: d.Error, Attempts: d.Attempts, LogTime: d.At, Target: d.Target, By: d.By,
				}
				if sel.match(&l) {
					out = append(out, l)
				}
				behind = d.Place()
			}
			if len(ds) < deadPage {
				break
			}
		}
	}
	return out, nil
}

// sendDelivery appends what becomes of a dead delivery, waits for it, and reports whether it is dead no longer.
func (d *disposal) sendDelivery(ctx context.Context, l *consumers.DeadLetter) (gone bool, err error) {
	if name, ok := strings.CutPrefix(l.Target, ConsumerTarget); ok {
		gone, err := d.ns.Consumers.Revive(ctx, l.Ref.Partition, name, l.Ref.Offset, d.op == consumers.OpDrop, d.id)
		if err == nil {
			d.done.Add(1)
		}
		if gone {
			d.appended.Store(true)
		}
		return gone, err
	}
	e := &delivery.Event{What: delivery.EventRedrive, Offset: &l.Ref.Offset, Key: l.Key, Target: l.Target, By: d.id}
	if d.op == consumers.OpDrop {
		e.What = delivery.EventDrop
	}
	o, err := d.ns.Messages.Decide(ctx, l.Ref.Partition, e)
	if o != wal.NoOffset {
		d.appended.Store(true)
	}
	if err != nil {
		return false, err
	}
	d.done.Add(1)
	dead, err := d.ns.isDead(ctx, l)
	return err == nil && !dead, err
}
