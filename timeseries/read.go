package timeseries

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// MaxSlices is how many slices of a partition a read looks at, at most.
const MaxSlices = 10_000

// Read reads a page of one series. q.Partition, q.Open and q.Deadline are filled in. It
// waits until the store is as fresh as point asks: *wal.BehindError when that takes longer
// than ctx allows, *consumers.ParkedError when the series is parked and the read asked for
// more than EVENTUAL, ErrAcrossTime.
func (db *DB) Read(ctx context.Context, q *Query, point *wal.ReadPoint) (*Page, wal.Seen, error) {
	q.Partition = db.Stream.PartitionOf(q.Series)
	barrier := db.barrier(point)
	if err := db.Stream.WaitRead(ctx, q.Partition, point); err != nil {
		return nil, wal.Seen{}, err
	}
	if point.Consistency != wal.Eventual || len(point.After.Offsets) > 0 {
		if err := db.ParkedErr(ctx, q.Partition, q.Series); err != nil {
			return nil, wal.Seen{}, err
		}
	}
	q.Open = db.open(q.Partition)
	q.Deadline = db.early(ctx)
	seen := db.Stream.Seen(q.Partition, barrier)
	page, err := db.cfg.Owner.Read(ctx, q)
	if err == nil && page.Wide {
		db.wide.Add(1)
		if db.cfg.Wide != nil {
			db.cfg.Wide(page.WideBuckets)
		}
	}
	return page, seen, err
}

// open are the slices that are read now.
func (db *DB) open(p wal.Partition) OpenSlices {
	return db.cfg.Options().OpenAt(db.ReadTime(p))
}

// barrier is the time of a read that begins now and waits for a barrier, 0 of one that
// does not; see wal.Stream.Seen.
func (db *DB) barrier(point *wal.ReadPoint) int64 {
	if point.Consistency != wal.Latest {
		return 0
	}
	return db.Now().UnixMicro()
}

// early is when a page is cut so that it arrives before the caller's deadline and within
// the namespace's objective: a fifth of the time that is left is kept for the way back.
func (db *DB) early(ctx context.Context) time.Time {
	left := db.cfg.Options().ReadMax
	if d, ok := ctx.Deadline(); ok && (left == 0 || time.Until(d) < left) {
		left = time.Until(d)
	}
	if left == 0 {
		return time.Time{}
	}
	return time.Now().Add(left * 4 / 5)
}

// Search reads a page of events over all series, newest first unless q.Oldest.
// q.Partition, q.Open and q.Deadline are filled in. seen is what it saw, partition by
// partition. Errors as of Read, but for parked series, whose events lack what waits.
func (db *DB) Search(ctx context.Context, q *SearchQuery, point *wal.ReadPoint) (*Found, []wal.Seen, error) {
	barrier := db.barrier(point)
	n := wal.Partition(db.Stream.Info().Partitions)
	for p := range n {
		if err := db.Stream.WaitRead(ctx, p, point); err != nil {
			return nil, nil, err
		}
	}
	q.Deadline = db.early(ctx)
	var seen []wal.Seen
	all := &Found{}
	// next is the first of the places at which a partition's page ended: what comes behind
	// it may be missing here.
	var next *Place
	before := func(a, b *Place) bool {
		c := a.Compare(b)
		return q.Oldest && c > 0 || !q.Oldest && c < 0
	}
	found := make([]*Found, n)
	for p := range n {
		seen = append(seen, db.Stream.Seen(p, barrier))
	}
	err := inParallel(ctx, 2*runtime.GOMAXPROCS(0), int(n), func(ctx context.Context, _, p int) (err error) {
		one := *q
		one.Partition, one.Open = wal.Partition(p), db.open(wal.Partition(p))
		found[p], err = db.cfg.Owner.Search(ctx, &one)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, f := range found {
		all.Events = append(all.Events, f.Events...)
		for _, k := range f.Keys {
			all.Indexed(k)
		}
		all.Slices, all.Scanned, all.Partial = all.Slices+f.Slices, all.Scanned+f.Scanned, all.Partial || f.Partial
		if f.Next != nil && (next == nil || before(f.Next, next)) {
			next = f.Next
		}
	}
	slices.SortFunc(all.Events, func(a, b Event) int {
		c := PlaceOf(&a).Compare(PlaceOf(&b))
		if q.Oldest {
			return -c
		}
		return c
	})
	if next != nil {
		all.Events = slices.DeleteFunc(all.Events, func(e Event) bool { return before(next, PlaceOf(&e)) })
	}
	all.Next = next
	if len(all.Events) > q.Limit {
		all.Events = all.Events[:q.Limit]
		all.Next = PlaceOf(&all.Events[q.Limit-1])
	}
	return all, seen, nil
}

// List reads series by name over all partitions. q.Partition and q.Open are filled in.
// more says that there may be others. seen is what it saw, partition by partition.
func (db *DB) List(ctx context.Context, q ListQuery, point *wal.ReadPoint) (list []Series, more bool, seen []wal.Seen, err error) {
	barrier := db.barrier(point)
	for p := range wal.Partition(db.Stream.Info().Partitions) {
		if err := db.Stream.WaitRead(ctx, p, point); err != nil {
			return nil, false, nil, err
		}
	}
	for p := range wal.Partition(db.Stream.Info().Partitions) {
		q.Partition, q.Open = p, db.open(p)
		seen = append(seen, db.Stream.Seen(p, barrier))
		one, left, err := db.cfg.Owner.List(ctx, &q)
		if err != nil {
			return nil, false, nil, err
		}
		list, more = append(list, one...), more || left
	}
	slices.SortFunc(list, func(a, b Series) int { return bytes.Compare(a.Name, b.Name) })
	if len(list) > q.Limit {
		list, more = list[:q.Limit], true
	}
	return list, more, seen, nil
}
