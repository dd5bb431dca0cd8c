package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

func timeOf(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// reachesBack refuses where the log does not hold every record of the namespace from
// some offsets on, nil for the first ones, with every exception that there was, and names
// what is missing.
func (x *space) reachesBack(ctx context.Context, from []wal.Offset) error {
	for p := range wal.Partition(len(x.serving)) {
		b, err := x.log.Bounds(ctx, p)
		if err != nil {
			return fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		st, err := x.primary().ledger.State(ctx, p)
		if err != nil {
			return err
		}
		first := wal.Offset(0)
		if from != nil {
			first = from[p]
		}
		if missing := max(b.Start, st.FirstException); missing > first {
			return apierrors.New(apierrors.LogTooShort, "the log of namespace %s no longer has records %d to %d of partition %d, or what was decided of them, so no store can be made from it",
				x.ns.Name, first, missing-1, p)
		}
	}
	return nil
}

// rebuild makes a store from the log alone beside the PRIMARY. It is compared when it
// has caught up, and promoted where the two are equal. It returns the job that waits
// for it: after a restart another takes its place, see resumeRebuilds.
func (x *space) rebuild(ctx context.Context, left *namespace.LeftOut) (string, error) {
	name, err := x.s.names.BeginRebuild(ctx, x.ns.Name, left, "rebuild")
	if errors.Is(err, namespace.ErrRebuilding) {
		return "", apierrors.Wrap(apierrors.StoreNotReady, err, "another rebuild of namespace %s, which leaves out something else, has not been promoted or dropped; see headwater store list %s", x.ns.Name, x.ns.Name)
	}
	if err != nil {
		return "", err
	}
	x.changedStores()
	return x.awaitRebuild(name).id, nil
}

// resumeRebuilds has a job wait for each store that is being rebuilt.
func (x *space) resumeRebuilds(e *namespace.Entry) {
	for _, l := range e.Stores {
		if l.Rebuild && !l.Waits() && l.State != namespace.Failed {
			x.awaitRebuild(l.Name)
		}
	}
}

// awaitRebuild is the job that waits until a new store is compared, and promotes it.
func (x *space) awaitRebuild(name string) *job {
	return x.s.jobs.run(jobRebuild, x, name, func(ctx context.Context, j *job) (string, error) {
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for {
			if end, err := x.stepRebuild(ctx, j, name); end != "" || err != nil {
				return end, err
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	})
}

// stepRebuild looks how far a rebuild is. It returns how it ended, once it has.
func (x *space) stepRebuild(ctx context.Context, j *job, name string) (string, error) {
	e, l, err := x.again(name)
	if err != nil {
		return "", err
	}
	m := x.toAPI(e, l)
	j.done.Store(m.GetItemsDone())
	j.total.Store(m.GetItemsTotal())
	switch {
	case l.State == namespace.Failed:
		return "", fmt.Errorf("store %s has failed: %s", name, l.Message)
	case l.State == namespace.Serving:
		return fmt.Sprintf("store %s serves", name), nil
	case l.State == namespace.Building || l.Compared == nil:
		return "", nil
	case l.Waits():
		return fmt.Sprintf("store %s has %d differences in %d items and waits; see headwater store list, and promote it, with --accept-differences where there are any, if it is right",
			name, l.Compared.Differences, l.Compared.Items), nil
	}
	end := ""
	err = x.step(ctx, name, func(_ *namespace.Entry, l namespace.StoreLife) error {
		if l.State != namespace.Comparing {
			return nil // it is looked at again
		}
		st, err := x.caughtUp(l)
		if err != nil {
			return err
		}
		end = fmt.Sprintf("%d items are equal, and store %s serves; the former PRIMARY is RETIRING", l.Compared.Items, name)
		return x.exchange(ctx, st, namespace.Retiring, "rebuild")
	})
	return end, err
}
