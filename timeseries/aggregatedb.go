package timeseries

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// Aggregate works out the groups of the events that meet q, over all partitions or over
// that of q.Series. q.Partition and q.Open are filled in. The answer is of every event or
// there is none: ErrTooManyGroups, ErrGroupMemory, ctx.Err(), *consumers.ParkedError when
// q.Series is parked and the read asked for more than EVENTUAL, and as of Read. The keys of
// other series that are parked lack what waits. seen is what it saw, partition by partition.
func (db *DB) Aggregate(ctx context.Context, q *AggregateQuery, spec *GroupSpec, point *wal.ReadPoint) (*Groups, []wal.Seen, error) {
	barrier := db.barrier(point)
	var parts []wal.Partition
	if q.Series != nil {
		parts = append(parts, db.Stream.PartitionOf(q.Series))
	} else {
		for p := range wal.Partition(db.Stream.Info().Partitions) {
			parts = append(parts, p)
		}
	}
	for _, p := range parts {
		if err := db.Stream.WaitRead(ctx, p, point); err != nil {
			return nil, nil, err
		}
	}
	if q.Series != nil && (point.Consistency != wal.Eventual || len(point.After.Offsets) > 0) {
		if err := db.ParkedErr(parts[0], q.Series); err != nil {
			return nil, nil, err
		}
	}
	seen := make([]wal.Seen, len(parts))
	for i, p := range parts {
		seen[i] = db.Stream.Seen(p, barrier)
	}
	groups, err := db.aggregate(ctx, q, spec, parts)
	if err != nil {
		return nil, nil, err
	}
	return groups, seen, nil
}

// aggregate looks at the partitions, several at once; each worker has groups of its own.
func (db *DB) aggregate(ctx context.Context, q *AggregateQuery, spec *GroupSpec, parts []wal.Partition) (*Groups, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan wal.Partition, len(parts))
	for _, p := range parts {
		work <- p
	}
	close(work)
	all := make([]*Groups, min(len(parts), runtime.GOMAXPROCS(0)))
	var (
		wg     sync.WaitGroup
		broken atomic.Pointer[string]
	)
	for i := range all {
		all[i] = NewGroups(spec)
		wg.Go(func() {
			defer func() {
				if x := recover(); x != nil {
					broken.Store(new(fmt.Sprintf("%v\n%s", x, debug.Stack())))
				}
			}()
			for p := range work {
				if err := db.aggregatePart(ctx, q, p, all[i]); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if broken := broken.Load(); broken != nil {
		panic(*broken) // in the goroutine of the call, as where there is one partition
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for _, g := range all[1:] {
		if err := all[0].Merge(g); err != nil {
			return nil, err
		}
	}
	return all[0], nil
}

// aggregatePart looks at one partition.
func (db *DB) aggregatePart(ctx context.Context, q *AggregateQuery, p wal.Partition, into *Groups) error {
	one := *q
	one.Partition, one.Open = p, db.open(p)
	return db.cfg.Owner.Aggregate(ctx, &one, into)
}
