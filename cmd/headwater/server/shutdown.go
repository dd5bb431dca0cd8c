package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// UnfinishedError says that a shutdown took too long, and what of it was left. What
// was acknowledged is in the log, and is applied at the next start.
type UnfinishedError struct {
	After time.Duration
	Left  []string
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("the shutdown is not over after %v and is given up; left: %s; what was acknowledged is in the log, and the next start applies it",
		e.After, strings.Join(e.Left, ", "))
}

// closing is the one shutdown of a server, and what of it is under way.
type closing struct {
	once sync.Once
	done chan struct{} // closed when err is set
	err  error

	mu   sync.Mutex // guards left
	left []string   // by when it began
}

// step runs a part of the shutdown, which is left until it returns.
func (c *closing) step(what string, f func() error) error {
	c.mu.Lock()
	c.left = append(c.left, what)
	c.mu.Unlock()
	err := f()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.left, what)
	c.left = slices.Delete(c.left, i, i+1)
	return err
}

// Drain stops as SIGTERM does: not ready, the delay, requests in hand answered,
// batches in flight applied, everything closed. It returns what went wrong on
// the way: an *UnfinishedError when Config.ShutdownTimeout was not enough, after
// which the process is to end.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.setReady(false)
	t := time.NewTimer(s.cfg.DrainDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	s.groups.handOver(ctx)
	s.gateways.leave(ctx)
	return s.shutDown(func() error {
		requests, cancel := context.WithTimeout(ctx, 3*s.cfg.ShutdownTimeout/5)
		defer cancel()
		if s.gate == nil {
			return nil
		}
		return s.gate.Drain(requests)
	})
}

// Close stops at once: requests in hand are cut off, which makes their outcome
// unknown to their callers and loses nothing that was acknowledged. It returns
// within Config.ShutdownTimeout; see Drain. Called again it goes on waiting.
func (s *Server) Close() error { return s.shutDown(func() error { return nil }) }

// shutDown begins the shutdown with drain, unless it has begun, and waits for its
// end.
func (s *Server) shutDown(drain func() error) error {
	s.draining.Store(true)
	c := &s.closing
	c.once.Do(func() {
		c.done = make(chan struct{})
		go func() {
			defer close(c.done)
			c.err = errors.Join(c.step("requests in hand", drain), s.closeAll())
		}()
	})
	t := time.NewTimer(s.cfg.ShutdownTimeout)
	defer t.Stop()
	select {
	case <-c.done:
		return c.err
	case <-t.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &UnfinishedError{After: s.cfg.ShutdownTimeout, Left: slices.Clone(c.left)}
}

func (s *Server) closeAll() error {
	step := s.closing.step
	err := step("the listeners", func() error {
		var err error
		if s.gate != nil {
			err = s.gate.Close()
		}
		if s.inside != nil { // while the stores are open
			err = errors.Join(err, s.inside.close())
		}
		return errors.Join(err, s.admin.close())
	})
	s.cancel()
	err = errors.Join(err, step("work in the background", s.work.Wait), s.spaces.close(), step("the consumer groups", func() error {
		s.groups.close()
		s.gateways.close()
		return nil
	}), step("the namespace registry", func() error {
		s.names.Close()
		return nil
	}), step("the log", s.broker.Close))
	if s.peers != nil {
		s.peers.Close()
	}
	s.cache.Unref()
	err = errors.Join(err, s.closeClusters())
	if s.dir != nil {
		err = errors.Join(err, s.dir.close())
	}
	return errors.Join(err, s.closeListeners())
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, l := range []net.Listener{s.httpL, s.grpcL, s.adminL, s.insideL} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
