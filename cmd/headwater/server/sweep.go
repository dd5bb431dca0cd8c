package server

import (
	"context"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
)

// upkeep is what Status tells about the trimming of a partition.
type upkeep struct {
	blockedBy string
	since     time.Time // of being blocked by a store or a parked record; zero when not
}

const (
	// sweepEvery is how long a partition is left alone after a round: what is swept is
	// invisible already, and a round looks at every key.
	sweepEvery = time.Minute
	// trimEvery is how often the log of a partition is trimmed.
	trimEvery = 10 * time.Second
	// keepEvery is how often a namespace's store is synced and its tokens and the size
	// of its log are counted.
	keepEvery = 5 * time.Second
	// tickTimeout bounds the append of a tick.
	tickTimeout = 10 * time.Second
)

// targets are what is done for the namespace in the background, each by itself: one
// of the namespace, which asks no broker, and two of each partition, so that one
// whose broker does not answer holds no other.
func (x *space) targets() []retention.Target {
	out := []retention.Target{{Name: x.target("keep", 0), Every: keepEvery, Sweep: x.keep}}
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		out = append(out, retention.Target{Name: x.target("trim", p), Every: trimEvery, Sweep: func(ctx context.Context, _ int) (bool, error) {
			return x.trimPartition(ctx, p)
		}})
		if x.backend != nil {
			out = append(out, retention.Target{Name: x.target("sweep", p), Every: sweepEvery, Sweep: func(ctx context.Context, limit int) (bool, error) {
				return x.sweepPartition(ctx, p, limit)
			}})
		}
	}
	return out
}

func (x *space) addTargets() {
	for _, t := range x.targets() {
		x.s.sweep.Add(t)
	}
}

func (x *space) removeTargets() {
	if x.log == nil {
		return
	}
	for _, t := range x.targets() {
		x.s.sweep.Remove(t.Name)
	}
}

func (x *space) target(what string, p wal.Partition) string {
	return fmt.Sprintf("%s %s/%d %s", what, x.ns.Name, p, x.entry.Incarnation)
}

// sweepPartition frees a part of a partition in the goroutine of its applier. An
// idle log stands still in time; when something would be due by now, a tick
// moves it on.
func (x *space) sweepPartition(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	err = x.runner.Do(ctx, p, func(ctx context.Context) (err error) {
		more, err = x.backend.sweep(ctx, p, limit)
		return err
	})
	if err != nil || more {
		return more, err
	}
	return false, x.tick(ctx, p)
}

// tick moves an idle log on where something waits for its time: a record that
// does nothing else. What is not applied yet does so by itself.
func (x *space) tick(ctx context.Context, p wal.Partition) error {
	var due bool
	err := x.runner.Do(ctx, p, func(context.Context) error {
		due = x.backend.due(p, x.s.broker.Now().UnixMicro())
		return nil
	})
	if err != nil || !due || x.log.LastEnd(p).End-1 > x.ns.Stream.Progress().Applied(p) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindBarrier})
	if r := x.log.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]; r.Err != nil {
		return fmt.Errorf("append a tick: %w", r.Err)
	}
	return nil
}

// keep syncs the store, counts the namespace's tokens, and sheds writes while its
// log is at log.max_bytes. The size of a partition that cannot be asked is the one
// last known.
func (x *space) keep(ctx context.Context, _ int) (bool, error) {
	if x.backend != nil {
		durable, err := x.backend.sync(ctx)
		if err != nil {
			return false, fmt.Errorf("sync the store: %w", err)
		}
		x.mu.Lock()
		x.durable = durable
		x.mu.Unlock()
		n, err := x.backend.tokens(ctx)
		if err != nil {
			return false, fmt.Errorf("usage of the store: %w", err)
		}
		x.backend.noteTokens(n)
	}
	var bytes int64
	for i := range x.log.Info().Partitions {
		b, _ := x.log.LastBounds(wal.Partition(i))
		bytes += max(b.Bytes, 0)
	}
	most := x.ns.Config().MaxLogBytes
	x.ns.SetLogFull(most > 0 && bytes >= most)
	return false, nil
}

// trimPartition frees the log up to what its store, tokens, parked records and
// retention need. more says that it has to wait for the first keep.
func (x *space) trimPartition(ctx context.Context, p wal.Partition) (more bool, err error) {
	b, _ := x.log.LastBounds(p)
	f := retention.Floor{Durable: int64(b.End), Parked: retention.Unparked}
	if x.backend != nil {
		x.mu.Lock()
		durable := x.durable
		x.mu.Unlock()
		if durable == nil {
			return true, nil
		}
		f.Durable = 0
		if o, ok := durable[p]; ok {
			f.Durable = int64(o + 1)
		}
		if _, lowest := x.backend.ParkedKeys(p); lowest != wal.NoOffset {
			f.Parked = int64(lowest)
		}
	}
	c := x.ns.Config()
	return false, x.trimTo(ctx, p, b, f, c.Tokens.Window, c.Retention)
}

// trimTo trims a partition to f once it has in it where the token window and the
// retention begin.
func (x *space) trimTo(ctx context.Context, p wal.Partition, b wal.Bounds, f retention.Floor, window, keep time.Duration) error {
	now := x.s.broker.Now()
	for _, t := range []struct {
		to   *int64
		back time.Duration
	}{{&f.Window, window}, {&f.Retention, keep}} {
		o, err := x.log.OffsetAt(ctx, p, now.Add(-t.back).UnixMicro())
		if err != nil {
			return fmt.Errorf("offset of %v ago in partition %d: %w", t.back, p, err)
		}
		*t.to = int64(o)
	}
	to, blockedBy := f.TrimTo(int64(b.Start))
	if to > int64(b.Start) {
		if err := x.log.Trim(ctx, p, wal.Offset(to)); err != nil {
			return fmt.Errorf("trim partition %d to %d: %w", p, to, err)
		}
	}
	if to >= int64(b.End) {
		blockedBy = ""
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t := &x.upkeep[p]
	t.blockedBy = blockedBy
	switch {
	case blockedBy != "store" && blockedBy != "parked": // the others pass by themselves
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = now
	}
	return nil
}

func (x *space) trimBlocked(p wal.Partition) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.upkeep[p].blockedBy
}
