package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// patienceForVersion is how long an applier waits for a version of the
// configuration before it lets its runner try again.
const patienceForVersion = 5 * time.Second

// primary is the role of the one store that namespaces have so far.
const primary = "PRIMARY"

// space is one open namespace: its log, store, applier and runner.
type space struct {
	s       *Server
	ns      *gateway.Namespace
	log     wal.Log
	letters wal.Log // the topic of its dead letters
	backend backend // nil for a log namespace
	runner  *consumers.Runner
	cancel  context.CancelFunc
	work    sync.WaitGroup
	ready   chan struct{} // closed when it takes writes, or never will

	mu      sync.Mutex // guards what follows
	entry   *namespace.Entry
	upkeep  []upkeep                     // by partition
	durable map[wal.Partition]wal.Offset // of the store, as of the last keep; nil before the first
}

// openSpace opens a namespace and starts applying its log. It returns before the
// log is caught up; the namespace is ready then.
func (s *Server) openSpace(ctx context.Context, e *namespace.Entry) (_ *space, err error) {
	x := &space{s: s, entry: e, ready: make(chan struct{})}
	defer func() {
		if err != nil && x.backend != nil {
			err = errors.Join(err, x.backend.closeStore())
		}
	}()
	b, dir, err := x.newBackend()
	if err != nil {
		return nil, err
	}
	if b != nil {
		x.backend = b
		if err := s.names.Claim(ctx, e.Name, s.dir.id); err != nil {
			return nil, fmt.Errorf("claim namespace %s: %w; serve it with the data directory that owns it", e.Name, err)
		}
	}
	if x.log, err = s.broker.Open(ctx, e.Topic); err != nil {
		return nil, fmt.Errorf("open topic %s: %w", e.Topic, err)
	}
	info := x.log.Info()
	if info.Incarnation != e.Incarnation {
		return nil, fmt.Errorf("topic %s: %w: it is %s, the registry has %s", e.Topic, wal.ErrIncarnation, info.Incarnation, e.Incarnation)
	}
	x.upkeep = make([]upkeep, info.Partitions)
	x.ns = &gateway.Namespace{Name: e.Name, StoreState: x.storeState, TrimBlocked: x.trimBlocked}
	x.ns.SetConfig(e.Config)
	if x.letters, err = s.broker.Open(ctx, e.DeadLetterTopic); err != nil {
		return nil, fmt.Errorf("open topic %s: %w", e.DeadLetterTopic, err)
	}
	if x.ns.Letters, err = consumers.OpenDeadLetters(ctx, x.letters, s.countLetter); err != nil {
		return nil, fmt.Errorf("read topic %s: %w", e.DeadLetterTopic, err)
	}
	progress := wal.NewProgress(info.Partitions)
	x.ns.Stream = wal.NewStream(wal.StreamConfig{Namespace: e.Name, Log: x.log, Progress: progress})
	var applier consumers.Applier
	if x.backend != nil {
		if applier, err = x.openBackend(ctx, dir, progress); err != nil {
			return nil, err
		}
	} else {
		x.ns.Messages = wal.NewMessages(x.ns.Stream, s.broker.Now, func() time.Duration { return x.ns.Config().Tokens.Window })
		applier = x.ns.Messages
	}
	x.runner = consumers.New(consumers.Config{Namespace: e.Name, Role: primary, Log: x.log, Applier: applier, Progress: progress, Logger: s.log})
	run, cancel := context.WithCancel(s.run)
	x.cancel = cancel
	x.work.Go(func() {
		if err := x.runner.Run(run); err != nil {
			x.ns.Fail(err)
		}
	})
	x.noteEnds(ctx, progress)
	x.work.Go(func() { x.catchUp(run) })
	if x.backend != nil {
		x.work.Go(func() { x.backend.run(run) })
	}
	x.addTargets()
	return x, nil
}

// configure puts a changed configuration into force.
func (x *space) configure(e *namespace.Entry) {
	x.mu.Lock()
	x.entry = e
	x.mu.Unlock()
	x.ns.SetConfig(e.Config)
	if x.backend != nil {
		x.backend.configure(e.Config)
	}
}

// noteEnds counts what the log holds as acknowledged: an earlier process did so.
// Until it is applied, reads of this one's writes wait for it, and an answer at
// once says that it is pending instead of passing for complete. A log that
// cannot be asked now is asked by catchUp.
func (x *space) noteEnds(ctx context.Context, progress *wal.Progress) {
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		if b, err := x.log.Bounds(ctx, p); err == nil {
			progress.Ack(p, b.End-1)
		}
	}
}

// catchUp lets writes in once everything that the log held is applied: only then
// is every token known.
func (x *space) catchUp(ctx context.Context) {
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		o, err := x.end(ctx, p)
		if err == nil {
			x.ns.Stream.Progress().Ack(p, o)
			err = x.ns.Stream.WaitApplied(ctx, p, o)
		}
		if err != nil {
			if ctx.Err() == nil {
				x.ns.Fail(fmt.Errorf("namespace %s: read its log: %w", x.ns.Name, err))
				x.s.log.Error("a namespace takes no writes", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			}
			close(x.ready)
			return
		}
	}
	x.ns.SetReady()
	close(x.ready)
}

// end asks for the end of a partition's log until it gets an answer.
func (x *space) end(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	for {
		b, err := x.log.Bounds(ctx, p)
		if err == nil {
			return b.End - 1, nil
		}
		if !errors.Is(err, wal.ErrUnavailable) {
			return wal.NoOffset, err
		}
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return wal.NoOffset, ctx.Err()
		}
	}
}

func (x *space) waitReady(ctx context.Context) error {
	select {
	case <-x.ready:
		return x.ns.Failed()
	case <-ctx.Done():
		return fmt.Errorf("wait for namespace %s to read its log: %w", x.ns.Name, ctx.Err())
	}
}

// storeState tells how the runner fares: a partition that has stopped counts
// before one that is retried.
func (x *space) storeState() (state, reason string) {
	state = "running"
	for _, h := range x.runner.Health() {
		if h.Stopped != nil {
			return "stopped", fmt.Sprintf("partition %d: %v", h.Partition, h.Stopped)
		}
		if h.Retrying != nil {
			state, reason = "retrying", fmt.Sprintf("partition %d: %v", h.Partition, h.Retrying)
		}
	}
	return state, reason
}

// failedSpace stands for a namespace that cannot be opened, so that its callers
// are told why.
func (s *Server) failedSpace(e *namespace.Entry, err error) *space {
	x := &space{s: s, entry: e, ready: make(chan struct{})}
	close(x.ready)
	reason := err.Error()
	if errors.Is(err, namespace.ErrOwned) {
		reason = apierrors.NotOwner + ": " + reason
	}
	x.ns = &gateway.Namespace{Name: e.Name, StoreState: func() (string, string) { return "stopped", reason }}
	x.ns.SetConfig(e.Config)
	x.ns.Fail(err)
	return x
}

// close stops applying, after the batch in hand, and closes the store.
func (x *space) close() error {
	x.removeTargets()
	if x.cancel != nil {
		x.cancel()
	}
	x.work.Wait()
	if x.backend == nil {
		return nil
	}
	err := x.backend.drain(context.Background())
	if err == nil {
		_, err = x.backend.sync(context.Background())
	}
	return errors.Join(err, x.backend.closeStore())
}

func (x *space) removeStore() error {
	return os.RemoveAll(x.s.dir.storeDir(x.entry.Incarnation.String()))
}
