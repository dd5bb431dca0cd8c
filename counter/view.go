package counter

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// view reads counters of a partition as of one position, at or above shown. See
// Owner.Counts.
func (a *Applier) view(ctx context.Context, p wal.Partition, names []string, now int64, shown wal.Offset, out []Amount) (State, error) {
	m, err := a.machine(p)
	if err != nil {
		return State{}, err
	}
	for {
		st, missing, err := m.look(names, now, shown, out)
		if err != nil || len(missing) == 0 {
			return st, err
		}
		keys := make([][]byte, len(missing))
		for i, at := range missing {
			keys[i] = []byte(names[at])
		}
		rows, found := make([]Row, len(keys)), make([]bool, len(keys))
		if err := a.cfg.Store.Counters(ctx, p, keys, rows, found); err != nil {
			return State{}, fmt.Errorf("read counters of partition %d: %w", p, err)
		}
		newer := false
		m.mu.RLock()
		for i, at := range missing {
			switch {
			case !found[i]:
				out[at] = Amount{}
			case rows[i].LastOffset > st.Applied:
				newer = true // it was changed, flushed and evicted since the look
			default:
				out[at].Value, out[at].Held = m.rollup.look(&rows[i], keys[i], now)
			}
		}
		m.mu.RUnlock()
		if !newer {
			return st, nil
		}
	}
}

// look reads what is in memory and returns the places of what is not.
func (m *machine) look(names []string, now int64, shown wal.Offset, out []Amount) (State, []int, error) {
	var missing []int
	m.mu.RLock()
	defer m.mu.RUnlock()
	st := m.rollup.state
	if st.Applied < max(shown, m.part.RepeatsTo()) {
		return st, nil, ErrReloading
	}
	for i, n := range names {
		h := m.rollup.find([]byte(n))
		if h == nil {
			missing = append(missing, i)
			continue
		}
		out[i].Value, out[i].Held = m.rollup.look(&h.row, []byte(n), now)
	}
	return st, missing, nil
}

// Known returns what a token did, saved or not. Any goroutine.
func (a *Applier) Known(ctx context.Context, p wal.Partition, id wal.TokenID) (TokenEntry, bool, error) {
	m, err := a.machine(p)
	if err != nil {
		return TokenEntry{}, false, err
	}
	m.mu.RLock()
	e, ok := m.rollup.token(id)
	m.mu.RUnlock()
	if ok {
		return e, true, nil
	}
	// A flush that landed meanwhile has it in the store by now.
	return a.cfg.Store.Token(ctx, p, id)
}

// flushing begins a flush of what is applied and not saved, in the partition's
// goroutine. It returns the position that must be saved, and a channel to wait
// on before asking again; nil when it is saved.
func (a *Applier) flushing(ctx context.Context, p wal.Partition, target *wal.Offset) (<-chan struct{}, error) {
	m, err := a.machine(p)
	if err != nil {
		return nil, err
	}
	if *target == wal.NoOffset {
		*target = m.rollup.state.Applied
	}
	if m.part.SavedOffset() >= *target {
		return nil, nil
	}
	if m.broken || m.part.Unsettled() {
		return nil, ErrReloading
	}
	if err := a.Flush(ctx, p); err != nil {
		return nil, err
	}
	if m.underWay == nil {
		return nil, nil
	}
	return m.underWay.done, nil
}

// correctHeld takes off what is held by leases that have ended and that no record
// has ended yet.
func (a *Applier) correctHeld(p wal.Partition, list []Listed, t int64) error {
	m, err := a.machine(p)
	if err != nil {
		return err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range list {
		if c := &list[i]; c.Held != 0 {
			c.Held = max(0, c.Held-m.rollup.leases.overdue(string(c.Name), t))
		}
	}
	return nil
}
