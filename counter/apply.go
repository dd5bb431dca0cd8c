package counter

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// The exceptions of counters; their Data is written down at appendAnswer.
const (
	// answered is what a call that answers a count did, and the answer that its
	// copies are owed.
	answered = consumers.FirstOwn
	// taken is what was taken of an add that nobody waits for, where that is not
	// its delta.
	taken = consumers.FirstOwn + 1
	// began says that an add began a life of its counter.
	began = consumers.FirstOwn + 2
)

// Begin implements consumers.Machine: it ends the leases that are due.
func (m *machine) Begin(ctx context.Context, r *consumers.Run) error {
	if m.broken { // since a flush failed: what it was to write is in no later one
		return ErrReloading
	}
	if err := m.makeRoom(ctx, r); err != nil {
		return err
	}
	m.rollup.begin(r.Entry.Offset, r.LogTime, r.AcceptedAt, r.Record.Token.Nonce)
	return m.expire(ctx, r.LogTime)
}

// Record implements consumers.Machine.
func (m *machine) Record(ctx context.Context, r *consumers.Run) error {
	c := &m.call
	pl, err := m.open(r, c)
	if err != nil {
		return err
	}
	if c.Op == OpAdd {
		return m.adds(ctx, c, pl)
	}
	return r.Call(ctx, 0, [][]byte{c.Add.Counter}, func(ctx context.Context) error { return m.single(ctx, c, pl) })
}

// Again implements consumers.Machine. The events of a redriven call stand in the
// row of the control record that asked for it, which is where they were decided.
func (m *machine) Again(ctx context.Context, r *consumers.Run, index int) error {
	var c Call
	pl, err := m.open(r, &c)
	switch {
	case err != nil:
		return err
	case c.Op != OpAdd:
		return r.Guard(0, func() error { return m.single(ctx, &c, pl) })
	case index == wal.WholeRecord:
		return m.adds(ctx, &c, pl)
	default:
		return m.oneAdd(ctx, &c, index, pl)
	}
}

// open decodes the record in hand.
func (m *machine) open(r *consumers.Run, c *Call) (*place, error) {
	if err := DecodePayload(r.Record.Payload, c); err != nil {
		if errors.Is(err, wal.ErrUnknownVersion) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", consumers.ErrPoison, err)
	}
	settings, err := m.a.cfg.Settings(r.Record.NamespaceVersion)
	if err != nil {
		return nil, err
	}
	return &place{run: r, at: at{offset: r.Entry.Offset, logTime: r.LogTime, acceptedAt: r.AcceptedAt, settings: &settings}}, nil
}

// place is where a call stands in the log.
type place struct {
	at
	run *consumers.Run
	// fresh: the token of a call of adds is new, and is remembered with them.
	fresh bool
}

// window is the token window, microseconds.
func (pl *place) window() int64 { return pl.settings.TokenWindow.Microseconds() }

// applied is the entry of a token whose call takes effect here.
func (pl *place) applied(id wal.TokenID, tok wal.Token, h wal.Hash) *TokenEntry {
	return &TokenEntry{
		ID: id, Hash: h, Offset: pl.offset, LogTime: pl.logTime, AcceptedAt: pl.acceptedAt, Time: tok.GenerationTime, Outcome: Applied,
	}
}

// remember saves what a token did. The caller holds mu.
func (m *machine) remember(e *TokenEntry, pl *place) {
	m.rollup.saveToken(e)
	pl.run.Observe(e.Time)
}

// Token implements consumers.Machine.
func (m *machine) Token(ctx context.Context, id wal.TokenID) (wal.Hash, int64, bool, error) {
	e, ok := m.rollup.token(id)
	if !ok {
		var err error
		if e, ok, err = m.a.cfg.Store.Token(ctx, m.p, id); err != nil {
			return wal.Hash{}, 0, false, err
		}
	}
	return e.Hash, e.LogTime, ok, nil
}

func checkName(name []byte) error {
	if len(name) == 0 || len(name) > MaxNameBytes {
		return fmt.Errorf("%w: a counter's name of %d bytes", consumers.ErrPoison, len(name))
	}
	return nil
}

// find returns a counter, from the store where it is not in memory.
func (m *machine) find(ctx context.Context, name []byte) (*hot, error) {
	if h := m.rollup.find(name); h != nil {
		return h, nil
	}
	var row [1]Row
	var found [1]bool
	if err := m.a.cfg.Store.Counters(ctx, m.p, [][]byte{name}, row[:], found[:]); err != nil {
		return nil, fmt.Errorf("read counter: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rollup.load(name, row[0], found[0]), nil
}

// expire ends the leases that are due.
func (m *machine) expire(ctx context.Context, logTime int64) error {
	for m.rollup.leases.due(logTime) {
		v := m.firstLease()
		if v == nil || v.ExpiresAt > logTime {
			return nil
		}
		if _, err := m.find(ctx, v.Counter); err != nil {
			return err
		}
		m.mu.Lock()
		m.rollup.expireOne(v)
		m.mu.Unlock()
	}
	return nil
}

// firstLease is leases.first, which takes out what has ended and so must not meet
// a reader.
func (m *machine) firstLease() *Reservation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rollup.leases.first()
}

// single applies a call that is not OpAdd. consumers.ErrPoison says that it can
// never be applied; any other error that the store could not be asked, and
// nothing has changed.
func (m *machine) single(ctx context.Context, c *Call, pl *place) error {
	r := pl.run
	if err := checkName(c.Add.Counter); err != nil {
		return err
	}
	tok, hash := r.Record.Token, r.Record.RequestHash
	if tok.IsZero() {
		return fmt.Errorf("%w: a call without a token", consumers.ErrPoison)
	}
	id := wal.IDOf(c.Add.Counter, tok.Nonce)
	if v, err := r.Judge(ctx, 0, c.Add.Counter, tok, id, hash, pl.window()); err != nil || v != consumers.Fresh {
		return err
	}
	h, err := m.find(ctx, c.Add.Counter)
	if err != nil {
		return err
	}
	var held *Reservation
	if c.Op == OpSettle || c.Op == OpCancel {
		if held, err = m.reservation(ctx, c.Reservation); err != nil {
			return err
		}
	}
	e := pl.applied(id, tok, hash)
	if r.Follows() {
		if d := r.Decision(0, answered); d != nil {
			if err := decodeAnswer(d.Data, e); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Changed()
	life := h.row.ID
	rl := m.rollup
	if !r.Follows() {
		rl.decide(h, held, c, &pl.at, e)
	}
	ends := c.Op == OpSettle || c.Op == OpCancel
	switch {
	case r.Omitted(tok.Nonce), ends && held == nil && r.Partial(): // it, or what it ends, was left out
	case e.Outcome == Applied:
		rl.effect(h, held, c, &pl.at, e)
		r.CountApplied(1)
	default:
		r.CountRefused(1)
	}
	if !r.Follows() {
		e.Value, e.Held = h.row.value(pl.logTime), h.row.Held
		if h.row.ID != life {
			r.Except(0, began, nil)
		}
		if c.Op != OpClear {
			r.Except(0, answered, appendAnswer(nil, e))
		}
	} else if c.Op == OpClear {
		e.Value, e.Held = h.row.value(pl.logTime), h.row.Held
	}
	m.remember(e, pl)
	return nil
}

// reservation returns a reservation in any state, nil when there is none.
func (m *machine) reservation(ctx context.Context, id wal.TokenID) (*Reservation, error) {
	if v, ok := m.rollup.reservation(id); ok {
		return &v, nil
	}
	v, ok, err := m.a.cfg.Store.Reservation(ctx, m.p, id)
	if err != nil || !ok {
		return nil, err
	}
	return &v, nil
}
