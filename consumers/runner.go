package consumers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/wal"
)

// Applier turns records into changes of a store: a Loop. The methods are called by
// one goroutine for each partition.
type Applier interface {
	// Assign loads a partition, before its first Resume.
	Assign(ctx context.Context, p wal.Partition) error
	// Resume returns the offset that the partition goes on from, as the store has
	// it saved. It forgets what an Apply that failed had begun.
	Resume(ctx context.Context, p wal.Partition) (wal.Offset, error)
	// Ready returns how many of entries may be applied now; where that is not all,
	// changed is closed when it may be more.
	Ready(p wal.Partition, entries []wal.Entry) (n int, changed <-chan struct{})
	// Apply applies entries in order, saves the position with the effect, and returns
	// how many it applied. On an error a prefix may have been applied.
	Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) (n int, err error)
	// Revoke saves what was applied of a partition and gives it up, after its last
	// Apply.
	Revoke(ctx context.Context, p wal.Partition) error
}

// Config is what a Runner is made of.
type Config struct {
	Namespace string
	Role      string // of the store: PRIMARY, ...
	Log       wal.Log
	Applier   Applier
	// Holding is told which entries are in hand before they are applied, and nil when
	// that has ended; may be nil.
	Holding func(p wal.Partition, entries []wal.Entry)
	// Stopped is told that a partition will not go on, and why; may be nil.
	Stopped func(p wal.Partition, err error)
	Logger  *slog.Logger // nil: none
	// MaxBackoff bounds the pause between two tries of a transient error. Default
	// 5 s; tries never end.
	MaxBackoff time.Duration
	// Pace returns how long to leave a partition alone after a batch that took so long,
	// so that what is built does not take the machine from those who are served. Nil:
	// not at all.
	Pace func(took time.Duration) time.Duration
	// Linger returns how long to wait for more after a batch of so many bytes, and what
	// ends the wait: a store that takes large blocks only gets fewer and larger ones. Nil:
	// not at all.
	Linger func(p wal.Partition, bytes int) (d time.Duration, wake <-chan struct{})
	// Finish is how long a batch in hand may take after its partition is stopped,
	// before its own context ends too. Default 5 s.
	Finish time.Duration
}

// Runner drives one applier over the partitions of one namespace that it is given.
// Safe for concurrent use.
type Runner struct {
	cfg Config

	mu    sync.Mutex // guards what follows
	parts []*partition
	ended bool
}

// New returns a runner without partitions.
func New(cfg Config) *Runner {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 5 * time.Second
	}
	if cfg.Finish == 0 {
		cfg.Finish = 5 * time.Second
	}
	return &Runner{cfg: cfg, parts: make([]*partition, cfg.Log.Info().Partitions)}
}

// Errors of a Runner.
var (
	// ErrNotRunning: the partition is not run here, or no longer.
	ErrNotRunning = errors.New("the partition is not running here")
	errRunning    = errors.New("the partition is running already")
)

// UnfinishedError says that a batch in hand was given up because its partition was
// stopped. The log has it; whoever runs the partition next applies it.
type UnfinishedError struct {
	Partition wal.Partition
	Cause     error
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("partition %d: the batch in hand is left to the next start: %v", e.Partition, e.Cause)
}

// Unwrap returns what kept the batch from being applied.
func (e *UnfinishedError) Unwrap() error { return e.Cause }

// outlive is a context that is done d after ctx is.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, cancel)
		context.AfterFunc(out, func() { t.Stop() })
	})
	return out, func() { stop(); cancel() }
}

// Start loads a partition and applies it until Stop, or until ctx is done: then it
// finishes the batch in flight, for Config.Finish at most. The error is that of loading it.
func (r *Runner) Start(ctx context.Context, p wal.Partition) error {
	run, cancel := context.WithCancel(ctx)
	part := &partition{r: r, p: p, jobs: make(chan job), gone: make(chan struct{}), cancel: cancel}
	r.mu.Lock()
	if r.ended || r.parts[p] != nil {
		r.mu.Unlock()
		cancel()
		return fmt.Errorf("start partition %d: %w", p, errRunning)
	}
	r.parts[p] = part
	r.mu.Unlock()
	if err := r.cfg.Applier.Assign(ctx, p); err != nil {
		r.forget(p)
		cancel()
		close(part.gone)
		return fmt.Errorf("start partition %d: %w", p, err)
	}
	go func() {
		defer close(part.gone)
		part.unfinished = part.run(run)
	}()
	return nil
}

// StartAll starts every partition.
func (r *Runner) StartAll(ctx context.Context) error {
	for p := range wal.Partition(len(r.parts)) {
		if err := r.Start(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends a partition after the batch in flight and saves what was applied.
// Another runner may start it then. A partition that is not running is left alone.
// *UnfinishedError: Config.Finish was too short for the batch.
func (r *Runner) Stop(ctx context.Context, p wal.Partition) error {
	part := r.partition(p)
	if part == nil {
		return nil
	}
	part.cancel()
	select {
	case <-part.gone:
	case <-ctx.Done():
		return fmt.Errorf("stop partition %d: %w", p, ctx.Err())
	}
	err := r.cfg.Applier.Revoke(ctx, p)
	r.forget(p)
	return errors.Join(part.unfinished, err)
}

// StopAll stops every partition, side by side. Nothing can be started afterwards.
func (r *Runner) StopAll(ctx context.Context) error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	errs := make([]error, len(r.parts))
	var work sync.WaitGroup
	for p := range wal.Partition(len(r.parts)) {
		work.Go(func() { errs[p] = r.Stop(ctx, p) })
	}
	work.Wait()
	return errors.Join(errs...)
}

func (r *Runner) partition(p wal.Partition) *partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[p]
}

func (r *Runner) forget(p wal.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[p] = nil
}

// Do runs f in the partition's goroutine, between two batches, and returns what
// it returns: the place for whatever else writes the store. ErrNotRunning.
func (r *Runner) Do(ctx context.Context, p wal.Partition, f func(context.Context) error) error {
	part := r.partition(p)
	if part == nil {
		return ErrNotRunning
	}
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

// Health reports the partitions that are running. Safe for concurrent use.
func (r *Runner) Health() []Health {
	r.mu.Lock()
	parts := slices.Clone(r.parts)
	r.mu.Unlock()
	hs := make([]Health, 0, len(parts))
	for _, p := range parts {
		if p == nil {
			continue
		}
		p.mu.Lock()
		h := p.health
		p.mu.Unlock()
		h.Partition = p.p
		hs = append(hs, h)
	}
	return hs
}

type job struct {
	f    func(context.Context) error
	done chan error
}

type partition struct {
	r      *Runner
	p      wal.Partition
	jobs   chan job
	gone   chan struct{} // closed when the goroutine has ended
	cancel context.CancelFunc
	// unfinished is the batch that was given up; read it after gone.
	unfinished error

	mu     sync.Mutex // guards health
	health Health
}

// run restarts the partition after transient errors until ctx is done or an
// error cannot pass. It returns an *UnfinishedError or nil.
func (p *partition) run(ctx context.Context) error {
	work, end := outlive(ctx, p.r.cfg.Finish)
	defer end()
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(p.r.cfg.MaxBackoff), backoff.WithMaxElapsedTime(0))
	for {
		err := p.follow(ctx, work, bo)
		if unfinished := (*UnfinishedError)(nil); errors.As(err, &unfinished) {
			return unfinished
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrSuperseded) { // who watches the claims stops the partition
			p.r.cfg.Logger.Info("a partition is another process's now", "namespace", p.r.cfg.Namespace, "role", p.r.cfg.Role, "partition", uint32(p.p), "reason", err)
			p.serveJobs(ctx, ErrNotRunning)
			return nil
		}
		if permanent(err) {
			p.stop(err)
			p.serveJobs(ctx, err)
			return nil
		}
		p.retrying(err)
		if !p.pause(ctx, bo.NextBackOff(), nil) {
			return nil
		}
	}
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	for _, e := range []error{wal.ErrUnknownVersion, wal.ErrCorrupt, wal.ErrIncarnation, wal.ErrPartitionCount,
		wal.ErrTrimmed, wal.ErrBeyondEnd, wal.ErrClosed, wal.ErrTopicNotFound, wal.ErrNoPartition, ErrCannotFollow, ErrNotAssigned} {
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
	if p.r.cfg.Stopped != nil {
		p.r.cfg.Stopped(p.p, err)
	}
}

func (p *partition) holding(entries []wal.Entry) {
	if p.r.cfg.Holding != nil {
		p.r.cfg.Holding(p.p, entries)
	}
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
func (p *partition) pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-wake:
			return true
		case j := <-p.jobs:
			j.done <- j.f(ctx)
		case <-ctx.Done():
			return false
		}
	}
}

func sizeOf(entries []wal.Entry) (bytes int) {
	for i := range entries {
		bytes += len(entries[i].Data)
	}
	return bytes
}

// serveJobs keeps a stopped partition open to Do, so that a sweep of the others
// does not hang on it.
func (p *partition) serveJobs(ctx context.Context, err error) {
	for {
		select {
		case j := <-p.jobs:
			j.done <- err
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

// follow resumes the partition and applies it until something fails. What it has
// begun when ctx ends it does in work.
func (p *partition) follow(ctx, work context.Context, bo *backoff.ExponentialBackOff) (err error) {
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
	var hand []wal.Entry // read and not applied: the reader's memory until next is signalled
	for {
		var changed <-chan struct{}
		for len(hand) > 0 && ctx.Err() == nil {
			var n int
			if n, changed = p.r.cfg.Applier.Ready(p.p, hand); n == 0 {
				break
			}
			// A batch that has begun is finished, if it can be in time: cancelling it at
			// once would gain nothing and make the last second of a shutdown the untested
			// one.
			p.holding(hand[:n])
			began := time.Now()
			n, err = p.r.cfg.Applier.Apply(work, p.p, hand[:n])
			p.holding(nil)
			if err != nil && work.Err() != nil {
				return &UnfinishedError{Partition: p.p, Cause: err}
			}
			if err != nil {
				return err
			}
			bo.Reset()
			p.healthy()
			if pace := p.r.cfg.Pace; pace != nil {
				if d := pace(time.Since(began)); d > 0 && !p.pause(ctx, d, nil) {
					return nil
				}
			}
			if linger := p.r.cfg.Linger; linger != nil && n == len(hand) {
				if d, wake := linger(p.p, sizeOf(hand)); d > 0 && !p.pause(ctx, d, wake) {
					return nil
				}
			}
			if hand = hand[n:]; len(hand) == 0 {
				select {
				case next <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
			}
		}
		in := batches
		if len(hand) > 0 {
			in = nil
		}
		select {
		case b := <-in:
			if b.err != nil {
				return fmt.Errorf("read: %w", b.err)
			}
			hand = b.entries
		case <-changed: // nil while nothing is waited for
		case j := <-p.jobs:
			j.done <- j.f(work)
		case <-ctx.Done():
			return nil
		}
	}
}
