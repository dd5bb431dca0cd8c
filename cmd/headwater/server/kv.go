package server

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/wal"
)

// kvFront is what takes the calls of a key-value namespace.
type kvFront struct {
	*kv.Local
	db *kv.DB
}

func (x *space) newKVFront() *kvFront {
	f := &kvFront{Local: kv.NewLocal(x.progress, nil)}
	f.db = kv.NewDB(kv.DBConfig{Stream: x.ns.Stream, Owner: f.Local, Clock: &x.s.spaces.clock, Now: x.s.broker.Now, Options: func() kv.Options {
		c := x.ns.Config()
		return kv.Options{FrontOptions: frontOptions(c), DefaultTTL: c.KV.DefaultTTL, ReadMax: c.SLO.Read.Max}
	}})
	x.ns.KV = f.db
	return f
}

func (f *kvFront) noteTokens(n int64) { f.db.NoteUsage(n) }

// kvBackend is a store of key-value items on Pebble.
type kvBackend struct {
	st      *store
	pebble  *pebblekv.Store
	applier *kv.Applier
}

func (b *kvBackend) open(cfg pebblestore.Config) (l ledger, err error) {
	b.pebble, err = pebblekv.Open(cfg)
	return b.pebble, err
}

func (b *kvBackend) load() *consumers.Loop {
	b.applier = kv.NewApplier(kv.ApplierConfig{LoopConfig: b.st.loopConfig(), Store: b.pebble, Settings: b.settings})
	return b.applier.Loop
}

// save: every batch is saved as it is applied.
func (b *kvBackend) save(context.Context, wal.Partition) error { return nil }

func (b *kvBackend) view(ctx context.Context, p wal.Partition) (view, wal.Offset, error) {
	v, err := b.pebble.Snapshot(ctx, p)
	if err != nil {
		return nil, wal.NoOffset, err
	}
	return v, v.State().Applied, nil
}

func (b *kvBackend) compare(ctx context.Context, p wal.Partition, x, y view, r *consumers.Report, looked func(n int64)) error {
	a := x.(kv.Snapshot)
	return kv.Compare(ctx, p, a, y.(kv.Snapshot), a.State().LogTime, r, looked)
}

func (b *kvBackend) serve(p wal.Partition) {
	b.st.x.front.(*kvFront).Set(p, &kv.Replica{Store: b.pebble, Applier: b.applier})
}

// settings are those of the version that a record was accepted under.
func (b *kvBackend) settings(version uint64) (kv.Settings, error) {
	c, err := b.st.x.configAt(version)
	if err != nil {
		return kv.Settings{}, err
	}
	return kv.Settings{TokenWindow: c.Tokens.Window, DefaultTTL: c.KV.DefaultTTL}, nil
}

func (b *kvBackend) run(context.Context) {}

func (b *kvBackend) sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	_, more, err = b.applier.Sweep(ctx, p, b.st.x.ns.Config().Tokens.Window, limit)
	return more, err
}

// due: tokens are forgotten by log time, which an idle log does not move on.
func (b *kvBackend) due(p wal.Partition, now int64) bool {
	return b.st.owesTokens(b.applier.Part(p), now)
}
