package demo

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/headwater-db/headwater/client"
)

// live tells what happens, on a terminal in one line that changes, else now and
// then in a line of its own. Safe for concurrent use.
type live struct {
	w        io.Writer
	terminal bool
	start    time.Time

	mu sync.Mutex // guards writes
}

func newLive(w io.Writer) *live {
	return &live{w: w, terminal: terminal(w) != nil, start: time.Now()}
}

// say prints a line that stays. Nobody is left to tell when it cannot be printed.
func (l *live) say(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	fmt.Fprintf(l.w, format+"\n", a...)
}

func (l *live) clear() {
	if l.terminal {
		fmt.Fprintf(l.w, "\r\x1b[K")
	}
}

// show replaces the line on a terminal, or adds one.
func (l *live) show(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	text = fmt.Sprintf("%5.1f s  %s", time.Since(l.start).Seconds(), text)
	if l.terminal {
		fmt.Fprintf(l.w, "%s", text)
	} else {
		fmt.Fprintf(l.w, "%s\n", text)
	}
}

// phase is what a storm is at. Safe for concurrent use.
type phase struct {
	storm *storm

	mu   sync.Mutex // guards what
	what string
}

func (p *phase) is(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

func (p *phase) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.storm
	if acked := s.acked.Load(); acked < int64(s.calls) && p.what == "counting" {
		return fmt.Sprintf("%s: %s, %2d %%, killed %d of %d", s.name, p.what, 100*acked/int64(s.calls), s.killed(), len(s.work.kills))
	}
	return s.name + ": " + p.what
}

// follow shows the phase, and a counter where addr is set, until end is called.
func (l *live) follow(p *phase, addr, counter string) (end func(), err error) {
	var c *client.Client
	if addr != "" {
		// It comes back sooner than clients do, to be seen at once.
		soon := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond}, MinConnectTimeout: time.Second}
		cfg := client.Config{FailFast: true, Timeout: time.Second, NoSession: true, DialOptions: []grpc.DialOption{grpc.WithConnectParams(soon)}}
		if c, err = client.Dial(addr, cfg); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	every := time.Second
	if l.terminal {
		every = 100 * time.Millisecond
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			text := p.String()
			if c != nil {
				text += " | " + glimpse(ctx, c.Counter(crashNamespace), counter)
			}
			if ctx.Err() == nil {
				l.show(text)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
		if c != nil {
			_ = c.Close() // it only looked
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.clear()
	}, nil
}

// glimpse is a counter as it can be read at once.
func glimpse(ctx context.Context, n *client.Counter, counter string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := n.GetWith(ctx, counter, client.CountOptions{Accuracy: client.CountEventual})
	if err != nil {
		return counter + ": no answer, the server is not there"
	}
	return fmt.Sprintf("%s = %s %s, pending %d, as_of %s", counter, count(int(c.Value)), c.Accuracy, c.Pending, c.Time.UTC().Format("15:04:05.000"))
}
