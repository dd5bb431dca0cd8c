package proof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/pebbledelivery"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// pipeline is a key-value and a log namespace on a file system of the test's
// choice: log, runner, applier, store and services, as the server puts them
// together, without its data directory and registry.
type pipeline struct {
	broker  *pebblelog.Broker
	log     wal.Log
	store   *pebblekv.Store
	applier *kv.Applier
	// messages is the store of the log namespace.
	messages *pebbledelivery.Store
	runner   *consumers.Runner
	owner    *kv.Local
	// applierConfig is what applier was made of, for another on the same store.
	applierConfig kv.ApplierConfig

	clock wal.Clock
	space *gateway.Namespace
	// applied is where the store was when it was opened, by partition.
	applied []wal.Offset

	c      *conn
	cancel context.CancelFunc
	work   sync.WaitGroup
	// runners apply until they are stopped.
	runners []*consumers.Runner
	server  *grpc.Server
}

const (
	pipelineKV  = "power-kv"
	pipelineLog = "power-log"
)

// openPipeline opens everything on fs and waits until the store is caught up.
// now is the log's clock at start, nil the real one.
func openPipeline(fs vfs.FS, now func() time.Time) (_ *pipeline, err error) {
	p := &pipeline{}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	quiet := slog.New(slog.DiscardHandler)
	p.broker, err = pebblelog.Open(pebblelog.Config{FS: fs, Dir: "log", FreeSpaceFloor: -1, MemTableBytes: 128 << 10, CacheBytes: 1 << 20, Logger: quiet, Now: now})
	if err != nil {
		return nil, err
	}
	dir := gateway.NewDirectory()
	add := func(name, abstraction string) (*gateway.Namespace, *wal.Progress, error) {
		d, err := namespace.Parse(fmt.Sprintf("namespace: %s\nabstraction: %s\nlog: { partitions: 2 }\n", name, abstraction), namespace.Defaults{Partitions: 2})
		if err != nil {
			return nil, nil, err
		}
		log, err := p.broker.Create(ctx, wal.TopicSpec{Name: "headwater." + abstraction + "." + name + ".1", Partitions: 2})
		if err != nil {
			return nil, nil, err
		}
		n, progress := &gateway.Namespace{Name: name}, wal.NewProgress(2)
		n.SetConfig(d.Config)
		n.Stream = wal.NewStream(wal.StreamConfig{Namespace: name, Log: log, Progress: progress})
		dir.Add(n)
		return n, progress, nil
	}
	start := func(n *gateway.Namespace, a consumers.Applier, progress *wal.Progress) *consumers.Runner {
		r := consumers.New(consumers.Config{Namespace: n.Name, Role: "PRIMARY", Log: n.Stream.Log(), Applier: a, Stopped: progress.Stop, Logger: quiet})
		if err := r.StartAll(ctx); err != nil {
			n.Fail(err)
		}
		p.runners = append(p.runners, r)
		return r
	}

	n, progress, err := add(pipelineKV, "kv")
	if err != nil {
		return nil, err
	}
	p.space, p.log = n, n.Stream.Log()
	letters, err := p.broker.Create(ctx, wal.TopicSpec{Name: "headwater.dlq." + pipelineKV + ".1", Partitions: 1})
	if err != nil {
		return nil, err
	}
	if n.Letters, err = consumers.OpenDeadLetters(ctx, letters, func(string) {}); err != nil {
		return nil, err
	}
	if p.store, err = pebblekv.Open(pebblekv.Config{FS: fs, Dir: "kv", Partitions: 2, MemTableBytes: 64 << 10, CacheBytes: 1 << 20}); err != nil {
		return nil, err
	}
	for i := range wal.Partition(2) {
		st, err := p.store.State(ctx, i)
		if err != nil {
			return nil, err
		}
		p.applied = append(p.applied, st.Applied)
	}
	window := n.Config().Tokens.Window
	p.applierConfig = kv.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: p.log, Letters: n.Letters, Applied: consumers.AdvanceOf(progress), Clock: &p.clock, Ledger: p.store}, Store: p.store,
		Settings: func(uint64) (kv.Settings, error) { return kv.Settings{TokenWindow: window}, nil }}
	p.applier = kv.NewApplier(p.applierConfig)
	p.owner = kv.NewLocal(progress, &kv.Replica{Store: p.store, Applier: p.applier})
	n.Applier = p.owner
	n.KV = kv.NewDB(kv.DBConfig{Stream: n.Stream, Owner: p.owner, Clock: &p.clock, Now: p.broker.Now, Options: func() kv.Options {
		c := n.Config()
		return kv.Options{FrontOptions: frontOptions(c)}
	}})
	p.runner = start(n, p.applier, progress)

	m, progress, err := add(pipelineLog, "log")
	if err != nil {
		return nil, err
	}
	letters, err = p.broker.Create(ctx, wal.TopicSpec{Name: "headwater.dlq." + pipelineLog + ".1", Partitions: 1})
	if err != nil {
		return nil, err
	}
	if m.Letters, err = consumers.OpenDeadLetters(ctx, letters, func(string) {}); err != nil {
		return nil, err
	}
	if p.messages, err = pebbledelivery.Open(pebbledelivery.Config{FS: fs, Dir: "messages", Partitions: 2, MemTableBytes: 64 << 10, CacheBytes: 1 << 20}); err != nil {
		return nil, err
	}
	messages := delivery.NewApplier(delivery.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: m.Stream.Log(), Letters: m.Letters, Applied: consumers.AdvanceOf(progress), Clock: &p.clock, Ledger: p.messages}, Store: p.messages,
		Rules: func(uint64) (*delivery.Rules, error) { return &delivery.Rules{Window: window}, nil }})
	owner := delivery.NewLocal(progress)
	owner.SetAll(&delivery.Replica{Store: p.messages, Applier: messages})
	m.Applier = owner
	m.Messages = delivery.NewDB(delivery.DBConfig{Stream: m.Stream, Owner: owner, Clock: &p.clock, Now: p.broker.Now, Options: func() consumers.FrontOptions { return frontOptions(m.Config()) }})
	start(m, messages, progress)

	for _, n := range []*gateway.Namespace{n, m} {
		for i := range wal.Partition(2) {
			b, err := n.Stream.Log().Bounds(ctx, i)
			if err != nil {
				return nil, err
			}
			if err := n.Stream.WaitApplied(ctx, i, b.End-1); err != nil {
				return nil, err
			}
		}
		n.SetReady()
	}
	return p, p.serve(dir)
}

// serve puts the services behind a connection in memory.
func (p *pipeline) serve(dir *gateway.Directory) error {
	pages, err := gateway.NewPageTokens(make([]byte, gateway.PageKeySize))
	if err != nil {
		return err
	}
	p.server = grpc.NewServer()
	headwaterv1.RegisterKeyValueServiceServer(p.server, gateway.NewKeyValue(dir, pages))
	headwaterv1.RegisterLogServiceServer(p.server, gateway.NewLog(dir, p.broker, nil))
	lis := bufconn.Listen(1 << 20)
	p.work.Go(func() {
		_ = p.server.Serve(lis) // ends by Stop
	})
	cc, err := grpc.NewClient("passthrough:pipeline", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		return err
	}
	p.c = &conn{cc: cc, kv: headwaterv1.NewKeyValueServiceClient(cc), log: headwaterv1.NewLogServiceClient(cc)}
	return nil
}

func (p *pipeline) close() error {
	if p.c != nil {
		p.c.close()
	}
	if p.server != nil {
		p.server.Stop()
	}
	p.cancel()
	p.work.Wait()
	for _, r := range p.runners {
		stopped(r)
	}
	var errs []error
	if p.messages != nil {
		errs = append(errs, p.messages.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.broker != nil {
		errs = append(errs, p.broker.Close())
	}
	return errors.Join(errs...)
}

func mustOpenPipeline(t *testing.T, fs vfs.FS, now func() time.Time) *pipeline {
	t.Helper()
	p, err := openPipeline(fs, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stopped ends a runner. What its partitions could not save is in the log.
func stopped(r *consumers.Runner) {
	_ = r.StopAll(context.Background()) // a store that lost its power says so
}

// frontOptions are those of a configuration.
func frontOptions(c *namespace.Config) consumers.FrontOptions {
	return consumers.FrontOptions{
		Version: c.Version, DriftPast: c.Tokens.MaxDriftPast, DriftFuture: c.Tokens.MaxDriftFuture, TokenWindow: c.Tokens.Window,
		MaxLiveTokens: c.Tokens.MaxLive,
	}
}
