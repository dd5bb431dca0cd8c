package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Target is one thing to sweep.
type Target struct {
	// Name is unique; it says what is swept in logs and status.
	Name string
	// Sweep does a bounded piece of work: at most limit keys. more says that it
	// would go on at once. It resumes where it was by itself. ctx ends when the turn
	// has taken too long.
	Sweep func(ctx context.Context, limit int) (more bool, err error)
	// Every is the pause after a turn that left nothing to do; Config.Idle unless
	// said.
	Every time.Duration
}

// Config paces a Sweeper. Zero values are the defaults.
type Config struct {
	Limit    int           // keys a turn; default 1,000
	Pause    time.Duration // of a target between two turns while it has more; default 50 ms
	Idle     time.Duration // of a target that says nothing else, after a turn that left nothing; default 5 s
	Deadline time.Duration // how long a turn may take; default 10 s
	// MaxBackoff bounds the pause of a target that fails again and again, which
	// doubles from Idle; default 1 min.
	MaxBackoff time.Duration
	// Rate is how many turns of all targets begin in a second; default 200.
	Rate   int
	Logger *slog.Logger // nil: none
}

// Sweeper gives each of its targets turns, in a goroutine of the target's own.
// Safe for concurrent use.
type Sweeper struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	targets map[string]*state
	next    time.Time       // when the next turn of any target may begin
	run     context.Context // nil while Run is not running
	work    sync.WaitGroup
}

type state struct {
	t      Target
	cancel context.CancelFunc // nil before the goroutine is started
	done   chan struct{}      // closed when it has ended
	failed bool               // the last turn; so that one line is logged, and one at the end
}

// ErrSlow is in the error of a turn that took longer than Config.Deadline.
var ErrSlow = errors.New("the turn took too long")

// New returns a sweeper without targets.
func New(cfg Config) *Sweeper {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&cfg.Pause, 50 * time.Millisecond}, {&cfg.Idle, 5 * time.Second}, {&cfg.Deadline, 10 * time.Second}, {&cfg.MaxBackoff, time.Minute}} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if cfg.Limit == 0 {
		cfg.Limit = 1000
	}
	if cfg.Rate == 0 {
		cfg.Rate = 200
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sweeper{cfg: cfg, targets: make(map[string]*state)}
}

// Add puts a target in, in place of one of its name, whose turn it waits for.
func (s *Sweeper) Add(t Target) {
	s.Remove(t.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Every == 0 {
		t.Every = s.cfg.Idle
	}
	st := &state{t: t, done: make(chan struct{})}
	s.targets[t.Name] = st
	if s.run != nil {
		s.start(st)
	}
}

// start begins the turns of a target. mu is held.
func (s *Sweeper) start(st *state) {
	var ctx context.Context
	ctx, st.cancel = context.WithCancel(s.run)
	s.work.Go(func() {
		defer close(st.done)
		s.sweep(ctx, st)
	})
}

// Remove takes a target out. It ends a turn that has begun and returns when that
// has ended.
func (s *Sweeper) Remove(name string) {
	s.mu.Lock()
	st := s.targets[name]
	delete(s.targets, name)
	started := st != nil && st.cancel != nil
	if started {
		st.cancel()
	}
	s.mu.Unlock()
	if started {
		<-st.done
	}
}

// Run sweeps until ctx is done, waits for the turns that have begun, and returns
// nil. It is called once.
func (s *Sweeper) Run(ctx context.Context) error {
	s.mu.Lock()
	s.run = ctx
	for _, st := range s.targets {
		s.start(st)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

// sweep gives a target its turns until ctx is done.
func (s *Sweeper) sweep(ctx context.Context, st *state) {
	defer st.cancel()
	backoff := min(s.cfg.Idle, s.cfg.MaxBackoff)
	for {
		if !pause(ctx, s.slot()) {
			return
		}
		more, err := s.turn(ctx, st)
		rest := st.t.Every
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			rest = max(rest, backoff)
			backoff = min(2*backoff, s.cfg.MaxBackoff)
		case more:
			rest = s.cfg.Pause
		}
		if err == nil {
			backoff = min(s.cfg.Idle, s.cfg.MaxBackoff)
		}
		if !pause(ctx, rest) {
			return
		}
	}
}

// slot takes the next moment at which a turn may begin, and returns how far off it
// is.
func (s *Sweeper) slot() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	at := s.next
	if at.Before(now) {
		at = now
	}
	s.next = at.Add(time.Second / time.Duration(s.cfg.Rate))
	return at.Sub(now)
}

// pause is false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (s *Sweeper) turn(run context.Context, st *state) (more bool, err error) {
	ctx, cancel := context.WithTimeoutCause(run, s.cfg.Deadline, ErrSlow)
	defer cancel()
	more, err = st.t.Sweep(ctx, s.cfg.Limit)
	switch {
	case run.Err() != nil:
		return false, nil
	case err != nil && errors.Is(context.Cause(ctx), ErrSlow):
		err = fmt.Errorf("%w (%v): %w", ErrSlow, s.cfg.Deadline, err)
	}
	switch {
	case err == nil && st.failed:
		s.cfg.Logger.Info("sweeping goes on", "target", st.t.Name)
	case err != nil && !st.failed:
		s.cfg.Logger.Warn("sweeping failed; it is tried again", "target", st.t.Name, "reason", err)
	}
	st.failed = err != nil
	return more && err == nil, err
}
