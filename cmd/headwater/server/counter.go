package server

import (
	"context"
	"errors"
	"sync"
	"time"
	_ "time/tzdata" // a series of days of a time zone must not depend on the machine

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/cassandracounter"
	"github.com/headwater-db/headwater/counter/clickhousecounter"
	"github.com/headwater-db/headwater/counter/counterremote"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// flushEvery is how often what was counted goes from memory to the store, and how
// late a lease may end in an idle log.
const flushEvery = time.Second

// flushRemoteEvery is how often the events of a partition go to another server, unless there are many or
// a recount waits for them: ClickHouse merges what it is given.
const flushRemoteEvery = 5 * time.Second

// counterFront is what takes the calls of a counter namespace.
type counterFront struct {
	*counter.Local
	db     *counter.DB
	verify verifier
}

func (x *space) newCounterFront() *counterFront {
	f := &counterFront{Local: counter.NewLocal(x.progress, nil)}
	f.db = x.newCounterDB(f.Local, nil)
	if x.s.cfg.VerifyInterval > 0 {
		x.work.Go(func() { f.verify.run(x.run, x, f.db) })
	}
	return f
}

func (x *space) newCounterDB(owner counter.Owner, published counter.PublishedCounts) *counter.DB {
	x.ns.Counter = counter.NewDB(counter.DBConfig{
		Published: published,
		Stream:    x.ns.Stream, Owner: owner, Clock: &x.s.spaces.clock, Now: x.s.broker.Now, BufferedLoss: x.s.broker.BufferedLoss(),
		Options: func() counter.Options {
			c := x.ns.Config()
			return counter.Options{FrontOptions: frontOptions(c), Accuracy: accuracies[c.Counter.Accuracy], Windows: c.Counter.Windows, Events: c.Events() != ""}
		},
	})
	return x.ns.Counter
}

func (f *counterFront) noteTokens(n int64) { f.db.NoteUsage(n) }

// token implements answering.
func (f *counterFront) token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	return counterremote.Token(ctx, f.Local, p, id)
}

// answer implements answering.
func (f *counterFront) answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	return counterremote.Answer(ctx, f.Local, req)
}

// counterBackend is a store of counters on Pebble. It may be published to Cassandra; one of role EVENTS may have their
// events in ClickHouse.
type counterBackend struct {
	st      *store
	pebble  *pebblecounter.Store
	store   counter.Store             // pebble, or what is published of it
	events  *clickhousecounter.Events // nil: pebble has the events
	applier *counter.Applier

	published *cassandracounter.Store // nil: it is on this machine alone
	marks     *decisions.Marks        // nil where no other process may take a partition over
}

func (b *counterBackend) open(cfg pebblestore.Config) (ledger, error) {
	switch {
	case b.st.conf.Type == cassandraType:
		return b.openPublished(cfg)
	case isRemote(b.st.conf):
		return b.openRemote(cfg)
	}
	s, err := pebblecounter.Open(cfg)
	b.pebble, b.store = s, s
	return s, err
}

func (b *counterBackend) load() *consumers.Loop {
	cfg := counter.ApplierConfig{
		LoopConfig: b.st.loopConfig(), Store: b.store, Settings: b.settings, Windows: b.st.x.entry.Config.Counter.Windows,
	}
	if b.marks != nil {
		cfg.Ahead = b.marks
	}
	if b.events != nil {
		cfg.Events = b.events
	}
	b.applier = counter.NewApplier(cfg)
	return b.applier.Loop
}

func (b *counterBackend) save(ctx context.Context, p wal.Partition) error {
	return b.replica().SaveAll(ctx, p)
}

func (b *counterBackend) view(ctx context.Context, p wal.Partition) (view, wal.Offset, error) {
	if err := b.save(ctx, p); err != nil {
		return nil, wal.NoOffset, err
	}
	v, err := b.store.Snapshot(ctx, p)
	if err != nil {
		return nil, wal.NoOffset, err
	}
	return v, v.State().Applied, nil
}

func (b *counterBackend) compare(ctx context.Context, c *comparison) error {
	a := c.a.(counter.Snapshot)
	return counter.Compare(ctx, c.p, a, c.b.(counter.Snapshot), b.st.x.entry.Config.Counter.Windows, a.State().LogTime, c.report, c.looked)
}

func (b *counterBackend) replica() *counter.Replica {
	return &counter.Replica{Store: b.store, Applier: b.applier, Do: b.st.do, Progress: b.st.progress}
}

func (b *counterBackend) serve(p wal.Partition) {
	b.st.x.front.(*counterFront).Set(p, b.replica())
}

// settings are those of the version that a record was accepted under.
func (b *counterBackend) settings(version uint64) (counter.Settings, error) {
	c, err := b.st.x.configAt(version)
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

// run flushes each partition and moves its log on where something waits for log
// time, until ctx is done.
func (b *counterBackend) run(ctx context.Context) {
	var work sync.WaitGroup
	for p := range wal.Partition(b.st.x.log.Info().Partitions) {
		work.Go(func() { b.flush(ctx, p) })
		if b.published != nil {
			work.Go(func() { b.publish(ctx, p) })
		}
	}
	work.Wait()
}

func (b *counterBackend) flush(ctx context.Context, p wal.Partition) {
	every := flushEvery
	if b.events != nil {
		every = flushRemoteEvery
	}
	t := time.NewTicker(every)
	defer t.Stop()
	failed := ""
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		step := "write counters to their store"
		err := b.st.doHere(ctx, p, func(ctx context.Context) error { return b.applier.Flush(ctx, p) })
		if err == nil {
			step = "move an idle log on, so that leases end"
			err = b.st.tick(ctx, p)
		}
		switch {
		case err == nil:
			failed = ""
		case ctx.Err() != nil || errors.Is(err, consumers.ErrNotRunning):
			return
		case err.Error() != failed:
			failed = err.Error()
			b.st.x.s.log.Warn("a step of counters failed; it is tried again, and the log has them", "step", step, "namespace", b.st.x.ns.Name, "partition", uint32(p), "reason", err)
		}
	}
}

func (b *counterBackend) sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	return b.applier.Sweep(ctx, p, b.st.x.ns.Config().Tokens.Window, b.fold(p), limit)
}

func (b *counterBackend) due(p wal.Partition, now int64) bool {
	return b.applier.Due(p, now, b.st.x.ns.Config().Tokens.Window)
}
