package server

import (
	"context"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
)

// upkeep is what Status tells about the trimming of a partition, and when it is
// swept again.
type upkeep struct {
	sweepAt   time.Time
	blockedBy string
	since     time.Time // of being blocked by a store or a parked record; zero when not
}

// addTargets has the namespace's partitions swept and its log trimmed.
func (x *space) addTargets() {
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		if x.backend != nil {
			x.s.sweep.Add(retention.Target{Name: x.target("sweep", p), Sweep: func(ctx context.Context, limit int) (bool, error) { return x.sweepPartition(ctx, p, limit) }})
		}
	}
	x.s.sweep.Add(retention.Target{Name: x.target("trim", 0), Sweep: x.trim})
}

func (x *space) removeTargets() {
	if x.log == nil {
		return
	}
	for i := range x.log.Info().Partitions {
		x.s.sweep.Remove(x.target("sweep", wal.Partition(i)))
	}
	x.s.sweep.Remove(x.target("trim", 0))
}

func (x *space) target(what string, p wal.Partition) string {
	return fmt.Sprintf("%s %s/%d %s", what, x.ns.Name, p, x.entry.Incarnation)
}

// sweepEvery is how long a partition is left alone after a round: what is swept is
// invisible already, and a round looks at every key.
const sweepEvery = time.Minute

// sweepPartition frees a part of a partition in the goroutine of its applier. An
// idle log stands still in time; when something would be due by now, a tick
// moves it on.
func (x *space) sweepPartition(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	x.mu.Lock()
	rest := time.Until(x.upkeep[p].sweepAt)
	x.mu.Unlock()
	if rest > 0 {
		return false, nil
	}
	err = x.runner.Do(ctx, p, func(ctx context.Context) (err error) {
		more, err = x.backend.sweep(ctx, p, limit)
		return err
	})
	if err != nil || more {
		return more, err
	}
	x.mu.Lock()
	x.upkeep[p].sweepAt = time.Now().Add(sweepEvery)
	x.mu.Unlock()
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
	if err != nil || !due {
		return err
	}
	b, err := x.log.Bounds(ctx, p)
	if err != nil {
		return fmt.Errorf("bounds of partition %d: %w", p, err)
	}
	if b.End-1 > x.ns.Stream.Progress().Applied(p) {
		return nil
	}
	rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindBarrier})
	if r := x.log.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]; r.Err != nil {
		return fmt.Errorf("append a tick: %w", r.Err)
	}
	return nil
}

// trim frees the log up to what its stores, tokens, parked records and retention
// need, and sheds writes while it is at log.max_bytes all the same.
func (x *space) trim(ctx context.Context, _ int) (bool, error) {
	c := x.ns.Config()
	durable := map[wal.Partition]wal.Offset{}
	if x.backend != nil {
		var err error
		if durable, err = x.backend.sync(ctx); err != nil {
			return false, fmt.Errorf("sync the store: %w", err)
		}
		n, err := x.backend.tokens(ctx)
		if err != nil {
			return false, fmt.Errorf("usage of the store: %w", err)
		}
		x.backend.noteTokens(n)
	}
	var bytes int64
	for i := range x.log.Info().Partitions {
		n, err := x.trimPartition(ctx, wal.Partition(i), durable, c.Tokens.Window, c.Retention)
		if err != nil {
			return false, err
		}
		bytes += n
	}
	x.ns.SetLogFull(c.MaxLogBytes > 0 && bytes >= c.MaxLogBytes)
	return false, nil
}

func (x *space) trimPartition(ctx context.Context, p wal.Partition, durable map[wal.Partition]wal.Offset, window, keep time.Duration) (bytes int64, err error) {
	b, err := x.log.Bounds(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("bounds of partition %d: %w", p, err)
	}
	now := x.s.broker.Now()
	f := retention.Floor{Durable: int64(b.End), Parked: retention.Unparked}
	if x.backend != nil {
		f.Durable = 0
		if o, ok := durable[p]; ok {
			f.Durable = int64(o + 1)
		}
		if _, lowest := x.backend.ParkedKeys(p); lowest != wal.NoOffset {
			f.Parked = int64(lowest)
		}
	}
	for _, t := range []struct {
		to   *int64
		back time.Duration
	}{{&f.Window, window}, {&f.Retention, keep}} {
		o, err := x.log.OffsetAt(ctx, p, now.Add(-t.back).UnixMicro())
		if err != nil {
			return 0, fmt.Errorf("offset of %v ago in partition %d: %w", t.back, p, err)
		}
		*t.to = int64(o)
	}
	to, blockedBy := f.TrimTo(int64(b.Start))
	if to > int64(b.Start) {
		if err := x.log.Trim(ctx, p, wal.Offset(to)); err != nil {
			return 0, fmt.Errorf("trim partition %d to %d: %w", p, to, err)
		}
	}
	if to >= int64(b.End) {
		blockedBy = ""
	}
	x.mu.Lock()
	t := &x.upkeep[p]
	t.blockedBy = blockedBy
	switch {
	case blockedBy != "store" && blockedBy != "parked": // the others pass by themselves
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = now
	}
	x.mu.Unlock()
	return max(b.Bytes, 0), nil
}

func (x *space) trimBlocked(p wal.Partition) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.upkeep[p].blockedBy
}
