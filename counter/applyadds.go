package counter

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// adds applies a record of adds. First everything is read that can fail, then
// the deltas are decided one after the other. poison: the record's bytes are not
// adds.
func (pa *partApplier) adds(ctx context.Context, c *Call, rec *wal.Record, pl *place) (poison, err error) {
	call, id := fresh, wal.TokenID{}
	if !rec.Token.IsZero() {
		id = wal.CallIDOf(rec.RoutingKey, rec.Token.Nonce)
		if call, err = pa.judge(ctx, id, rec.Token.GenerationTime, rec.RequestHash, pl); err != nil {
			return nil, err
		}
	}
	s := &pa.scratch
	if poison, err := pa.collect(ctx, c.Adds, rec, call, pl); poison != nil || err != nil {
		return poison, err
	}
	if call != fresh {
		pa.refused(call, rec.RoutingKey, wal.WholeRecord, pl)
	}
	if err := pa.decideAdds(pl); err != nil {
		return nil, err
	}
	if call == fresh && !rec.Token.IsZero() {
		pa.mu.Lock()
		pa.rollup.saveToken(pl.applied(id, rec.Token.GenerationTime, rec.RequestHash))
		pa.mu.Unlock()
	}
	clear(s.adds)
	return nil, nil
}

// collect decodes the adds of a record that are to be decided, with their
// counters in memory. Those of parked counters are queued, and those whose token
// says so are left out.
func (pa *partApplier) collect(ctx context.Context, adds []byte, rec *wal.Record, call verdict, pl *place) (poison, err error) {
	s := &pa.scratch
	s.adds, s.extras, s.missing, s.names = s.adds[:0], s.extras[:0], s.missing[:0], s.names[:0]
	// The whole record is looked at before anything is done about a part of it.
	r := NewAddReader(adds)
	var a Add
	badName := false
	for i := 0; ; i++ {
		ok, err := r.Next(&a)
		if err != nil {
			return err, nil
		}
		if !ok {
			break
		}
		badName = badName || len(a.Counter) == 0 || len(a.Counter) > MaxNameBytes
		own := !a.Token.IsZero()
		if !own && rec.Token.IsZero() {
			return fmt.Errorf("add %d has no token", i), nil
		}
		if !own && call != fresh {
			continue
		}
		pend := pendingAdd{delta: a.Delta, extra: -1, index: i}
		if own || a.EventTime != 0 || a.TTL != 0 {
			pend.extra = len(s.extras)
			s.extras = append(s.extras, extraAdd{Add: a})
		}
		s.names = append(s.names, a.Counter)
		s.adds = append(s.adds, pend)
	}
	pa.lookup()
	if len(s.missing) > 0 {
		if err := pa.loadMissing(ctx); err != nil {
			return nil, err
		}
	}
	if err := pa.judgeOwn(ctx, pl); err != nil {
		return nil, err
	}
	if pl.redriven {
		for _, a := range s.adds {
			if cause := pa.cannot(&a, pl); cause != nil {
				return cause, nil
			}
		}
		return nil, nil
	}
	if pa.parking.Len() > 0 || len(pa.panicked) > 0 || badName {
		return nil, pa.setAside(ctx, pl)
	}
	return nil, nil
}

// cannot says why an add can never be applied, or nil.
func (pa *partApplier) cannot(a *pendingAdd, pl *place) error {
	if cause := pa.panicked[wal.Ref{Partition: pa.p, Offset: pl.offset, Index: a.index}]; cause != nil {
		return cause
	}
	return checkName([]byte(a.h.name))
}

// lookup finds the counters of s.adds that are in memory, and lists the others.
func (pa *partApplier) lookup() {
	s := &pa.scratch
	n := len(s.names)
	if cap(s.found) < n {
		s.hashes, s.found = make([]uint64, n), make([]*hot, n)
	}
	found := s.found[:n]
	s.touched += pa.rollup.hot.lookup(s.names, s.hashes[:n], found)
	for i, h := range found {
		if s.adds[i].h = h; h == nil {
			s.missing = append(s.missing, s.names[i])
		}
	}
	clear(found)
}

// loadMissing brings the counters of s.missing into memory.
func (pa *partApplier) loadMissing(ctx context.Context) error {
	s := &pa.scratch
	n := len(s.missing)
	if cap(s.rows) < n {
		s.rows, s.there = make([]Row, n), make([]bool, n)
	}
	rows, found := s.rows[:n], s.there[:n]
	clear(rows)
	clear(found)
	if err := pa.a.cfg.Store.Counters(ctx, pa.p, s.missing, rows, found); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	pa.mu.Lock()
	defer pa.mu.Unlock()
	next := 0
	for i := range s.adds {
		if a := &s.adds[i]; a.h == nil {
			a.h = pa.rollup.load(s.missing[next], rows[next], found[next])
			next++
		}
	}
	return nil
}

// judgeOwn leaves out the adds whose own token says so. One that stands twice in
// the record is found out when it is decided.
func (pa *partApplier) judgeOwn(ctx context.Context, pl *place) error {
	s := &pa.scratch
	if len(s.extras) == 0 {
		return nil
	}
	kept := s.adds[:0]
	for _, a := range s.adds {
		if a.extra >= 0 {
			if x := &s.extras[a.extra]; !x.Token.IsZero() {
				if x.Token.GenerationTime == 0 {
					x.Token.GenerationTime = pl.callTime
				}
				x.id = wal.IDOf(x.Counter, x.Token.Nonce)
				v, err := pa.judge(ctx, x.id, x.Token.GenerationTime, x.Hash, pl)
				if err != nil {
					return err
				}
				if v != fresh {
					pa.refused(v, x.Counter, a.index, pl)
					continue
				}
			}
		}
		kept = append(kept, a)
	}
	s.adds = kept
	return nil
}

// setAside queues the adds of parked counters and parks those that cannot be
// applied; the others stay. It may be repeated.
func (pa *partApplier) setAside(ctx context.Context, pl *place) error {
	s := &pa.scratch
	kept := s.adds[:0]
	for _, a := range s.adds {
		key := []byte(a.h.name)
		if q := pa.parking.Queue(key); q != nil {
			if err := pa.parking.Enqueue(q, wal.Ref{Partition: pa.p, Offset: pl.offset, Index: a.index}); err != nil {
				return err
			}
			continue
		}
		if cause := pa.cannot(&a, pl); cause != nil {
			if err := pa.park(pl.entry, a.index, key, pl.logTime, cause); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, a)
	}
	s.adds = kept
	return nil
}

// decideAdds decides what collect left.
func (pa *partApplier) decideAdds(pl *place) (err error) {
	s, r := &pa.scratch, pa.rollup
	ref := wal.Ref{Partition: pa.p, Offset: pl.offset}
	defer pa.guard(&ref, &err)
	applied, refusedN := 0, 0
	pa.mu.Lock()
	defer pa.mu.Unlock()
	plain := extraAdd{}
	for i := range s.adds {
		p := &s.adds[i]
		ref.Index = p.index
		a := &plain
		if p.extra >= 0 {
			a = &s.extras[p.extra]
			if !a.Token.IsZero() && !pa.take(a, p, pl) {
				continue
			}
		} else {
			plain.Delta = p.delta
		}
		out, _, v := r.add(p.h, &a.Add, nil, &pl.at)
		if out == Applied {
			applied++
		}
		if out != Applied || v != NoViolation { // saturated: only a part of it was added
			refusedN++
			pa.letterOf(out, v, p, pl)
		}
	}
	pa.a.stats.Applied.Add(int64(applied))
	if refusedN > 0 {
		pa.a.stats.Refused.Add(int64(refusedN))
	}
	return nil
}

// take claims the own token of an add: false when an earlier add of this very
// record had it.
func (pa *partApplier) take(a *extraAdd, p *pendingAdd, pl *place) bool {
	if seen, ok := pa.rollup.pending.tokens[a.id]; ok && seen.Offset == pl.offset {
		v := duplicate
		if seen.Hash != a.Hash {
			v = conflict
		}
		pa.refused(v, a.Counter, p.index, pl)
		return false
	}
	pa.rollup.saveToken(pl.applied(a.id, a.Token.GenerationTime, a.Hash))
	return true
}

// letterOf keeps the letter of an add that was refused, or taken in part only.
func (pa *partApplier) letterOf(out Outcome, v Violation, p *pendingAdd, pl *place) {
	reason, detail := "overflow", fmt.Sprintf("a delta of %d would leave int64", p.delta)
	if out != Overflow {
		side := "floor"
		if v == AtCeiling {
			side = "ceiling"
		}
		reason, detail = "bound", fmt.Sprintf("a delta of %d would pass the namespace's %s", p.delta, side)
		if out == Applied {
			detail += "; a part of it was added"
		}
	}
	pa.letter([]byte(p.h.name), p.index, pl, reason, detail)
}
