package consumers

import (
	"bytes"
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// redrive is a control record that is being applied.
type redrive struct {
	by      *Control // nil: none is
	at      wal.Offset
	logTime int64

	queue *ParkedQueue
	done  int     // how many refs of queue are dealt with and still in it
	first wal.Ref // the head of the queue when the control record came
	ref   wal.Ref // of the mutation in hand
	tries int     // of it, with this one
	final bool    // ref was decided against: that is what became of it
}

// refused notes what a letter tells of the mutation in hand.
func (r *redrive) refused(l *DeadLetter) {
	if r.by == nil {
		return
	}
	l.At, l.By = r.at, r.by.By
	if l.Ref == r.ref {
		l.Attempts, r.final = r.tries, true
	}
}

// Control does what the control record at an offset asks for: it redrives what is
// parked under a key, or drops the head of its queue and redrives the rest. begun
// says that a part of it was done and saved before: the head of now is not the one
// that it found.
func (k *Parking) Control(ctx context.Context, at wal.Offset, c *Control, logTime int64, begun bool) error {
	q := k.Queue(c.Key)
	if q == nil || c.Op == OpDrop && !begun && q.Refs[0] != c.Ref {
		return nil // done before, or never parked by this build
	}
	k.redrive = redrive{by: c, at: at, logTime: logTime, queue: q, first: q.Refs[0]}
	defer func() { k.redrive = redrive{} }()
	switch {
	case begun:
		k.redrive.first = wal.Ref{Offset: wal.NoOffset}
	case c.Op == OpDrop:
		if err := k.became(ctx, q.Refs[0], Dropped, q.Attempts); err != nil {
			return err
		}
		k.redrive.done = 1
	}
	return k.redriveRest(ctx, q)
}

// redriveRest applies the refs of a queue in order until one cannot be applied,
// which becomes the head of the queue.
func (k *Parking) redriveRest(ctx context.Context, q *ParkedQueue) error {
	r := &k.redrive
	for ; r.done < len(q.Refs); r.done++ {
		r.ref, r.tries, r.final = q.Refs[r.done], 1, false
		if r.ref == r.first {
			r.tries += q.Attempts
		}
		poison, err := k.cfg.Again(ctx, r.ref)
		if err != nil {
			return fmt.Errorf("redrive %s: %w", r.ref, err)
		}
		if poison != nil {
			h := ParkedHead{Reason: poison.Error(), Attempts: r.tries, At: r.at, LogTime: r.logTime}
			k.keep(&DeadLetter{
				Ref: r.ref, Key: q.Key, Reason: ReasonPoison, Disposition: Parked, Detail: h.Reason, Attempts: h.Attempts,
				LogTime: h.LogTime, At: h.At, By: r.by.By,
			})
			k.settle()
			k.again(q, h)
			return nil
		}
		if r.ref == r.first && !r.final {
			if err := k.became(ctx, r.ref, Redriven, r.tries); err != nil {
				return err
			}
		}
	}
	k.settle()
	return nil
}

// settle takes what is dealt with out of the queue that is being redriven.
func (k *Parking) settle() {
	if k.redrive.queue == nil || k.redrive.done == 0 {
		return
	}
	k.advance(k.redrive.queue, k.redrive.done)
	k.redrive.done = 0
}

// became keeps the letter that says how the parking of a mutation ended. It has
// the record's bytes, since the log may be trimmed from now on.
func (k *Parking) became(ctx context.Context, ref wal.Ref, d Disposition, attempts int) error {
	r := &k.redrive
	l := DeadLetter{
		Ref: ref, Key: r.queue.Key, Reason: ReasonPoison, Disposition: d, Detail: r.queue.Reason, Attempts: attempts,
		LogTime: r.logTime, At: r.at, By: r.by.By,
	}
	err := wal.ReadOne(ctx, k.cfg.Log, ref.Partition, ref.Offset, func(e *wal.Entry) error {
		l.Record = bytes.Clone(e.Data)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read parked record %s: %w", ref, err)
	}
	k.keep(&l)
	return nil
}
