package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/pebbledelivery"
	"github.com/headwater-db/headwater/wal/durable"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// room is the services over namespaces in memory: what the server puts together,
// without its data directory, registry and listeners.
type room struct {
	t      *testing.T
	broker *pebblelog.Broker
	dir    *Directory
	clock  wal.Clock

	kv         *KeyValue
	counter    *Counter
	log        *Log
	namespaces *Namespaces // nil unless the test makes it

	// afterRead, when not nil, runs in a read of the kv store, after it has read. The
	// reads of its own do not run it again.
	afterRead func()

	// wrap, when not nil, stands between a namespace that is opened and its log.
	wrap func(wal.Log) wal.Log

	runners map[string]*roomRunner
}

// roomRunner applies the log of one namespace, when it is let.
type roomRunner struct {
	*consumers.Runner
	gate sync.RWMutex // held to stop applying
}

// gated is an applier that stops while its gate is held.
type gated struct {
	consumers.Applier
	gate *sync.RWMutex
}

func (g gated) Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Applier.Apply(ctx, p, entries)
}

// hookedStore calls room.afterRead after each read.
type hookedStore struct {
	kv.Store
	r *room
}

func (s hookedStore) Scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	page, err := s.Store.Scan(ctx, q)
	s.r.hook()
	return page, err
}

func (s hookedStore) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	page, err := s.Store.Get(ctx, q)
	s.r.hook()
	return page, err
}

func (r *room) hook() {
	if f := r.afterRead; f != nil {
		r.afterRead = nil
		f()
		r.afterRead = f
	}
}

func newRoom(t *testing.T) *room {
	t.Helper()
	broker, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", FreeSpaceFloor: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	pages, err := NewPageTokens(make([]byte, PageKeySize))
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, broker: broker, dir: NewDirectory(), runners: map[string]*roomRunner{}}
	r.kv = NewKeyValue(r.dir, pages)
	r.counter = NewCounter(r.dir, pages)
	r.log = NewLog(r.dir, broker, nil)
	return r
}

// open makes a namespace of a document and applies its log until the test ends.
func (r *room) open(name, doc string) *Namespace {
	r.t.Helper()
	t := r.t
	d, err := namespace.Parse("namespace: "+name+"\n"+doc, namespace.Defaults{Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	c := d.Config
	create := func(what string, partitions int) wal.Log {
		log, err := r.broker.Create(t.Context(), wal.TopicSpec{Name: fmt.Sprintf("headwater.%s.%s.1", what, name), Partitions: partitions})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	n, progress := &Namespace{Name: name}, wal.NewProgress(c.Partitions)
	n.SetConfig(c)
	log := create(string(c.Abstraction), c.Partitions)
	if r.wrap != nil {
		log = r.wrap(log)
	}
	n.Stream = wal.NewStream(wal.StreamConfig{Namespace: name, Log: log, Progress: progress})
	if n.Letters, err = consumers.OpenDeadLetters(t.Context(), create("dlq", 1), func(string) {}); err != nil {
		t.Fatal(err)
	}
	run := &roomRunner{}
	var applier consumers.Applier
	switch c.Abstraction {
	case namespace.KV:
		applier = r.openKV(n, progress)
	case namespace.Counter:
		applier = r.openCounter(n, progress, run)
	default:
		applier = r.openLog(n, progress)
	}
	run.Runner = consumers.New(consumers.Config{
		Namespace: name, Role: "PRIMARY", Log: log, Applier: gated{applier, &run.gate}, Stopped: progress.Stop,
	})
	if err := run.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.StopAll(context.Background()); err != nil {
			t.Error(err)
		}
	})
	states := create("consumers", c.Partitions)
	n.Consumers = durable.New(durable.Config{
		Log: log, Progress: progress, Now: r.broker.Now, Logger: slog.New(slog.DiscardHandler),
		States: func(context.Context, bool) (wal.Log, error) { return states, nil },
		Held:   func(wal.Partition) (wal.Offset, bool) { return 0, true },
		Judge: func(_ context.Context, _ wal.Partition, entries []wal.Entry) ([]durable.Verdict, error) {
			return make([]durable.Verdict, len(entries)), nil
		},
	})
	r.runners[name] = run
	n.SetReady()
	r.dir.Add(n)
	return n
}

func (r *room) openKV(n *Namespace, progress *wal.Progress) consumers.Applier {
	t, c := r.t, n.Config()
	store, err := pebblekv.Open(pebblekv.Config{FS: vfs.NewMem(), Dir: "kv", Partitions: c.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	a := kv.NewApplier(kv.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: n.Stream.Log(), Letters: n.Letters, Applied: consumers.AdvanceOf(progress), Clock: &r.clock, Ledger: store}, Store: store,
		Settings: func(uint64) (kv.Settings, error) {
			return kv.Settings{TokenWindow: c.Tokens.Window, DefaultTTL: c.KV.DefaultTTL}, nil
		},
	})
	owner := kv.NewLocal(progress, &kv.Replica{Store: hookedStore{store, r}, Applier: a})
	n.Applier = owner
	n.KV = kv.NewDB(kv.DBConfig{Stream: n.Stream, Owner: owner, Clock: &r.clock, Now: r.broker.Now, Options: func() kv.Options {
		return kv.Options{FrontOptions: frontOptions(c), DefaultTTL: c.KV.DefaultTTL}
	}})
	return a
}

func (r *room) openLog(n *Namespace, progress *wal.Progress) consumers.Applier {
	t, c := r.t, n.Config()
	store, err := pebbledelivery.Open(pebbledelivery.Config{FS: vfs.NewMem(), Dir: "log", Partitions: c.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	a := delivery.NewApplier(delivery.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: n.Stream.Log(), Letters: n.Letters, Applied: consumers.AdvanceOf(progress), Clock: &r.clock, Ledger: store}, Store: store,
		Rules: func(uint64) (*delivery.Rules, error) { return &delivery.Rules{Window: c.Tokens.Window}, nil },
	})
	owner := delivery.NewLocal(progress)
	owner.SetAll(&delivery.Replica{Store: store, Applier: a})
	n.Applier = owner
	n.Messages = delivery.NewDB(delivery.DBConfig{
		Stream: n.Stream, Owner: owner, Clock: &r.clock, Now: r.broker.Now, Options: func() consumers.FrontOptions { return frontOptions(c) },
	})
	return a
}

func (r *room) openCounter(n *Namespace, progress *wal.Progress, run *roomRunner) consumers.Applier {
	t, c := r.t, n.Config()
	store, err := pebblecounter.Open(pebblecounter.Config{FS: vfs.NewMem(), Dir: "counter", Partitions: c.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	a := counter.NewApplier(counter.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: n.Stream.Log(), Letters: n.Letters, Applied: consumers.AdvanceOf(progress), Clock: &r.clock, Ledger: store},
		Store:      store, Windows: c.Counter.Windows,
		Settings: func(uint64) (counter.Settings, error) { return counter.Settings{TokenWindow: c.Tokens.Window}, nil },
	})
	t.Cleanup(func() {
		if err := a.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	owner := counter.NewLocal(progress, &counter.Replica{
		Store: store, Applier: a,
		Do: func(ctx context.Context, p wal.Partition, f func(context.Context) error) error {
			return run.Do(ctx, p, f)
		},
	})
	n.Applier = owner
	accuracies := map[string]counter.Accuracy{"best_effort": counter.BestEffort, "eventual": counter.Eventual, "accurate": counter.Accurate}
	n.Counter = counter.NewDB(counter.DBConfig{
		Stream: n.Stream, Clock: &r.clock, Now: r.broker.Now, BufferedLoss: r.broker.BufferedLoss(),
		Options: func() counter.Options {
			return counter.Options{FrontOptions: frontOptions(c), Accuracy: accuracies[c.Counter.Accuracy], Windows: c.Counter.Windows}
		},
		Owner: owner,
	})
	return a
}

// put writes one item and returns its position.
func (r *room) put(namespace, id, key, value string) string {
	r.t.Helper()
	res, err := r.kv.PutItems(context.Background(), &headwaterv1.PutItemsRequest{
		Namespace: namespace, Id: id, Items: []*headwaterv1.PutItem{{Key: []byte(key), Value: []byte(value)}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return res.GetResult().GetPosition()
}

// lines collects what ReadLog sends.
type lines struct {
	grpc.ServerStream
	ctx  context.Context
	sent chan *headwaterv1.ReadLogResponse
}

func (l *lines) Context() context.Context { return l.ctx }

func (l *lines) Send(m *headwaterv1.ReadLogResponse) error {
	select {
	case l.sent <- m:
		return nil
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// readLog reads a log to its end.
func (r *room) readLog(req *headwaterv1.ReadLogRequest) ([]*headwaterv1.ReadLogResponse, error) {
	l := &lines{ctx: r.t.Context(), sent: make(chan *headwaterv1.ReadLogResponse)}
	done := make(chan error, 1)
	go func() {
		err := r.log.ReadLog(req, l)
		close(l.sent)
		done <- err
	}()
	var all []*headwaterv1.ReadLogResponse
	for m := range l.sent {
		all = append(all, m)
	}
	return all, <-done
}

func fromPosition(p string) *headwaterv1.LogStart {
	return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Position{Position: p}}
}

// frontOptions are those of a configuration.
func frontOptions(c *namespace.Config) consumers.FrontOptions {
	return consumers.FrontOptions{DriftPast: c.Tokens.MaxDriftPast, DriftFuture: c.Tokens.MaxDriftFuture, TokenWindow: c.Tokens.Window}
}
