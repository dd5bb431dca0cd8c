package timeseries

import (
	"bytes"
	"context"
	"runtime"
	"slices"

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
		if err := db.ParkedErr(ctx, parts[0], q.Series); err != nil {
			return nil, nil, err
		}
	}
	q.Keys = spec.keys(q.Where)
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

// keys are the items that a request looks at, in order.
func (s *GroupSpec) keys(where *Condition) [][]byte {
	keys := where.keys(make([][]byte, 0, 4))
	for _, k := range s.By {
		if string(k) != SeriesKey {
			keys = append(keys, k)
		}
	}
	for i := range s.Aggregations {
		if k := s.Aggregations[i].Key; len(k) > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// keys appends those of a condition.
func (c *Condition) keys(dst [][]byte) [][]byte {
	if c == nil {
		return dst
	}
	for i := range c.Kids {
		dst = c.Kids[i].keys(dst)
	}
	switch c.Op {
	case Equals, Range, Prefix, Exists:
		return append(dst, c.Key)
	case And, Or, Not:
	}
	return dst
}

// aggregate looks at parts of the partitions, several at once; each worker has groups of its
// own.
func (db *DB) aggregate(ctx context.Context, q *AggregateQuery, spec *GroupSpec, parts []wal.Partition) (*Groups, error) {
	units, err := db.units(ctx, q, parts)
	if err != nil {
		return nil, err
	}
	all := make([]*Groups, min(len(units), runtime.GOMAXPROCS(0)))
	for i := range all {
		all[i] = NewGroups(spec)
	}
	err = inParallel(ctx, len(all), len(units), func(ctx context.Context, worker, i int) error {
		return db.cfg.Owner.Aggregate(ctx, &units[i], all[worker])
	})
	if err != nil {
		return nil, err
	}
	for _, g := range all[1:] {
		if err := all[0].Merge(g); err != nil {
			return nil, err
		}
	}
	return all[0], nil
}

// units cuts a query into those of a partition and a part of the interval. They end between slices,
// and where it is of one series, between the event buckets of its slices too: a namespace of one
// large series, and a large series of one slice, use all processors.
func (db *DB) units(ctx context.Context, q *AggregateQuery, parts []wal.Partition) (units []AggregateQuery, err error) {
	for _, p := range parts {
		all, err := db.cfg.Owner.Slices(ctx, p)
		if err != nil {
			return nil, err
		}
		if all = all.Overlapping(q.Start, q.End); len(all) > MaxSlices {
			return nil, ErrAcrossTime
		}
		one := *q
		one.Partition, one.Open = p, db.open(p)
		cuts := all.cuts(q.Start, q.End, q.Series != nil)
		n := min(len(cuts)+1, 2*runtime.GOMAXPROCS(0))
		for i := range n {
			if one.End = q.End; i+1 < n {
				one.End = cuts[(i+1)*(len(cuts)+1)/n-1]
			}
			units = append(units, one)
			one.Start = one.End
		}
	}
	return units, nil
}

// cuts are the times between start and end, in order, at which a query may be cut: where slices begin
// and, within them, where their event buckets do.
func (s Slices) cuts(start, end int64, buckets bool) (cuts []int64) {
	for i := range s {
		x, n := &s[i], int64(1)
		if buckets {
			n = min(max(1, int64(x.EventBuckets)), x.End-x.Start)
		}
		for b := range n {
			at := x.Start + (x.End-x.Start)/n*b
			if at > start && at < end {
				cuts = append(cuts, at)
			}
		}
	}
	return cuts
}
