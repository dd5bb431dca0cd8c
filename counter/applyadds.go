package counter

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// scratch is what the loop over the adds of a record uses again and again.
type scratch struct {
	adds    []pendingAdd
	names   [][]byte // of adds, and what is found under them
	hashes  []uint64
	found   []*hot
	touched int64 // of no meaning: it keeps the loads that fetch counters alive
	extras  []Add // of adds with a time, a time to live or a token of their own
	missing [][]byte
	rows    []Row
	there   []bool
	data    []byte
}

// pendingAdd is an add whose counter is in memory.
type pendingAdd struct {
	h     *hot
	delta int64
	extra int // index in extras, -1: none
	index int // in the record
}

// adds applies a record of adds. First everything is read that can fail, then
// the deltas are decided one after the other. consumers.ErrPoison: the record's
// bytes are not adds, or, of a redriven one, an add can never be applied.
func (m *machine) adds(ctx context.Context, c *Call, pl *place) error {
	s := &m.scratch
	if err := m.decode(c.Adds, pl.run); err != nil {
		return err
	}
	if err := m.judgeCall(ctx, pl); err != nil {
		return err
	}
	m.lookup()
	if len(s.missing) > 0 {
		if err := m.loadMissing(ctx); err != nil {
			return err
		}
	}
	if err := m.judgeOwn(ctx, pl); err != nil {
		return err
	}
	if err := m.setAside(pl); err != nil {
		return err
	}
	if err := m.decideAdds(pl); err != nil {
		return err
	}
	clear(s.adds)
	return nil
}

// decode reads the adds of a record. All of it is looked at before anything is
// done about a part of it.
func (m *machine) decode(adds []byte, r *consumers.Run) error {
	s := &m.scratch
	s.adds, s.extras, s.missing, s.names = s.adds[:0], s.extras[:0], s.missing[:0], s.names[:0]
	rd := NewAddReader(adds)
	var a Add
	for i := 0; ; i++ {
		ok, err := rd.Next(&a)
		if err != nil {
			return fmt.Errorf("%w: %w", consumers.ErrPoison, err)
		}
		if !ok {
			return nil
		}
		own := !a.Token.IsZero()
		if !own && r.Record.Token.IsZero() {
			return fmt.Errorf("%w: add %d has no token", consumers.ErrPoison, i)
		}
		pend := pendingAdd{delta: a.Delta, extra: -1, index: i}
		if own || a.EventTime != 0 || a.TTL != 0 {
			pend.extra = len(s.extras)
			s.extras = append(s.extras, a)
		}
		s.names = append(s.names, a.Counter)
		s.adds = append(s.adds, pend)
	}
}

// judgeCall asks for the call's token, which covers the adds that bring none of
// their own: when it says so, they are left out.
func (m *machine) judgeCall(ctx context.Context, pl *place) error {
	s, r := &m.scratch, pl.run
	if r.Record.Token.IsZero() {
		return nil
	}
	v, err := r.Judge(ctx, wal.WholeRecord, r.Record.RoutingKey, r.Record.Token, callID(&r.Record), r.Record.RequestHash, pl.window())
	if pl.fresh = v == consumers.Fresh; err != nil || pl.fresh {
		return err
	}
	adds, names := s.adds[:0], s.names[:0]
	for i := range s.adds {
		if m.owns(&s.adds[i]) {
			adds, names = append(adds, s.adds[i]), append(names, s.names[i])
		}
	}
	s.adds, s.names = adds, names
	return nil
}

// callID is the identity of a call's token in the partition of its record, whose
// routing key is the smallest of its counters there.
func callID(rec *wal.Record) wal.TokenID { return wal.CallIDOf(rec.RoutingKey, rec.Token.Nonce) }

// owns reports whether an add has a token of its own.
func (m *machine) owns(a *pendingAdd) bool {
	return a.extra >= 0 && !m.scratch.extras[a.extra].Token.IsZero()
}

// cannot says why an add can never be applied, or nil.
func (m *machine) cannot(a *pendingAdd, pl *place) error {
	if cause := pl.run.Poisoned(a.index); cause != nil {
		return fmt.Errorf("%w: %w", consumers.ErrPoison, cause)
	}
	return checkName([]byte(a.h.name))
}

// lookup finds the counters of s.adds that are in memory, and lists the others.
func (m *machine) lookup() {
	s := &m.scratch
	n := len(s.names)
	if cap(s.found) < n {
		s.hashes, s.found = make([]uint64, n), make([]*hot, n)
	}
	found := s.found[:n]
	s.touched += m.rollup.hot.lookup(s.names, s.hashes[:n], found)
	for i, h := range found {
		if s.adds[i].h = h; h == nil {
			s.missing = append(s.missing, s.names[i])
		}
	}
	clear(found)
}

// loadMissing brings the counters of s.missing into memory.
func (m *machine) loadMissing(ctx context.Context) error {
	s := &m.scratch
	n := len(s.missing)
	if cap(s.rows) < n {
		s.rows, s.there = make([]Row, n), make([]bool, n)
	}
	rows, found := s.rows[:n], s.there[:n]
	clear(rows)
	clear(found)
	if err := m.a.cfg.Store.Counters(ctx, m.p, s.missing, rows, found); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := 0
	for i := range s.adds {
		if a := &s.adds[i]; a.h == nil {
			a.h = m.rollup.load(s.missing[next], rows[next], found[next])
			next++
		}
	}
	return nil
}

// judgeOwn leaves out the adds whose own token says so. One that stands twice in
// the record is found out when it is decided.
func (m *machine) judgeOwn(ctx context.Context, pl *place) error {
	s, r := &m.scratch, pl.run
	if len(s.extras) == 0 {
		return nil
	}
	kept := s.adds[:0]
	for _, a := range s.adds {
		if m.owns(&a) {
			x := &s.extras[a.extra]
			if x.Token.GenerationTime == 0 {
				x.Token.GenerationTime = r.Record.Token.GenerationTime
			}
			v, err := r.Judge(ctx, a.index, x.Counter, x.Token, wal.IDOf(x.Counter, x.Token.Nonce), x.Hash, pl.window())
			if err != nil {
				return err
			}
			if v != consumers.Fresh {
				continue
			}
		}
		kept = append(kept, a)
	}
	s.adds = kept
	return nil
}

// setAside queues the adds of parked counters and parks those that cannot be
// applied; the others stay. It may be repeated.
func (m *machine) setAside(pl *place) error {
	s, r := &m.scratch, pl.run
	if !r.MayPark() && !s.badName() {
		return nil
	}
	kept := s.adds[:0]
	for _, a := range s.adds {
		key := []byte(a.h.name)
		if aside, err := r.Aside(a.index, key); err != nil {
			return err
		} else if aside {
			continue
		}
		if cause := m.cannot(&a, pl); cause != nil {
			if r.Redriven {
				return cause
			}
			if err := r.Park(a.index, key, cause); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, a)
	}
	s.adds = kept
	return nil
}

func (s *scratch) badName() bool {
	for i := range s.adds {
		if n := len(s.adds[i].h.name); n == 0 || n > MaxNameBytes {
			return true
		}
	}
	return false
}

// decideAdds decides what is left, and remembers the call's token.
func (m *machine) decideAdds(pl *place) (err error) {
	s, r := &m.scratch, pl.run
	index := wal.WholeRecord
	defer r.Recover(&index, &err)
	applied, refused := 0, 0
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Changed()
	plain := Add{}
	for i := range s.adds {
		p := &s.adds[i]
		index, pl.at.index = p.index, p.index
		a := &plain
		if p.extra >= 0 {
			a = &s.extras[p.extra]
		} else {
			plain.Delta = p.delta
		}
		if m.owns(p) && !m.take(a, p, pl) {
			continue
		}
		switch ok, err := m.decideAdd(a, p, pl); {
		case err != nil:
			return err
		case ok:
			applied++
		default:
			refused++
		}
	}
	if pl.fresh {
		m.remember(pl.applied(callID(&r.Record), r.Record.Token, r.Record.RequestHash), pl)
	}
	r.CountApplied(int64(applied))
	r.CountRefused(int64(refused))
	return nil
}

// decideAdd decides one add, or does what was decided. The caller holds mu.
func (m *machine) decideAdd(a *Add, p *pendingAdd, pl *place) (applied bool, err error) {
	rl, r := m.rollup, pl.run
	out, delta, v := Applied, a.Delta, NoViolation
	life := p.h.row.ID
	if r.Follows() {
		if d := r.Decision(p.index, taken); d != nil {
			if out, delta, v, err = decodeTaken(d.Data); err != nil {
				return false, err
			}
			m.letterOf(out, v, p, pl) // who decided it may have been stopped before the letter
		}
	} else if out, delta, v = rl.judgeAdd(p.h, a, nil, &pl.at); out != Applied || v != NoViolation {
		m.scratch.data = appendTaken(m.scratch.data[:0], out, delta, v)
		r.Except(p.index, taken, m.scratch.data)
		m.letterOf(out, v, p, pl)
	}
	nonce := r.Record.Token.Nonce
	if !a.Token.IsZero() {
		nonce = a.Token.Nonce
	}
	if out == Applied && !r.Omitted(nonce) {
		rl.added(p.h, a, delta, &pl.at)
		if p.h.row.ID != life {
			r.Except(p.index, began, nil)
		}
	}
	return out == Applied && v == NoViolation, nil
}

// take claims the own token of an add: false when an earlier add of this very
// record had it.
func (m *machine) take(a *Add, p *pendingAdd, pl *place) bool {
	id := wal.IDOf(a.Counter, a.Token.Nonce)
	if seen, ok := m.rollup.pending.tokens[id]; ok && seen.Offset == pl.offset && !pl.run.Follows() {
		v := consumers.Duplicate
		if !seen.Hash.Same(a.Hash) {
			v = consumers.Conflict
		}
		pl.run.Refused(p.index, a.Counter, v)
		return false
	}
	m.remember(pl.applied(id, a.Token, a.Hash), pl)
	return true
}

// letterOf keeps the letter of an add that was refused, or taken in part only.
func (m *machine) letterOf(out Outcome, v Violation, p *pendingAdd, pl *place) {
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
	pl.run.Letter(p.index, []byte(p.h.name), reason, detail)
}

// oneAdd applies one add of a redriven record whose others were applied in their
// time. The call's token was taken then; only a token of the add's own is asked.
func (m *machine) oneAdd(ctx context.Context, c *Call, index int, pl *place) error {
	s := &m.scratch
	if err := m.decode(c.Adds, pl.run); err != nil {
		return err
	}
	if index >= len(s.adds) {
		return fmt.Errorf("%w: the record has no add %d", consumers.ErrPoison, index)
	}
	a := s.adds[index]
	h, err := m.find(ctx, s.names[index])
	if err != nil {
		return err
	}
	a.h = h
	s.adds = append(s.adds[:0], a)
	if cause := m.cannot(&s.adds[0], pl); cause != nil {
		return cause
	}
	if err := m.judgeOwn(ctx, pl); err != nil {
		return err
	}
	return m.decideAdds(pl)
}
