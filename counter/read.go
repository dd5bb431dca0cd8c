package counter

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Get reads counters; counts[i] is that of names[i], 0 for one that was never
// added to. accuracy 0 is the namespace's. All counts of a partition are as of
// one position. Errors: *wal.BehindError when the accuracy, or after, cannot be
// reached in time; *ParkedError when a counter is parked and the read asked for
// more than the latest rollup; ErrNotAccurate; ErrReloading.
func (db *DB) Get(ctx context.Context, names []string, accuracy Accuracy, after wal.Position) (counts []Count, asOf AsOf, err error) {
	parts := db.spread(names)
	ps := make([]wal.Partition, len(parts))
	for i := range parts {
		ps[i] = parts[i].p
	}
	accuracy, barrier, err := db.waitRead(ctx, ps, accuracy, after)
	if err != nil {
		return nil, AsOf{}, err
	}
	if mustBeWhole(accuracy, after) {
		for i := range parts {
			if n, _ := db.Owner.ParkedKeys(parts[i].p); n == 0 {
				continue
			}
			for _, name := range parts[i].names {
				if err := db.ParkedErr(ctx, parts[i].p, []byte(name)); err != nil {
					return nil, AsOf{}, err
				}
			}
		}
	}
	now := db.Now().UnixMicro()
	counts = make([]Count, len(names))
	all := make([]wal.Seen, 0, len(parts))
	for i := range parts {
		q := &parts[i]
		before := db.look(q.p)
		out := make([]Amount, len(q.names))
		st, err := db.counts(ctx, q, now, out, mustBeWhole(accuracy, after))
		if err != nil {
			return nil, AsOf{}, err
		}
		seen := db.seen(q.p, &st, &before, barrier)
		one, pending := db.Stream.AsOf(seen), before.above(&st, accuracy)
		for j, place := range q.places {
			counts[place] = Count{Value: out[j].Value, Held: out[j].Held, Accuracy: accuracy, AsOf: one, Pending: pending}
		}
		all = append(all, seen)
	}
	return counts, db.Stream.AsOf(all...), nil
}

// counts asks the owner, and where that cannot tell reads what it has published, unless the read asks for more.
func (db *DB) counts(ctx context.Context, q *partNames, now int64, out []Amount, whole bool) (State, error) {
	st, err := db.cfg.Owner.Counts(ctx, q.p, q.names, now, out)
	if err == nil || whole || db.cfg.Published == nil || !errors.Is(err, consumers.ErrOwnerAway) {
		return st, err
	}
	st, published := db.cfg.Published(ctx, q.p, q.names, now, out)
	if published != nil {
		return st, errors.Join(err, published)
	}
	return st, nil
}

// before is what is known of a partition's log before a read of it.
type before struct {
	pending int64
	end     wal.LogEnd
}

func (db *DB) look(p wal.Partition) before {
	return before{db.Stream.Pending(p), db.Stream.Log().LastEnd(p)}
}

// above is how many records are known to be above the position of st. After a
// barrier the log's end is known to be at least where it was when the read began,
// and the number is exact for then.
func (b *before) above(st *State, accuracy Accuracy) int64 {
	if accuracy == Accurate {
		return max(0, int64(b.end.End-1-st.Applied))
	}
	return b.pending
}

// seen is what a read that found st has seen.
func (db *DB) seen(p wal.Partition, st *State, b *before, barrier int64) wal.Seen {
	return db.Stream.SeenAt(p, st.Applied, st.LogTime, b.end, barrier)
}

// partNames are the names of a read that lie in one partition.
type partNames struct {
	p      wal.Partition
	names  []string
	places []int
}

func (db *DB) spread(names []string) []partNames {
	n := db.Stream.Info().Partitions
	if len(names) == 1 {
		return []partNames{{p: wal.PartitionOfString(names[0], n), names: names, places: []int{0}}}
	}
	all := make([]partNames, n)
	for i, name := range names {
		q := &all[wal.PartitionOfString(name, n)]
		q.names, q.places = append(q.names, name), append(q.places, i)
	}
	used := all[:0]
	for i := range all {
		if all[i].p = wal.Partition(i); len(all[i].names) > 0 {
			used = append(used, all[i])
		}
	}
	return used
}

// waitRead returns once every partition of ps can serve a read. It answers the
// accuracy that the read has, and the time at which it asked for the barriers of
// an accurate one, else 0; see wal.Stream.Seen.
func (db *DB) waitRead(ctx context.Context, ps []wal.Partition, asked Accuracy, after wal.Position) (accuracy Accuracy, barrier int64, err error) {
	namespace := db.cfg.Options().Accuracy
	accuracy = asked
	if accuracy == 0 {
		accuracy = namespace
	}
	if accuracy == Accurate && namespace == BestEffort {
		return 0, 0, ErrNotAccurate
	}
	point := &wal.ReadPoint{Consistency: wal.Eventual, After: after}
	if accuracy == Accurate {
		point.Consistency, barrier = wal.Latest, db.Now().UnixMicro()
	}
	err = each(ps, func(p wal.Partition) error { return db.Stream.WaitRead(ctx, p, point) })
	return accuracy, barrier, err
}

// mustBeWhole reports whether a read asked for what a parked counter cannot give.
func mustBeWhole(accuracy Accuracy, after wal.Position) bool {
	return accuracy == Accurate || len(after.Offsets) > 0
}

// partitions are all of the namespace.
func (db *DB) partitions() []wal.Partition {
	ps := make([]wal.Partition, db.Stream.Info().Partitions)
	for i := range ps {
		ps[i] = wal.Partition(i)
	}
	return ps
}

// ListQuery asks for counters by name.
type ListQuery struct {
	Prefix   []byte
	Above    []byte // only names above it; nil: from the first
	Limit    int
	Accuracy Accuracy // 0: the namespace's
	After    wal.Position
	// Partitions are those that are listed, in order; nil: all.
	Partitions []wal.Partition
}

// List reads counters in the order of their names, over all partitions. more says
// that there may be others. It shows what was applied when it was called, and what
// the accuracy asks for; to do so it has the store brought up to date first. seen
// is what it saw, partition by partition. Errors as of Get, but for parked
// counters, which are marked.
func (db *DB) List(ctx context.Context, q *ListQuery) (list []Named, seen []wal.Seen, more bool, err error) {
	parts := q.Partitions
	if parts == nil {
		parts = db.partitions()
	}
	accuracy, barrier, err := db.waitRead(ctx, parts, q.Accuracy, q.After)
	if err != nil {
		return nil, nil, false, err
	}
	now := db.Now().UnixMicro()
	lists := make([][]Named, db.Stream.Info().Partitions)
	seen = make([]wal.Seen, len(lists))
	err = each(parts, func(p wal.Partition) (err error) {
		lists[p], seen[p], err = db.listPart(ctx, p, q, accuracy, barrier, now)
		return err
	})
	if err != nil {
		return nil, nil, false, err
	}
	list = slices.Concat(lists...)
	slices.SortFunc(list, func(a, b Named) int { return bytes.Compare(a.Name, b.Name) })
	if len(list) > q.Limit {
		return list[:q.Limit], seen, true, nil
	}
	return list, seen, false, nil
}

// listPart reads up to one more than q.Limit counters of a partition.
func (db *DB) listPart(ctx context.Context, p wal.Partition, q *ListQuery, accuracy Accuracy, barrier, now int64) ([]Named, wal.Seen, error) {
	known := db.look(p)
	found, st, err := db.cfg.Owner.List(ctx, p, q.Prefix, q.Above, q.Limit+1, now)
	if err != nil {
		return nil, wal.Seen{}, err
	}
	seen := db.seen(p, &st, &known, barrier)
	asOf, pending := db.Stream.AsOf(seen), known.above(&st, accuracy)
	parked, _ := db.Owner.ParkedKeys(p)
	list := make([]Named, len(found))
	for i, f := range found {
		list[i] = Named{Name: f.Name, Count: Count{Value: f.Value, Held: f.Held, Accuracy: accuracy, AsOf: asOf, Pending: pending}}
		if parked > 0 {
			if _, list[i].Parked, err = db.Owner.Parked(ctx, p, f.Name); err != nil {
				return nil, wal.Seen{}, err
			}
		}
	}
	return list, seen, nil
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
