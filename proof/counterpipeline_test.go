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
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

const (
	pipelineCounter    = "power-counter"
	pipelinePartitions = 3
	// pipelineEvents is how long the pipeline keeps events before they are folded.
	pipelineEvents = 20 * time.Millisecond
)

// counterPipeline is a counter namespace on a file system of the test's choice:
// log, runner, applier, store and service, as the server puts them together,
// without its data directory, registry and clocks: what the server does once a
// second is done when the test says so.
type counterPipeline struct {
	broker  *pebblelog.Broker
	log     wal.Log
	store   *pebblecounter.Store
	applier *counter.Applier
	runner  *consumers.Runner
	owner   *counter.Local
	// What applier and runner were made of, for another pair on the same store.
	applierConfig counter.ApplierConfig
	runnerConfig  consumers.Config

	clock wal.Clock
	space *gateway.Namespace
	// saved is where the store was when it was opened, by partition.
	saved []wal.Offset

	c      *conn
	cancel context.CancelFunc
	work   sync.WaitGroup
	server *grpc.Server
}

// openCounterPipeline opens everything on fs and waits until the appliers are
// caught up. now is the log's clock at start, nil the real one; hotBytes bounds the
// counters in memory, 0 is the default.
func openCounterPipeline(fs vfs.FS, now func() time.Time, hotBytes int64) (_ *counterPipeline, err error) {
	p := &counterPipeline{}
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
	d, err := namespace.Parse(fmt.Sprintf("namespace: %s\nabstraction: counter\nlog: { partitions: %d }\n", pipelineCounter, pipelinePartitions), namespace.Defaults{Partitions: pipelinePartitions})
	if err != nil {
		return nil, err
	}
	if p.log, err = p.broker.Create(ctx, wal.TopicSpec{Name: "headwater.counter." + pipelineCounter + ".1", Partitions: pipelinePartitions}); err != nil {
		return nil, err
	}
	letters, err := p.broker.Create(ctx, wal.TopicSpec{Name: "headwater.dlq." + pipelineCounter + ".1", Partitions: 1})
	if err != nil {
		return nil, err
	}
	n, progress := &gateway.Namespace{Name: pipelineCounter}, wal.NewProgress(pipelinePartitions)
	n.SetConfig(d.Config)
	n.Stream = wal.NewStream(wal.StreamConfig{Namespace: pipelineCounter, Log: p.log, Progress: progress})
	if n.Letters, err = consumers.OpenDeadLetters(ctx, letters, func(string) {}); err != nil {
		return nil, err
	}
	p.space = n
	if err := p.openStore(ctx, fs); err != nil {
		return nil, err
	}
	windows, window := d.Config.Counter.Windows, d.Config.Tokens.Window
	p.applierConfig = counter.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: p.log, Letters: n.Letters, Applied: consumers.AdvanceOf(progress), Clock: &p.clock, Ledger: p.store},
		Store:      p.store, Windows: windows, FlushCounters: 64, HotBytes: hotBytes,
		Settings: func(uint64) (counter.Settings, error) { return counter.Settings{TokenWindow: window}, nil },
	}
	p.applier = counter.NewApplier(p.applierConfig)
	p.runnerConfig = consumers.Config{Namespace: n.Name, Role: "PRIMARY", Log: p.log, Applier: p.applier, Stopped: progress.Stop, Logger: quiet}
	p.runner = consumers.New(p.runnerConfig)
	p.owner = counter.NewLocal(progress, &counter.Replica{Store: p.store, Applier: p.applier, Do: p.runner.Do})
	n.Applier = p.owner
	n.Counter = counter.NewDB(counter.DBConfig{
		Stream: n.Stream, Owner: p.owner,
		Clock: &p.clock, Now: p.broker.Now, BufferedLoss: p.broker.BufferedLoss(),
		Options: func() counter.Options {
			c := n.Config()
			return counter.Options{FrontOptions: frontOptions(c), Accuracy: counter.Eventual, Windows: windows}
		},
	})
	if err := p.runner.StartAll(ctx); err != nil {
		return nil, err
	}
	for i := range wal.Partition(pipelinePartitions) {
		b, err := p.log.Bounds(ctx, i)
		if err != nil {
			return nil, err
		}
		if err := n.Stream.WaitApplied(ctx, i, b.End-1); err != nil {
			return nil, err
		}
	}
	n.SetReady()
	return p, p.serve()
}

func (p *counterPipeline) openStore(ctx context.Context, fs vfs.FS) (err error) {
	p.store, err = pebblecounter.Open(pebblecounter.Config{FS: fs, Dir: "counter", Partitions: pipelinePartitions, MemTableBytes: 64 << 10, CacheBytes: 1 << 20})
	if err != nil {
		return err
	}
	for i := range wal.Partition(pipelinePartitions) {
		st, err := p.store.State(ctx, i)
		if err != nil {
			return err
		}
		p.saved = append(p.saved, st.Applied)
	}
	return nil
}

// serve puts the service behind a connection in memory.
func (p *counterPipeline) serve() error {
	pages, err := gateway.NewPageTokens(make([]byte, gateway.PageKeySize))
	if err != nil {
		return err
	}
	dir := gateway.NewDirectory()
	dir.Add(p.space)
	p.server = grpc.NewServer()
	headwaterv1.RegisterCounterServiceServer(p.server, gateway.NewCounter(dir, pages))
	lis := bufconn.Listen(1 << 20)
	p.work.Go(func() {
		_ = p.server.Serve(lis) // ends by Stop
	})
	cc, err := grpc.NewClient("passthrough:pipeline", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		return err
	}
	p.c = &conn{cc: cc}
	return nil
}

func (p *counterPipeline) close() error {
	if p.c != nil {
		p.c.close()
	}
	if p.server != nil {
		p.server.Stop()
	}
	p.cancel()
	p.work.Wait()
	if p.runner != nil {
		stopped(p.runner)
	}
	var errs []error
	if p.applier != nil {
		errs = append(errs, p.applier.Drain(context.Background()))
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.broker != nil {
		errs = append(errs, p.broker.Close())
	}
	return errors.Join(errs...)
}

func mustOpenCounterPipeline(t *testing.T, fs vfs.FS, hotBytes int64) *counterPipeline {
	t.Helper()
	p, err := openCounterPipeline(fs, nil, hotBytes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
