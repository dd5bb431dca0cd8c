package counter

import (
	"context"
	"fmt"
	"sync"

	"github.com/headwater-db/headwater/wal"
)

// seen is a counter's value as a reader sees it.
type seen struct{ value, held int64 }

// view reads counters of a partition as of one position, which it returns. now
// is what expiry is judged by. ErrReloading while what is in memory is behind
// what readers have seen.
func (a *Applier) view(ctx context.Context, p wal.Partition, names []string, now int64, out []seen) (State, error) {
	pa := a.parts[p]
	for {
		st, missing, err := pa.look(names, now, out)
		if err != nil || len(missing) == 0 {
			return st, err
		}
		keys := make([][]byte, len(missing))
		for i, m := range missing {
			keys[i] = []byte(names[m])
		}
		rows, found := make([]Row, len(keys)), make([]bool, len(keys))
		if err := a.cfg.Store.Counters(ctx, p, keys, rows, found); err != nil {
			return State{}, fmt.Errorf("read counters of partition %d: %w", p, err)
		}
		newer := false
		pa.mu.RLock()
		for i, m := range missing {
			switch {
			case !found[i]:
				out[m] = seen{}
			case rows[i].LastOffset > st.Applied:
				newer = true // it was changed, flushed and evicted since the look
			default:
				out[m].value, out[m].held = pa.rollup.look(&rows[i], keys[i], now)
			}
		}
		pa.mu.RUnlock()
		if !newer {
			return st, nil
		}
	}
}

// look reads what is in memory and returns the places of what is not.
func (pa *partApplier) look(names []string, now int64, out []seen) (State, []int, error) {
	var missing []int
	pa.mu.RLock()
	defer pa.mu.RUnlock()
	st := pa.rollup.state
	if st.Applied < pa.a.cfg.Progress.Applied(pa.p) {
		return st, nil, ErrReloading
	}
	for i, n := range names {
		h := pa.rollup.find([]byte(n))
		if h == nil {
			missing = append(missing, i)
			continue
		}
		out[i].value, out[i].held = pa.rollup.look(&h.row, []byte(n), now)
	}
	return st, missing, nil
}

// Token returns what the write of an identity did, saved or not.
func (a *Applier) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (TokenEntry, bool, error) {
	pa := a.parts[p]
	pa.mu.RLock()
	e, ok := pa.rollup.token(id)
	pa.mu.RUnlock()
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
	pa := a.parts[p]
	if *target == wal.NoOffset {
		*target = pa.rollup.state.Applied
	}
	if pa.saved.Applied() >= *target {
		return nil, nil
	}
	if pa.broken || pa.parking.Owes() {
		return nil, ErrReloading
	}
	if err := a.Flush(ctx, p); err != nil {
		return nil, err
	}
	if pa.flight == nil {
		return nil, nil
	}
	return pa.flight.done, nil
}

// saveAll returns once everything applied to p before the call is in the store.
func (db *DB) saveAll(ctx context.Context, p wal.Partition) error {
	target := wal.NoOffset
	for {
		var done <-chan struct{}
		err := db.cfg.Do(ctx, p, func(ctx context.Context) (err error) {
			done, err = db.cfg.Applier.flushing(ctx, p, &target)
			return err
		})
		if err != nil || done == nil {
			return err
		}
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("wait for the store: %w", ctx.Err())
		}
	}
}

// saveAllOf is saveAll of several partitions, side by side.
func (db *DB) saveAllOf(ctx context.Context, parts []wal.Partition) error {
	return each(parts, func(p wal.Partition) error { return db.saveAll(ctx, p) })
}

// each calls f for every partition, side by side, and returns the first error.
func each(parts []wal.Partition, f func(wal.Partition) error) error {
	if len(parts) == 1 {
		return f(parts[0])
	}
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() { errs[i] = f(p) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
