package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // a series of days of a time zone must not depend on the machine

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// flushEvery is how often what was counted goes from memory to the store, and how
// late a lease may end in an idle log.
const flushEvery = time.Second

// counterBackend is a counter namespace on Pebble.
type counterBackend struct {
	x       *space
	store   *pebblecounter.Store
	applier *counter.Applier
	db      *counter.DB
	verify  verifier
}

func (b *counterBackend) openStore(dir string) error {
	store, err := pebblecounter.Open(pebblecounter.Config{
		Dir: dir, Partitions: b.x.log.Info().Partitions, Cache: b.x.s.cache, Logger: b.x.s.log, TokenWindow: b.x.entry.Config.Tokens.Window,
		OnFail: b.x.storeFailed,
	})
	if err == nil {
		b.store = store
	}
	return err
}

func (b *counterBackend) saved(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	st, err := b.store.State(ctx, p)
	return st.Applied, err
}

func (b *counterBackend) load(ctx context.Context, progress *wal.Progress) (_ consumers.Applier, err error) {
	s := b.x.s
	b.applier, err = counter.NewApplier(ctx, counter.ApplierConfig{
		Store: b.store, Log: b.x.log, Letters: b.x.ns.Letters, Progress: progress, Clock: &s.spaces.clock, Settings: b.settings,
		Windows: b.x.entry.Config.Counter.Windows,
	})
	if err != nil {
		return nil, err
	}
	b.db = counter.NewDB(counter.DBConfig{
		Stream: b.x.ns.Stream, Store: b.store, Applier: b.applier, Clock: &s.spaces.clock, Now: s.broker.Now, Options: b.options,
		Do: b.do, BufferedLoss: s.broker.BufferedLoss(),
	})
	b.x.ns.Counter = b.db
	return b.applier, nil
}

// do is consumers.Runner.Do of a runner that is made after the DB.
func (b *counterBackend) do(ctx context.Context, p wal.Partition, f func(context.Context) error) error {
	err := b.x.runner.Do(ctx, p, f)
	if errors.Is(err, consumers.ErrNotRunning) {
		return fmt.Errorf("%w: %w", wal.ErrClosed, err)
	}
	return err
}

// settings are those of the version that a record was accepted under.
func (b *counterBackend) settings(version uint64) (counter.Settings, error) {
	c, err := b.x.configAt(version)
	if err != nil {
		return counter.Settings{}, err
	}
	return counter.Settings{TokenWindow: c.Tokens.Window, TTL: c.Counter.TTL, Bounds: standingBounds(&c.Counter)}, nil
}

func standingBounds(c *namespace.CounterConfig) counter.Bounds {
	out := counter.Bounds{Saturate: c.OnViolation == "saturate"}
	if c.Floor != nil {
		out.HasFloor, out.Floor = true, *c.Floor
	}
	if c.Ceiling != nil {
		out.HasCeiling, out.Ceiling = true, *c.Ceiling
	}
	return out
}

// accuracies are the words of a namespace document.
var accuracies = map[string]counter.Accuracy{"best_effort": counter.BestEffort, "eventual": counter.Eventual, "accurate": counter.Accurate}

func (b *counterBackend) options() counter.Options {
	c := b.x.ns.Config()
	return counter.Options{
		Version: c.Version, DriftPast: c.Tokens.MaxDriftPast, DriftFuture: c.Tokens.MaxDriftFuture, TokenWindow: c.Tokens.Window,
		MaxLiveTokens: c.Tokens.MaxLive, Accuracy: accuracies[c.Counter.Accuracy], Windows: c.Counter.Windows,
	}
}

// run flushes each partition and moves its log on where something waits for log
// time, and verifies counters, until ctx is done.
func (b *counterBackend) run(ctx context.Context) {
	var work sync.WaitGroup
	for i := range b.x.log.Info().Partitions {
		work.Go(func() { b.flush(ctx, wal.Partition(i)) })
	}
	if b.x.s.cfg.VerifyInterval > 0 {
		work.Go(func() { b.verify.run(ctx, b) })
	}
	work.Wait()
}

func (b *counterBackend) flush(ctx context.Context, p wal.Partition) {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	failed := ""
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		step := "write counters to their store"
		err := b.do(ctx, p, func(ctx context.Context) error { return b.applier.Flush(ctx, p) })
		if err == nil {
			step = "move an idle log on, so that leases end"
			err = b.x.tick(ctx, p)
		}
		switch {
		case err == nil:
			failed = ""
		case ctx.Err() != nil || errors.Is(err, consumers.ErrNotRunning):
			return
		case err.Error() != failed:
			failed = err.Error()
			b.x.s.log.Warn("a step of counters failed; it is tried again, and the log has them", "step", step, "namespace", b.x.ns.Name, "partition", uint32(p), "reason", err)
		}
	}
}

func (b *counterBackend) sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	c := b.x.ns.Config()
	return b.applier.Sweep(ctx, p, c.Tokens.Window, c.Counter.EventRetention, limit)
}

func (b *counterBackend) due(p wal.Partition, now int64) bool {
	return b.applier.Due(p, now, b.x.ns.Config().Tokens.Window)
}

func (b *counterBackend) sync(ctx context.Context) (map[wal.Partition]wal.Offset, error) {
	return b.store.Sync(ctx)
}

func (b *counterBackend) tokens(context.Context) (n int64, err error) {
	for i := range b.x.log.Info().Partitions {
		n += b.store.LiveTokens(wal.Partition(i))
	}
	return n, nil
}

func (b *counterBackend) noteTokens(n int64) { b.db.NoteUsage(n) }

func (b *counterBackend) configure(c *namespace.Config) { b.store.SetTokenWindow(c.Tokens.Window) }

func (b *counterBackend) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	return b.applier.ParkedKeys(p)
}

func (b *counterBackend) drain(ctx context.Context) error {
	if b.applier == nil {
		return nil
	}
	return b.applier.Drain(ctx)
}

func (b *counterBackend) closeStore() error {
	if b.store == nil {
		return nil
	}
	return b.store.Close() // closing again does nothing
}
