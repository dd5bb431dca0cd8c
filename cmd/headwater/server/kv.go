package server

import (
	"cmp"
	"context"
	"errors"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/cassandrakv"
	"github.com/headwater-db/headwater/kv/kvremote"
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
	f.db = x.newKVDB(f.Local)
	return f
}

func (x *space) newKVDB(owner kv.Owner) *kv.DB {
	x.ns.KV = kv.NewDB(kv.DBConfig{Stream: x.ns.Stream, Owner: owner, Clock: &x.s.spaces.clock, Now: x.s.broker.Now, Options: func() kv.Options {
		c := x.ns.Config()
		return kv.Options{FrontOptions: frontOptions(c), DefaultTTL: c.KV.DefaultTTL, ReadMax: c.SLO.Read.Max}
	}})
	return x.ns.KV
}

func (f *kvFront) noteTokens(n int64) { f.db.NoteUsage(n) }

// answer implements answering.
func (f *kvFront) answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	return kvremote.Answer(ctx, f.Local, req)
}

// token implements answering.
func (f *kvFront) token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	return kvremote.Token(ctx, f.Local, p, id)
}

// kvBackend is a store of key-value items.
type kvBackend struct {
	st      *store
	items   kv.Store
	ahead   consumers.Ahead // nil of a store that saves effect and position as one
	applier *kv.Applier

	cassandra *cassandrakv.Store // nil: the items are on this machine
	marks     *decisions.Marks   // nil where no other process may take a partition over
}

func (b *kvBackend) open(cfg pebblestore.Config) (ledger, error) {
	conf := b.st.conf
	if !isRemote(conf) {
		s, err := pebblekv.Open(cfg)
		b.items = s
		return s, err
	}
	cluster, err := clusterOf[*cassandrastore.Cluster](b.st.x.s, conf.Cluster)
	if err != nil {
		return nil, err
	}
	place := b.st.registered()
	s, err := cassandrakv.Open(cassandrakv.Config{
		Ledger: cfg, Cluster: cluster, Dataset: cmp.Or(place.Dataset, conf.Dataset, b.st.x.entry.Name), Life: place.Life,
	})
	if err != nil {
		return nil, err
	}
	b.items, b.ahead, b.cassandra = s, s, s
	if x := b.st.x; x.holding != nil {
		b.marks = decisions.NewMarks(x.decisions, x.claims, s, x.holding.epoch)
		b.ahead = b.marks
	}
	// Before the first commit: a cache that was on is kept up to date by every one.
	return s, b.setCache(b.st.x.entry.Config)
}

func (b *kvBackend) load() *consumers.Loop {
	loop := b.st.loopConfig()
	loop.Ahead = b.ahead
	if applied := loop.Applied; b.marks != nil {
		loop.Applied = func(p wal.Partition, st *consumers.State) {
			b.marks.Applied(p, st.Applied)
			applied(p, st)
		}
	}
	b.applier = kv.NewApplier(kv.ApplierConfig{LoopConfig: loop, Store: b.items, Settings: b.settings})
	return b.applier.Loop
}

// goesOn implements taker.
func (b *kvBackend) goesOn() bool { return b.marks != nil }

// take implements taker.
func (b *kvBackend) take(ctx context.Context, p wal.Partition, s *decisions.Standing, start wal.Offset) error {
	return b.cassandra.Take(ctx, p, s, start, b.st.x.claims)
}

// save: every batch is saved as it is applied.
func (b *kvBackend) save(context.Context, wal.Partition) error { return nil }

func (b *kvBackend) view(ctx context.Context, p wal.Partition) (view, wal.Offset, error) {
	v, err := b.items.Snapshot(ctx, p)
	if err != nil {
		return nil, wal.NoOffset, err
	}
	return v, v.State().Applied, nil
}

func (b *kvBackend) compare(ctx context.Context, c *comparison) error {
	a := c.a.(kv.Snapshot)
	return kv.Compare(ctx, c.p, a, c.b.(kv.Snapshot), a.State().LogTime, c.report, c.looked, &kv.SecondLook{
		A: c.stores[0].backend.(*kvBackend).items, B: c.stores[1].backend.(*kvBackend).items, Level: c.level,
	})
}

func (b *kvBackend) serve(p wal.Partition) {
	b.st.x.front.(*kvFront).Set(p, &kv.Replica{Store: b.items, Applier: b.applier})
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

// kvFilledAtOnce is how many bytes of items a batch has, about, while a store is filled.
const kvFilledAtOnce = 1 << 20

// fill implements filler: the items are written as they are, with their versions and the chunks of those that
// were uploaded. What is deleted in the other store is not there to be copied, so the log is applied from its
// first record on: it holds everything that may still meet an older write.
func (b *kvBackend) fill(ctx context.Context, p wal.Partition, from view) error {
	st, err := b.items.State(ctx, p)
	if err != nil {
		return err
	}
	other := b.st.x.primary().backend.(*kvBackend).items
	q := kv.ScanQuery{Partition: p, Now: st.LogTime, MaxBytes: kvFilledAtOnce}
	for more := true; more; {
		page, err := from.(kv.Snapshot).Scan(ctx, &q)
		if err != nil {
			return err
		}
		batch := b.items.Begin(p)
		for _, r := range page.Records {
			for i := range r.Items {
				it := &r.Items[i]
				batch.Put(r.ID, it.Version, it)
				if it.Chunks == 0 {
					continue
				}
				err := copyChunks(ctx, batch, p, it, other)
				if err == nil { // up to 64 MiB at once are enough
					err = batch.Commit(ctx, st)
				}
				batch.Abort()
				if err != nil {
					return err
				}
				batch = b.items.Begin(p)
			}
		}
		if err := batch.Commit(ctx, st); err != nil {
			return err
		}
		more, q.HasAfter, q.AfterID, q.AfterKey = page.More, true, page.LastID, page.LastKey
	}
	begin, err := b.st.x.log.Bounds(ctx, p)
	if err != nil {
		return err
	}
	return b.st.ledger.BeginAt(ctx, p, max(begin.Start, st.FirstException))
}

func copyChunks(ctx context.Context, to kv.Batch, p wal.Partition, it *kv.StoredItem, from kv.Store) error {
	for i := range it.Chunks {
		data, err := from.ReadChunk(ctx, p, it.Upload, i)
		if errors.Is(err, kv.ErrNoChunk) { // the item was overwritten meanwhile, which the log says too
			return nil
		}
		if err != nil {
			return err
		}
		to.SaveChunk(it.Upload, i, data)
	}
	return nil
}

// due: tokens are forgotten by log time, which an idle log does not move on.
func (b *kvBackend) due(p wal.Partition, now int64) bool {
	return b.st.owesTokens(b.applier.Part(p), now)
}
