package server

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// kvBackend is a key-value namespace on Pebble.
type kvBackend struct {
	x       *space
	store   *pebblekv.Store
	applier *kv.Applier
	db      *kv.DB
}

func (b *kvBackend) openStore(dir string) error {
	store, err := pebblekv.Open(pebblekv.Config{
		Dir: dir, Partitions: b.x.log.Info().Partitions, Cache: b.x.s.cache, Logger: b.x.s.log, TokenWindow: b.x.entry.Config.Tokens.Window,
		OnFail: b.x.storeFailed,
	})
	if err == nil {
		b.store = store
	}
	return err
}

func (b *kvBackend) saved(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	st, err := b.store.State(ctx, p)
	return st.Applied, err
}

func (b *kvBackend) load(ctx context.Context, progress *wal.Progress) (_ consumers.Applier, err error) {
	s := b.x.s
	b.applier, err = kv.NewApplier(ctx, kv.ApplierConfig{
		Store: b.store, Log: b.x.log, Letters: b.x.ns.Letters, Progress: progress, Clock: &s.spaces.clock, Settings: b.settings,
	})
	if err != nil {
		return nil, err
	}
	b.db = kv.NewDB(kv.DBConfig{Stream: b.x.ns.Stream, Store: b.store, Applier: b.applier, Clock: &s.spaces.clock, Now: s.broker.Now, Options: b.options})
	b.x.ns.KV = b.db
	return b.applier, nil
}

// settings are those of the version that a record was accepted under.
func (b *kvBackend) settings(version uint64) (kv.Settings, error) {
	c, err := b.x.configAt(version)
	if err != nil {
		return kv.Settings{}, err
	}
	return kv.Settings{TokenWindow: c.Tokens.Window, DefaultTTL: &c.KV.DefaultTTL}, nil
}

func (b *kvBackend) options() kv.Options {
	c := b.x.ns.Config()
	return kv.Options{
		Version: c.Version, DriftPast: c.Tokens.MaxDriftPast, DriftFuture: c.Tokens.MaxDriftFuture, TokenWindow: c.Tokens.Window,
		MaxLiveTokens: c.Tokens.MaxLive, DefaultTTL: c.KV.DefaultTTL, Descending: c.KV.Descending,
		ReadMax: c.SLO.Read.Max,
	}
}

func (b *kvBackend) run(context.Context) {}

func (b *kvBackend) sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	_, more, err = b.applier.Sweep(ctx, p, b.x.ns.Config().Tokens.Window, limit)
	return more, err
}

// due: tokens are forgotten by log time, which an idle log does not move on.
func (b *kvBackend) due(p wal.Partition, now int64) bool {
	st := b.applier.State(p)
	return b.store.LiveTokens(p) > 0 && now-st.LogTime > (b.x.ns.Config().Tokens.Window+time.Minute).Microseconds()
}

func (b *kvBackend) sync(ctx context.Context) (map[wal.Partition]wal.Offset, error) {
	return b.store.Sync(ctx)
}

func (b *kvBackend) tokens(ctx context.Context) (int64, error) {
	u, err := b.store.Usage(ctx)
	return u.Tokens, err
}

func (b *kvBackend) noteTokens(n int64) { b.db.NoteUsage(n) }

func (b *kvBackend) configure(c *namespace.Config) { b.store.SetTokenWindow(c.Tokens.Window) }

func (b *kvBackend) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	return b.applier.ParkedKeys(p)
}

func (b *kvBackend) drain(context.Context) error { return nil } // every batch is saved as it is applied

func (b *kvBackend) closeStore() error {
	if b.store == nil {
		return nil
	}
	return b.store.Close() // closing again does nothing
}
