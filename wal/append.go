package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Append appends one record that covers the given reservations and settles
// them. All must be of partition p. The error is as in Result.
func (s *Stream) Append(ctx context.Context, p Partition, rec *Record, rs ...*Reservation) (Offset, error) {
	a := [1]Appending{{Partition: p, Record: rec, Reservations: rs}}
	s.AppendAll(ctx, a[:])
	return a[0].Offset, a[0].Err
}

// Appending is one record of AppendAll or AppendBuffered and what became of it.
type Appending struct {
	Partition Partition
	Record    *Record
	// Reservations that the record covers, all of Partition.
	Reservations []*Reservation
	// Weight is how many mutations the record has; 0 is one. See
	// StreamConfig.MaxUnapplied.
	Weight int

	Offset Offset // NoOffset unless Err is nil and the append was Sync
	Err    error  // as in Result

	handed bool // to the log
	others Offset
	mark   int64 // see streamPart.clear
}

// AppendAll is Append for records of several partitions. They are one call to
// the log, so that they share an fsync instead of standing in line for one each.
// Each has an outcome of its own.
func (s *Stream) AppendAll(ctx context.Context, as []Appending) {
	s.hand(ctx, Sync, as)
	for i := range as {
		a := &as[i]
		if a.handed {
			s.outcome(a.Partition, a.mark, a.Weight, a.Offset, a.Err)
		}
		s.settleBy(a)
	}
}

// AppendBuffered is AppendAll that does not wait until the records are durable:
// each is queued, or refused with ErrNotAppended. What is queued is lost if the
// process dies within Broker.BufferedLoss, so no reservation can be settled by
// it: one that is given makes the record refused, and stays its owner's. Offset
// stays NoOffset. A queued record counts as Pending, and as acknowledged by this
// process once it is durable; that the log could not make it so, only the log
// tells, in its metrics.
func (s *Stream) AppendBuffered(ctx context.Context, as []Appending) {
	s.hand(ctx, Buffered, as)
	for i := range as {
		if a := &as[i]; a.handed && a.Err != nil { // nothing more will be told
			s.outcome(a.Partition, a.mark, a.Weight, NoOffset, a.Err)
		}
	}
}

// hand gives the records that are admitted to the log and takes its answers.
func (s *Stream) hand(ctx context.Context, d Durability, as []Appending) {
	entries := make([]NewEntry, 0, len(as))
	for i := range as {
		a := &as[i]
		a.Offset, a.handed = NoOffset, false
		if a.Err = s.Admit(a.Partition); a.Err != nil {
			continue
		}
		if d == Buffered && len(a.Reservations) > 0 {
			a.Err = fmt.Errorf("%w: a buffered append settles no reservations", ErrNotAppended)
			continue
		}
		data := AppendRecord(make([]byte, 0, 160+len(a.Record.RoutingKey)+len(a.Record.Payload)), a.Record)
		if len(data) > MaxRecordBytes {
			a.Err = fmt.Errorf("%w: %w: %d bytes", ErrNotAppended, ErrTooLarge, len(data))
			continue
		}
		e := NewEntry{Partition: a.Partition, Data: data}
		part := &s.parts[a.Partition]
		part.inFlight.Add(1)
		a.handed, a.mark = true, part.doubted.Load()
		if d == Buffered {
			p, mark, weight := a.Partition, a.mark, a.Weight
			e.Settled = func(r Result) { s.outcome(p, mark, weight, r.Offset, r.Err) }
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return
	}
	results := s.cfg.Log.Append(ctx, d, entries)
	for i := range as {
		if a := &as[i]; a.handed { // then it has an entry, in this order
			a.Offset, a.Err, a.others = results[0].Offset, results[0].Err, results[0].Others
			if a.Err != nil {
				a.Offset = NoOffset
			}
			results = results[1:]
		}
	}
}

// outcome notes what became of a record that was in flight. What it adds comes
// before what it takes away; see Pending.
func (s *Stream) outcome(p Partition, mark int64, weight int, o Offset, err error) {
	part := &s.parts[p]
	switch {
	case err == nil:
		s.weigh(p, weight, o)
		s.cfg.Progress.Ack(p, o)
		part.clear(mark)
	case errors.Is(err, ErrUnknown):
		part.doubted.Add(1)
	}
	part.inFlight.Add(-1)
}

// clear settles the first mark records whose outcome was unknown. Example: append 7
// timed out, and append 8, which was handed over later, is acknowledged: record 7 is
// below record 8 in the log, or is not in it. The log does not reorder, so a barrier
// that was appended later says the same. The caller has seen one of the two applied.
func (p *streamPart) clear(mark int64) {
	for {
		cur := p.cleared.Load()
		if mark <= cur || p.cleared.CompareAndSwap(cur, mark) {
			return
		}
	}
}

// Pending is an upper bound of the records of p that this process knows of and
// that are not applied: those that it has in flight, buffered ones among them,
// those of unknown outcome, and those between the watermark and the end of the log
// as it knows that. It is 0 once all is applied and nothing is in flight or in
// doubt; a doubt ends with the next append to p that is acknowledged, or the next
// Barrier. What other processes appended since LastEnd is not in it.
func (s *Stream) Pending(p Partition) int64 {
	// In the order that a record takes, so that one on its way is seen at least
	// once: in flight, in doubt, in the log, applied.
	part, g := &s.parts[p], s.cfg.Progress
	n := part.inFlight.Load()
	doubted := part.doubted.Load()
	n += max(0, doubted-part.cleared.Load())
	last := max(g.Acked(p), s.cfg.Log.LastEnd(p).End-1)
	return n + max(0, int64(last-g.Applied(p)))
}

// settleBy settles the reservations of a record by its outcome.
func (s *Stream) settleBy(a *Appending) {
	switch {
	case a.Err == nil:
		s.settle(a)
	case errors.Is(a.Err, ErrUnknown):
		for _, r := range a.Reservations {
			r.err = a.Err
			close(r.done) // stays reserved: see Reserve
		}
		s.keepUnknown(a.Partition, a.Reservations)
	default:
		for _, r := range a.Reservations {
			s.Release(r, a.Err)
		}
	}
}

// settle keeps the reservations of an acknowledged record until it is applied.
func (s *Stream) settle(a *Appending) {
	p, o, rs := a.Partition, a.Offset, a.Reservations
	for _, r := range rs {
		r.Offset, r.AcceptedAt, r.Version, r.others = o, a.Record.AcceptedAt, a.Record.NamespaceVersion, a.others
	}
	part := &s.parts[p]
	part.mu.Lock()
	part.waiting = append(part.waiting, rs...)
	var gone []*Reservation
	if n := len(part.waiting) - int(s.cfg.MaxUnapplied); n > 0 && s.letBehind.Load() {
		gone = slices.Clone(part.waiting[:n])
		part.waiting = part.waiting[n:]
	}
	part.mu.Unlock()
	for _, r := range rs {
		close(r.done)
	}
	for _, r := range gone {
		s.Inherit(p, r.Offset)
		s.forget(r)
	}
	if s.cfg.Progress.Applied(p) >= o {
		s.applied(p, s.cfg.Progress.Applied(p)) // it was applied before it was in waiting
	}
}

// maxUnknown bounds how many tokens of unknown outcome a partition remembers.
// One that is forgotten is still applied once; only its duplicate flag may then
// say NO for a copy.
const maxUnknown = 65536

func (s *Stream) keepUnknown(p Partition, rs []*Reservation) {
	part := &s.parts[p]
	part.mu.Lock()
	part.unknown = append(part.unknown, rs...)
	var gone []*Reservation
	if n := len(part.unknown) - maxUnknown; n > 0 {
		gone = append(gone, part.unknown[:n]...)
		part.unknown = append(part.unknown[:0:0], part.unknown[n:]...)
	}
	part.mu.Unlock()
	for _, r := range gone {
		s.forget(r)
	}
}

// applied forgets the reservations that the store now knows. They stand in the
// order that their appends were answered in, which is nearly that of their
// offsets. Where two stand the other way round, the reservation of the lower offset is
// forgotten a moment late: until then a copy is answered from it instead of the store.
func (s *Stream) applied(p Partition, o Offset) {
	part := &s.parts[p]
	part.mu.Lock()
	n := 0
	for n < len(part.waiting) && part.waiting[n].Offset <= o {
		n++
	}
	gone := part.waiting[:n]
	if part.waiting = part.waiting[n:]; len(part.waiting) == 0 {
		part.waiting = nil
	}
	part.lighten(o)
	part.mu.Unlock()
	for _, r := range gone {
		s.forget(r)
	}
}
