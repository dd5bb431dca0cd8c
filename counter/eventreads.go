package counter

import (
	"context"
	"errors"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// recountIn counts a row again from the events of the snapshot that it is of.
func recountIn(ctx context.Context, snap Snapshot, row *Row) (sum, events int64, err error) {
	base, err := snap.Base(row.ID)
	if err != nil {
		return 0, 0, err
	}
	after, err := recount(ctx, snap, row.ID, row.LastEvent)
	base.Merge(after)
	return base.Sum, after.Events, err
}

// errFolded: events were folded while they were summed.
var errFolded = errors.New("counter: events are being folded")

// recount counts a row of another store again, which is as of upTo, once this one has the last
// event of the row. errFolded says that the caller has to look again.
func (r *Replica) recount(ctx context.Context, p wal.Partition, row *Row, upTo wal.Offset) (sum, events int64, err error) {
	err = r.withEvents(ctx, p, row, upTo, func(snap Snapshot, base Base) error {
		if r.Applier.cfg.Events == nil {
			sum, events, err = recountIn(ctx, snap, row)
			return err
		}
		after := Base{}
		folded := snap.State().Folded
		if row.LastEvent > folded {
			if after, err = r.Applier.cfg.Events.SumEvents(ctx, p, row.ID, folded, row.LastEvent); err != nil {
				return err
			}
			if err := r.stillFolded(ctx, p, folded); err != nil {
				return err
			}
			if after.Events == 0 {
				return &MissingEventsError{Offset: row.LastEvent}
			}
		}
		base.Merge(after)
		sum, events = base.Sum, after.Events
		return nil
	})
	return sum, events, err
}

// sumBetween adds the events of a row of another store, see recount, to the sums between edges.
func (r *Replica) sumBetween(ctx context.Context, p wal.Partition, row *Row, upTo wal.Offset, edges []int64, sums []Bucket) error {
	return r.withEvents(ctx, p, row, upTo, func(snap Snapshot, base Base) error {
		if base.Events > 0 {
			return ErrEventsFolded
		}
		from, to := edges[0], edges[len(edges)-1]
		if from >= to {
			return nil
		}
		add := func(t int64, b Bucket) {
			if t >= from && t < to {
				i, _ := slices.BinarySearch(edges, t+1)
				sums[i-1].Merge(b)
			}
		}
		events, folded := r.Applier.cfg.Events, snap.State().Folded
		if events == nil {
			return eachEvent(ctx, snap, row, func(e *Event) {
				var b Bucket
				b.Add(e.Delta)
				add(e.Time, b)
			})
		}
		size := int64(0) // that all edges are multiples of
		for _, e := range edges {
			size = gcd(size, e)
		}
		if size == 0 {
			return nil
		}
		req := &BucketRequest{ID: row.ID, After: folded, UpTo: row.LastEvent, From: from, To: to, Size: size}
		if err := events.BucketEvents(ctx, p, req, add); err != nil {
			return err
		}
		return r.stillFolded(ctx, p, folded)
	})
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// withEvents calls f with a snapshot that has the events of a row of another store, as of upTo, and
// the base of its life.
func (r *Replica) withEvents(ctx context.Context, p wal.Partition, row *Row, upTo wal.Offset, f func(Snapshot, Base) error) (err error) {
	if err := r.has(ctx, p, row.LastEvent); err != nil {
		return err
	}
	snap, err := r.Store.Snapshot(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if snap.State().Folded > upTo {
		return errFolded
	}
	base, err := snap.Base(row.ID)
	if err != nil {
		return err
	}
	return f(snap, base)
}

// has returns when the store has saved p up to o, with the events.
func (r *Replica) has(ctx context.Context, p wal.Partition, o wal.Offset) error {
	if part := r.Applier.Part(p); part != nil && part.SavedOffset() >= o {
		return nil
	}
	if err := r.Progress.Wait(ctx, p, o); err != nil {
		return err
	}
	return r.SaveAll(ctx, p)
}

// stillFolded is errFolded where a partition has folded more than up to o.
func (r *Replica) stillFolded(ctx context.Context, p wal.Partition, o wal.Offset) error {
	st, err := r.Store.Saved(ctx, p)
	if err == nil && st.Folded != o {
		err = errFolded
	}
	return err
}
