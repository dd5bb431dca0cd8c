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
// tokens and ended reservations from before the window, and events, which are
// folded into bases as f says. In the partition's goroutine. It looks at up to
// limit keys; more says that the round is not over.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, window time.Duration, f *Fold, limit int) (more bool, err error) {
	m, err := a.machine(p)
	if err != nil {
		return false, err
	}
	if err := m.wait(ctx); err != nil {
		return false, err
	}
	if m.rollup != nil && m.rollup.state.Applied < m.part.RepeatsTo() {
		return false, nil // rows may be above it
	}
	if m.broken || m.away != nil {
		return false, nil // the runner reads it back first, or a flush that waits has a state of its own
	}
	switch c := &m.cursor; c.stage {
	case sweepStore:
		err = m.sweepStore(ctx, window, limit)
	case sweepExpired:
		err = m.sweepExpired(ctx, limit)
	case sweepEvents:
		var done bool
		if done, err = m.fold(ctx, f, limit); err == nil && done {
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
		if (row.ExpiresAt != 0 || row.ID == 0) && !row.alive(r.state.LogTime) && row.Held == 0 {
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

// eventsAtOnce is how many events of another server are folded together: what they come to is
// one batch.
const eventsAtOnce = 200_000

// fold takes the oldest events into the bases of their counters.
func (m *machine) fold(ctx context.Context, f *Fold, limit int) (done bool, err error) {
	snap, err := m.a.cfg.Store.Snapshot(ctx, m.p)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := snap.Close(); err == nil {
			err = cerr
		}
	}()
	st, events := snap.State(), m.a.cfg.Events
	if events != nil {
		limit = eventsAtOnce
	}
	req := f.request(st.Folded, m.rollup.state.LogTime, limit)
	if req == nil {
		return true, nil
	}
	var got Folded
	if events == nil {
		got, err = foldRows(snap, req)
	} else {
		req.UpTo = min(req.UpTo, st.Applied)
		got, err = events.FoldEvents(ctx, m.p, req)
	}
	if err != nil || got.UpTo == wal.NoOffset {
		return true, err
	}
	st.Folded = got.UpTo
	b := m.a.cfg.Store.Begin(m.p)
	defer b.Abort()
	for _, id := range slices.Sorted(maps.Keys(got.Bases)) {
		b.AddBase(id, got.Bases[id])
	}
	if events == nil {
		b.DropEvents(st.Folded)
	}
	if err := b.Commit(ctx, st); err != nil {
		m.broken = true
		return false, err
	}
	m.mu.Lock()
	m.rollup.state.Folded = st.Folded
	m.mu.Unlock()
	if events == nil {
		return !got.More, nil
	}
	// A power cut must not lose the bases after the events are gone.
	if _, err := m.a.cfg.Store.Sync(ctx); err != nil {
		return false, err
	}
	return !got.More, events.DropEvents(ctx, m.p, st.Folded)
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
