package counter

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Owner is what a DB knows of the applier that holds its partitions. Answers are
// as of the State that comes with them.
type Owner interface {
	consumers.Owner[TokenEntry]
	// Counts reads counters of a partition as of one position: out[i] is names[i], 0
	// of one that does not exist. now is what expiry is judged by, microseconds since
	// 1970. ErrReloading while what is in memory is behind what readers have seen.
	Counts(ctx context.Context, p wal.Partition, names []string, now int64, out []Amount) (State, error)
	// List reads up to limit counters whose names have prefix and are above after
	// (nil: from the first), in byte order. It shows what was applied when it was
	// called.
	List(ctx context.Context, p wal.Partition, prefix, after []byte, limit int, now int64) ([]Listed, State, error)
	// Series sums the windows of a counter between edges, one sum less than edges.
	// It shows what was applied when it was called.
	Series(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64) ([]Bucket, State, error)
	// FineSeries is Series from the events, for edges that are no windows'. ErrNoEvents where nothing
	// has them apart, ErrEventsFolded.
	FineSeries(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64) ([]Bucket, State, error)
	// Recount counts a counter again from its events. It shows what was applied when
	// it was called.
	Recount(ctx context.Context, p wal.Partition, name []byte, now int64) (Recount, State, error)
}

// Amount is a counter's value as a reader sees it.
type Amount struct{ Value, Held int64 }

// Listed is a counter of a list.
type Listed struct {
	Name []byte
	Amount
}

// Recount is what a recount found; zeros of a counter that does not exist.
type Recount struct {
	Stored    Amount
	Recounted int64
	Events    int64 // counted again
}

// Replica is one store of a namespace, with the applier that writes it and knows what
// is parked.
type Replica struct {
	Store Store
	*Applier
	// Do runs f in the goroutine that applies p, between two batches; see
	// consumers.Runner.Do.
	Do func(ctx context.Context, p wal.Partition, f func(context.Context) error) error
	// Progress is that of the store.
	Progress *wal.Progress
}

// Token returns what a token did, whatever its age.
func (r *Replica) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (TokenEntry, bool, error) {
	e, known, err := r.Applier.Known(ctx, p, id)
	if err == nil && known && r.Applier.cfg.Ahead != nil { // else it may come to nothing
		err = r.Progress.Wait(ctx, p, e.Offset)
	}
	return e, known, err
}

// Local is the Owner of partitions whose appliers are in this process: reads go
// to the store that answers.
type Local struct {
	*consumers.Local[TokenEntry, *Replica]
	// events is the store of role EVENTS that recounts and series are answered from; nil: the
	// store that answers has its own events.
	events atomic.Pointer[Replica]
}

var _ Owner = (*Local)(nil)

// NewLocal returns an owner of partitions that r answers for; nil: that nothing
// answers for yet, see Set.
func NewLocal(progress *wal.Progress, r *Replica) *Local {
	l := &Local{Local: consumers.NewLocal[TokenEntry, *Replica](progress)}
	if r != nil {
		l.SetAll(r)
	}
	return l
}

// SetEvents has recounts answered from a store of role EVENTS; nil: from the one that answers.
func (l *Local) SetEvents(r *Replica) { l.events.Store(r) }

// Counts implements Owner.
func (l *Local) Counts(ctx context.Context, p wal.Partition, names []string, now int64, out []Amount) (State, error) {
	r, err := l.Of(p)
	if err != nil {
		return State{}, err
	}
	st, err := r.Applier.view(ctx, p, names, now, l.Progress.Applied(p), out)
	if err == nil && r.Applier.cfg.Ahead != nil { // what nobody may rely on yet was seen, perhaps
		err = l.Progress.Wait(ctx, p, st.Applied)
	}
	return st, err
}

// List implements Owner.
func (l *Local) List(ctx context.Context, p wal.Partition, prefix, after []byte, limit int, now int64) (list []Listed, st State, err error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, st, err
	}
	err = r.saved(ctx, p, func(snap Snapshot) error {
		st = snap.State()
		t := max(now, st.LogTime)
		err := snap.List(prefix, after, func(name []byte, row *Row) bool {
			if row.alive(t) {
				list = append(list, Listed{append([]byte(nil), name...), Amount{row.Value, row.Held}})
			}
			return len(list) < limit
		})
		if err != nil {
			return err
		}
		return r.Applier.correctHeld(p, list, t)
	})
	return list, st, err
}

// Series implements Owner.
func (l *Local) Series(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64) (sums []Bucket, st State, err error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, st, err
	}
	sums = make([]Bucket, len(edges)-1)
	err = r.saved(ctx, p, func(snap Snapshot) error {
		st = snap.State()
		row, ok, err := snap.Counter(name)
		if err != nil || !ok || !row.alive(max(now, st.LogTime)) {
			return err
		}
		windows := r.Applier.cfg.Windows
		rd := seriesReader{snap: snap, row: &row, windows: windows}
		for i := range sums {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := rd.sum(&sums[i], edges[i], edges[i+1], len(windows)-1); err != nil {
				return err
			}
		}
		return nil
	})
	return sums, st, err
}

// Recount implements Owner. Its cost is that of the counter's own events.
func (l *Local) Recount(ctx context.Context, p wal.Partition, name []byte, now int64) (c Recount, st State, err error) {
	var row Row
	st, err = l.row(ctx, p, name, now, func(snap Snapshot, r *Row) (err error) {
		c.Recounted, c.Events, err = recountIn(ctx, snap, r)
		row = *r
		return err
	}, func(events *Replica, r *Row, upTo wal.Offset) (err error) {
		c.Recounted, c.Events, err = events.recount(ctx, p, r, upTo)
		row = *r
		return err
	})
	c.Stored = Amount{row.Value, row.Held}
	return c, st, err
}

// FineSeries implements Owner.
func (l *Local) FineSeries(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64) (sums []Bucket, st State, err error) {
	sums = make([]Bucket, len(edges)-1)
	st, err = l.row(ctx, p, name, now, func(Snapshot, *Row) error { return ErrNoEvents },
		func(events *Replica, r *Row, upTo wal.Offset) error {
			clear(sums)
			return events.sumBetween(ctx, p, r, upTo, edges, sums)
		})
	return sums, st, err
}

// row finds a counter that exists, and calls here with the snapshot that it is in; or, where its
// events are in another place, there, once more while errFolded says that the row is older than what
// is folded. Neither is called for a counter that does not exist.
func (l *Local) row(ctx context.Context, p wal.Partition, name []byte, now int64, here func(Snapshot, *Row) error,
	there func(events *Replica, r *Row, upTo wal.Offset) error) (st State, err error) {
	r, err := l.Of(p)
	if err != nil {
		return st, err
	}
	events := l.events.Load()
	if events == nil && r.Applier.cfg.Events != nil {
		events = r
	}
	for {
		var row Row
		exists := false
		err = r.saved(ctx, p, func(snap Snapshot) (err error) {
			st = snap.State()
			if row, exists, err = snap.Counter(name); err != nil || !exists {
				return err
			}
			if exists = row.alive(max(now, st.LogTime)); exists && events == nil {
				return here(snap, &row)
			}
			return nil
		})
		if err != nil || !exists || events == nil {
			return st, err
		}
		if err = there(events, &row, st.Applied); !errors.Is(err, errFolded) {
			return st, err
		}
	}
}

// saved calls f with a snapshot of a partition that has everything that was applied
// when saved was called.
func (r *Replica) saved(ctx context.Context, p wal.Partition, f func(Snapshot) error) (err error) {
	if q := r.Part(p); q != nil && q.SavedOffset() < q.RepeatsTo() { // it is behind what readers have seen
		if err := r.Progress.Wait(ctx, p, q.RepeatsTo()); err != nil {
			return err
		}
	}
	if err := r.SaveAll(ctx, p); err != nil {
		return err
	}
	snap, err := r.Store.Snapshot(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return f(snap)
}

// SaveAll returns once everything applied to p before the call is in the store.
func (r *Replica) SaveAll(ctx context.Context, p wal.Partition) error {
	target := wal.NoOffset
	for {
		var done <-chan struct{}
		err := r.Do(ctx, p, func(ctx context.Context) (err error) {
			done, err = r.Applier.flushing(ctx, p, &target)
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
