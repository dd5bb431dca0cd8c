package retention

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Target is one thing to sweep.
type Target struct {
	// Name is unique; it says what is swept in logs and status.
	Name string
	// Sweep does a bounded piece of work: at most limit keys. more says that it
	// would go on at once. It resumes where it was by itself.
	Sweep func(ctx context.Context, limit int) (more bool, err error)
}

// Config paces a Sweeper.
type Config struct {
	Limit  int           // keys a turn; default 1,000
	Pause  time.Duration // between two turns of a target that has more; default 50 ms
	Idle   time.Duration // between two rounds with nothing left; default 5 s
	Logger *slog.Logger  // nil: none
}

// Sweeper sweeps its targets in turn. Safe for concurrent use.
type Sweeper struct {
	cfg Config

	mu      sync.Mutex // guards targets
	targets map[string]*state
	order   []string
}

type state struct {
	t      Target
	failed string // the last error, so that one is logged once
	busy   sync.Mutex
}

// New returns a sweeper without targets.
func New(cfg Config) *Sweeper {
	if cfg.Limit == 0 {
		cfg.Limit = 1000
	}
	if cfg.Pause == 0 {
		cfg.Pause = 50 * time.Millisecond
	}
	if cfg.Idle == 0 {
		cfg.Idle = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sweeper{cfg: cfg, targets: make(map[string]*state)}
}

// Add puts a target in, in place of one of its name.
func (s *Sweeper) Add(t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.targets[t.Name]; !ok {
		s.order = append(s.order, t.Name)
	}
	s.targets[t.Name] = &state{t: t}
}

// Remove takes a target out and returns when it is not being swept.
func (s *Sweeper) Remove(name string) {
	s.mu.Lock()
	st := s.targets[name]
	delete(s.targets, name)
	for i, n := range s.order {
		if n == name {
			s.order = append(s.order[:i:i], s.order[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	if st != nil {
		st.busy.Lock() // waits for a turn that has begun
		defer st.busy.Unlock()
	}
}

// Run sweeps until ctx is done and returns nil.
func (s *Sweeper) Run(ctx context.Context) error {
	for {
		pause := s.cfg.Idle
		if s.round(ctx) {
			pause = s.cfg.Pause
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// round gives every target one turn and reports whether any has more to do.
func (s *Sweeper) round(ctx context.Context) (more bool) {
	s.mu.Lock()
	names := append([]string(nil), s.order...)
	s.mu.Unlock()
	for _, n := range names {
		if ctx.Err() != nil {
			return false
		}
		s.mu.Lock()
		st := s.targets[n]
		s.mu.Unlock()
		if st != nil && s.turn(ctx, st) {
			more = true
		}
	}
	return more
}

func (s *Sweeper) turn(ctx context.Context, st *state) bool {
	st.busy.Lock()
	defer st.busy.Unlock()
	more, err := st.t.Sweep(ctx, s.cfg.Limit)
	switch {
	case err == nil:
		st.failed = ""
		return more
	case ctx.Err() != nil:
	case err.Error() != st.failed:
		st.failed = err.Error()
		s.cfg.Logger.Warn("sweeping failed; it is tried again", "target", st.t.Name, "reason", err)
	}
	return false
}
