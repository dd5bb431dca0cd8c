package gateway

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// isDead reports whether a delivery is dead still, as its letter says.
func (n *Namespace) isDead(ctx context.Context, l *consumers.DeadLetter) (bool, error) {
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
