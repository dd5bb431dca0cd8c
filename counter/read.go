package counter

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// Get reads counters; counts[i] is that of names[i], 0 for one that was never
// added to. accuracy 0 is the namespace's. All counts of a partition are as of
// one position. Errors: *wal.BehindError when the accuracy, or after, cannot be
// reached in time; *ParkedError when a counter is parked and the read asked for
// more than the latest rollup; ErrNotAccurate; ErrReloading.
func (db *DB) Get(ctx context.Context, names []string, accuracy Accuracy, after wal.Position) (counts []Count, asOf AsOf, err error) {
	opts := db.cfg.Options()
	if accuracy == 0 {
		accuracy = opts.Accuracy
	}
	if accuracy == Accurate && opts.Accuracy == BestEffort {
		return nil, AsOf{}, ErrNotAccurate
	}
	parts := db.spread(names)
	barrier := db.barrier(accuracy)
	for i := range parts {
		if err := db.waitRead(ctx, parts[i].p, accuracy, after); err != nil {
			return nil, AsOf{}, err
		}
	}
	if accuracy == Accurate || len(after.Offsets) > 0 {
		for i := range parts {
			if n, _ := db.cfg.Applier.ParkedKeys(parts[i].p); n == 0 {
				continue
			}
			for _, name := range parts[i].names {
				if err := db.parkedErr(parts[i].p, []byte(name)); err != nil {
					return nil, AsOf{}, err
				}
			}
		}
	}
	now := db.cfg.Now().UnixMicro()
	counts = make([]Count, len(names))
	all := make([]wal.Seen, 0, len(parts))
	for i := range parts {
		q := &parts[i]
		before := db.look(q.p)
		out := make([]seen, len(q.names))
		st, err := db.cfg.Applier.view(ctx, q.p, q.names, now, out)
		if err != nil {
			return nil, AsOf{}, err
		}
		seen := db.seen(q.p, &st, &before, barrier)
		one, pending := db.cfg.Stream.AsOf(seen), before.pending
		if accuracy == Accurate { // nothing acknowledged is unknown
			pending = max(0, int64(before.end.End-1-st.Applied))
		}
		for j, place := range q.places {
			counts[place] = Count{Value: out[j].value, Held: out[j].held, Accuracy: accuracy, AsOf: one, Pending: pending}
		}
		all = append(all, seen)
	}
	return counts, db.cfg.Stream.AsOf(all...), nil
}

// before is what is known of a partition's log before a read of it.
type before struct {
	pending int64
	end     wal.LogEnd
}

func (db *DB) look(p wal.Partition) before {
	return before{db.cfg.Stream.Pending(p), db.cfg.Stream.Log().LastEnd(p)}
}

// seen is what a read that found st has seen.
func (db *DB) seen(p wal.Partition, st *State, b *before, barrier int64) wal.Seen {
	return db.cfg.Stream.SeenAt(p, st.Applied, st.LogTime, b.end, barrier)
}

// barrier is the time of a read that begins now and waits for a barrier, 0 of
// one that does not; see wal.Stream.Seen.
func (db *DB) barrier(accuracy Accuracy) int64 {
	if accuracy != Accurate {
		return 0
	}
	return db.cfg.Now().UnixMicro()
}

// partNames are the names of a read that lie in one partition.
type partNames struct {
	p      wal.Partition
	names  []string
	places []int
}

func (db *DB) spread(names []string) []partNames {
	n := db.cfg.Stream.Info().Partitions
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

func (db *DB) waitRead(ctx context.Context, p wal.Partition, accuracy Accuracy, after wal.Position) error {
	point := &wal.ReadPoint{Consistency: wal.Eventual, After: after}
	if accuracy == Accurate {
		point.Consistency = wal.Latest
	}
	return db.cfg.Stream.WaitRead(ctx, p, point)
}

// partitions are all of the namespace.
func (db *DB) partitions() []wal.Partition {
	ps := make([]wal.Partition, db.cfg.Stream.Info().Partitions)
	for i := range ps {
		ps[i] = wal.Partition(i)
	}
	return ps
}

// List reads up to limit counters whose names have prefix and are above after,
// in byte order over all partitions. more says that there may be others. It
// shows what was applied when it was called; to do so it has the store brought
// up to date first.
func (db *DB) List(ctx context.Context, prefix, after []byte, limit int, at wal.Position) (list []Named, more bool, err error) {
	parts := db.partitions()
	for _, p := range parts {
		if err := db.waitRead(ctx, p, Eventual, at); err != nil {
			return nil, false, err
		}
	}
	if err := db.saveAllOf(ctx, parts); err != nil {
		return nil, false, err
	}
	now := db.cfg.Now().UnixMicro()
	for _, p := range parts {
		one, err := db.listPart(ctx, p, prefix, after, limit+1, now)
		if err != nil {
			return nil, false, err
		}
		list = append(list, one...)
	}
	slices.SortFunc(list, func(a, b Named) int { return bytes.Compare(a.Name, b.Name) })
	if len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}

func (db *DB) listPart(ctx context.Context, p wal.Partition, prefix, after []byte, limit int, now int64) (list []Named, err error) {
	known := db.look(p)
	snap, err := db.cfg.Store.Snapshot(ctx, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	st := snap.State()
	asOf := db.cfg.Stream.AsOf(db.seen(p, &st, &known, 0))
	accuracy := db.cfg.Options().Accuracy
	if accuracy == Accurate {
		accuracy = Eventual // which a list is
	}
	t := max(now, st.LogTime)
	err = snap.List(prefix, after, func(name []byte, row *Row) bool {
		if !row.alive(t) {
			return true
		}
		list = append(list, Named{Name: append([]byte(nil), name...), Count: Count{
			Value: row.Value, Held: row.Held, Accuracy: accuracy, AsOf: asOf, Pending: known.pending,
		}})
		return len(list) < limit
	})
	if err != nil {
		return nil, err
	}
	db.cfg.Applier.correctHeld(p, list, t)
	return list, nil
}

// correctHeld takes off what is held by leases that have ended and that no record
// has ended yet.
func (a *Applier) correctHeld(p wal.Partition, list []Named, t int64) {
	pa := a.parts[p]
	pa.mu.RLock()
	defer pa.mu.RUnlock()
	for i := range list {
		if c := &list[i].Count; c.Held != 0 {
			c.Held = max(0, c.Held-pa.rollup.leases.overdue(string(list[i].Name), t))
		}
	}
}
