package counter

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// sweepCursor is where a round of Sweep goes on.
type sweepCursor struct {
	stage stage
	store []byte // of Store.Sweep
	after []byte // name of the last counter looked at
	// expiring: this round has seen a counter that has a time to live in the store.
	expiring bool
}

type stage uint8

const (
	sweepStore stage = iota
	sweepExpired
	sweepEvents
)

// Sweep frees what nobody can see any more, by log time: expired counters,
// tokens and ended reservations from before the window, events older than
// eventRetention (0: kept for ever), which are folded into bases. In the
// partition's goroutine. It looks at up to limit keys; more says that the round
// is not over.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, window, eventRetention time.Duration, limit int) (more bool, err error) {
	m, err := a.machine(p)
	if err != nil {
		return false, err
	}
	if err := m.wait(ctx); err != nil {
		return false, err
	}
	if m.broken {
		return false, nil // the runner reads it back first
	}
	switch c := &m.cursor; c.stage {
	case sweepStore:
		err = m.sweepStore(ctx, window, limit)
	case sweepExpired:
		err = m.sweepExpired(ctx, limit)
	case sweepEvents:
		var done bool
		if done, err = m.fold(ctx, eventRetention, limit); err == nil && done {
			*c = sweepCursor{}
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("sweep partition %d: %w", p, err)
	}
	return true, nil
}

func (m *machine) sweepStore(ctx context.Context, window time.Duration, limit int) error {
	req := SweepRequest{Partition: m.p, Horizon: m.rollup.state.LogTime - window.Microseconds(), Limit: limit, Cursor: m.cursor.store}
	if m.part.Parking().Len() > 0 {
		req.Horizon = 0 // a parked call may be older than anything
	}
	res, err := m.a.cfg.Store.Sweep(ctx, &req)
	if err != nil {
		return err
	}
	if m.cursor.store = res.Cursor; res.Cursor == nil {
		m.cursor.stage = sweepExpired
	}
	return nil
}

// sweepExpired drops counters that have expired. The next flush frees them.
func (m *machine) sweepExpired(ctx context.Context, limit int) (err error) {
	c, r := &m.cursor, m.rollup
	if !r.state.Expiring {
		c.stage = sweepEvents
		return nil
	}
	snap, err := m.a.cfg.Store.Snapshot(ctx, m.p)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := snap.Close(); err == nil {
			err = cerr
		}
	}()
	if c.after == nil {
		r.expiring = len(r.dirty) > 0 // what is not in the store yet may be flushed behind the cursor
	}
	var due [][]byte
	n := 0
	err = snap.List(nil, c.after, func(name []byte, row *Row) bool {
		n++
		c.after = append(c.after[:0], name...)
		c.expiring = c.expiring || row.ExpiresAt != 0
		if row.ExpiresAt != 0 && !row.alive(r.state.LogTime) && row.Held == 0 {
			due = append(due, append([]byte(nil), name...))
		}
		return n < limit
	})
	if err != nil {
		return err
	}
	for _, name := range due {
		h, err := m.find(ctx, name)
		if err != nil {
			return err
		}
		m.mu.Lock()
		r.drop(h, r.state.LogTime)
		m.mu.Unlock()
	}
	if n < limit {
		if !c.expiring && !r.expiring {
			m.mu.Lock()
			r.state.Expiring = false // until a counter gets a time to live again
			m.mu.Unlock()
		}
		c.stage, c.after, c.expiring = sweepEvents, nil, false
	}
	return nil
}

// fold takes the oldest event rows into the bases of their counters.
func (m *machine) fold(ctx context.Context, retention time.Duration, limit int) (done bool, err error) {
	if retention == 0 {
		return true, nil
	}
	r := m.rollup
	snap, err := m.a.cfg.Store.Snapshot(ctx, m.p)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := snap.Close(); err == nil {
			err = cerr
		}
	}()
	horizon := r.state.LogTime - retention.Microseconds()
	bases := make(map[uint64]Base)
	st := snap.State()
	rows, bytes := 0, 0
	var bad error
	err = snap.EventsFrom(st.Folded+1, func(o wal.Offset, row []byte) bool {
		rd, rerr := NewEventReader(o, row)
		if rerr != nil {
			bad = rerr
			return false
		}
		if rd.Row.LogTime >= horizon {
			done = true
			return false
		}
		if bad = foldRow(rd, bases); bad != nil {
			return false
		}
		st.Folded = o
		rows, bytes = rows+1, bytes+len(row)
		return rows < limit && bytes < 1<<20
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return false, err
	}
	if rows == 0 {
		return true, nil
	}
	b := m.a.cfg.Store.Begin(m.p)
	defer b.Abort()
	for _, id := range slices.Sorted(maps.Keys(bases)) {
		b.AddBase(id, bases[id])
	}
	b.DropEvents(st.Folded)
	if err := b.Commit(ctx, st); err != nil {
		m.broken = true
		return false, err
	}
	m.mu.Lock()
	r.state.Folded = st.Folded
	m.mu.Unlock()
	return done, nil
}

// foldRow adds the events of a row to the bases.
func foldRow(rd *EventReader, bases map[uint64]Base) error {
	var e Event
	for {
		ok, err := rd.Next(&e)
		if err != nil || !ok {
			return err
		}
		b := bases[e.ID]
		b.Merge(Base{Cleared: e.Kind == EventClear, Sum: e.Delta, Events: 1})
		bases[e.ID] = b
	}
}

// Due reports whether the log of p should be moved on by a tick: at log time now
// (microseconds since 1970) something is due that only a record can end. In the
// partition's goroutine.
func (a *Applier) Due(p wal.Partition, now int64, window time.Duration) bool {
	m, err := a.machine(p)
	if err != nil {
		return false
	}
	st := &m.rollup.state
	if m.broken {
		return true // the runner reads it back when there is something to apply
	}
	if m.rollup.leases.due(now) {
		if v := m.firstLease(); v != nil && v.ExpiresAt <= now {
			return true
		}
	}
	behind := time.Duration(now-st.LogTime) * time.Microsecond
	if st.Expiring && behind > time.Minute {
		return true
	}
	return behind > window+time.Minute && a.cfg.Store.LiveTokens(p) > 0
}
