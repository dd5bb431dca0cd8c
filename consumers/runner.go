package consumers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-db/headwater/wal"
)

// Applier turns records into changes of a store. The methods are called by one
// goroutine for each partition.
type Applier interface {
	// Resume returns the offset that the partition goes on from, as the store has
	// it saved. It forgets what an Apply that failed had begun.
	Resume(ctx context.Context, p wal.Partition) (wal.Offset, error)
	// Apply applies entries in order and saves the position with the effect. On
	// an error a prefix may have been applied.
	Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) error
}

// Config is what a Runner is made of.
type Config struct {
	Namespace string
	Role      string // of the store: PRIMARY, ...
	Log       wal.Log
	Applier   Applier
	Progress  *wal.Progress
	Logger    *slog.Logger // nil: none
	// MaxBackoff bounds the pause between two tries of a transient error. Default
	// 5 s; tries never end.
	MaxBackoff time.Duration
}

// Runner drives one applier over the partitions of one namespace.
type Runner struct {
	cfg   Config
	parts []*partition
}

// New returns a runner that has not started.
func New(cfg Config) *Runner {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 5 * time.Second
	}
	r := &Runner{cfg: cfg}
	for i := range cfg.Log.Info().Partitions {
		r.parts = append(r.parts, &partition{r: r, p: wal.Partition(i), jobs: make(chan job), gone: make(chan struct{})})
	}
	return r
}

// Run applies until ctx is done, finishes the batches in flight, and returns
// nil. A partition that stops does not end it.
func (r *Runner) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, p := range r.parts {
		g.Go(func() error {
			p.run(ctx)
			return nil
		})
	}
	return g.Wait()
}

// ErrNotRunning is returned by Do when the runner has ended.
var ErrNotRunning = errors.New("runner is not running")

// Do runs f in the partition's goroutine, between two batches, and returns what
// it returns: the place for whatever else writes the store. It waits for the
// runner to start. ErrNotRunning when the runner has ended.
func (r *Runner) Do(ctx context.Context, p wal.Partition, f func(context.Context) error) error {
	part := r.parts[p]
	j := job{f: f, done: make(chan error, 1)}
	select {
	case part.jobs <- j:
		return <-j.done
	case <-part.gone:
		return ErrNotRunning
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Health is the state of one partition.
type Health struct {
	Partition wal.Partition
	// Retrying is the transient error that holds the partition, nil when it runs.
	Retrying error
	Since    time.Time // of Retrying
	// Stopped is why it will not go on.
	Stopped error
}

// Health reports every partition. Safe for concurrent use.
func (r *Runner) Health() []Health {
	hs := make([]Health, len(r.parts))
	for i, p := range r.parts {
		p.mu.Lock()
		hs[i] = p.health
		p.mu.Unlock()
		hs[i].Partition = p.p
	}
	return hs
}

type job struct {
	f    func(context.Context) error
	done chan error
}

type partition struct {
	r    *Runner
	p    wal.Partition
	jobs chan job
	gone chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // guards health
	health Health
}

// run restarts the partition after transient errors until ctx is done or an
// error cannot pass.
func (p *partition) run(ctx context.Context) {
	defer close(p.gone)
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(p.r.cfg.MaxBackoff), backoff.WithMaxElapsedTime(0))
	for {
		err := p.follow(ctx, bo)
		if ctx.Err() != nil {
			return
		}
		if permanent(err) {
			p.stop(err)
			p.serveJobs(ctx)
			return
		}
		p.retrying(err)
		if !p.pause(ctx, bo.NextBackOff()) {
			return
		}
	}
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	for _, e := range []error{wal.ErrUnknownVersion, wal.ErrCorrupt, wal.ErrIncarnation, wal.ErrPartitionCount,
		wal.ErrTrimmed, wal.ErrBeyondEnd, wal.ErrClosed, wal.ErrTopicNotFound, wal.ErrNoPartition} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (p *partition) stop(err error) {
	p.r.cfg.Logger.Error("a partition has stopped: its records are kept and not applied", "namespace", p.r.cfg.Namespace,
		"role", p.r.cfg.Role, "partition", uint32(p.p), "reason", err)
	p.mu.Lock()
	p.health.Stopped, p.health.Retrying = err, nil
	p.mu.Unlock()
	p.r.cfg.Progress.Stop(p.p, err)
}

func (p *partition) retrying(err error) {
	p.mu.Lock()
	first := p.health.Retrying == nil
	p.health.Retrying = err
	if first {
		p.health.Since = time.Now()
	}
	p.mu.Unlock()
	if first {
		p.r.cfg.Logger.Warn("applying a partition is being retried", "namespace", p.r.cfg.Namespace, "role", p.r.cfg.Role,
			"partition", uint32(p.p), "reason", err)
	}
}

func (p *partition) healthy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health.Retrying = nil
}

// pause waits d, running jobs meanwhile; false when ctx ended.
func (p *partition) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case j := <-p.jobs:
			j.done <- j.f(ctx)
		case <-ctx.Done():
			return false
		}
	}
}

// serveJobs keeps a stopped partition open to Do, so that a sweep of the others
// does not hang on it.
func (p *partition) serveJobs(ctx context.Context) {
	for {
		select {
		case j := <-p.jobs:
			j.done <- p.r.cfg.Progress.Stopped(p.p)
		case <-ctx.Done():
			return
		}
	}
}

// fetched is what the reading goroutine hands over. The entries are the reader's
// until next is signalled.
type fetched struct {
	entries []wal.Entry
	err     error
}

// follow resumes the partition and applies it until something fails.
func (p *partition) follow(ctx context.Context, bo *backoff.ExponentialBackOff) (err error) {
	from, err := p.r.cfg.Applier.Resume(ctx, p.p)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	reader, err := p.r.cfg.Log.Read(ctx, p.p, from)
	if err != nil {
		return fmt.Errorf("read from %d: %w", from, err)
	}
	readCtx, cancel := context.WithCancel(ctx)
	batches, next := make(chan fetched), make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			entries, err := reader.Next(readCtx)
			select {
			case batches <- fetched{entries, err}:
			case <-readCtx.Done():
				return
			}
			select {
			case <-next:
			case <-readCtx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		wg.Wait()
		if cerr := reader.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close reader: %w", cerr)
		}
	}()
	for {
		select {
		case b := <-batches:
			if b.err != nil {
				return fmt.Errorf("read: %w", b.err)
			}
			// A batch that has begun is finished: cancelling it would gain nothing and
			// make the last second of a shutdown the untested one.
			p.r.cfg.Progress.Hold(p.p, b.entries)
			err := p.r.cfg.Applier.Apply(context.WithoutCancel(ctx), p.p, b.entries)
			p.r.cfg.Progress.Release(p.p)
			if err != nil {
				return err
			}
			bo.Reset()
			p.healthy()
			select {
			case next <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		case j := <-p.jobs:
			j.done <- j.f(context.WithoutCancel(ctx))
		case <-ctx.Done():
			return nil
		}
	}
}
