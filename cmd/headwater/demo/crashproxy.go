package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
)

// proxy stands between clients and a server that comes and goes: it has one
// address, whichever the server has. Of the answers to writes that the server has
// done it loses some: the answer is not passed on, and the connection is closed.
// Safe for concurrent use.
type proxy struct {
	ln    net.Listener
	watch func() replyWatch // of a new connection

	replies, dropped atomic.Int64

	mu     sync.Mutex // guards what follows
	target string     // "" while the server is down
	rate   float64    // of answers that are lost
	die    *rand.Rand
	conns  map[net.Conn]bool
	closed bool

	work sync.WaitGroup
}

// replyWatch finds the answers to writes in the bytes of one connection.
type replyWatch interface {
	// sent sees bytes on their way to the server, before they go there. It may be
	// called while got is.
	sent(b []byte)
	// got sees bytes on their way back, and says what to do with the first n of
	// them. It is called again with the rest.
	got(b []byte) (n int, what verdict)
}

type verdict int

const (
	pass   verdict = iota // on they go, after those that were held
	hold                  // they wait for those that follow
	answer                // they end an answer: on they go, or the connection ends
)

// newProxy listens on a free port of this machine. It loses the given part of the
// answers, chosen by the seed.
func newProxy(watch func() replyWatch, rate float64, seed uint64) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &proxy{ln: ln, watch: watch, rate: rate, die: rand.New(rand.NewPCG(seed, 1)), conns: make(map[net.Conn]bool)}
	p.work.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

// point says where the server is from now on; "": nowhere.
func (p *proxy) point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// close ends every connection and waits for all that the proxy does.
func (p *proxy) close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close() // its bytes are of no use to anybody any more
	}
	p.mu.Unlock()
	err := p.ln.Close()
	p.work.Wait()
	return err
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // of one connection, or of too many files: the client tries again
		}
		if p.keep(c) {
			p.work.Go(func() { p.serve(c) })
		}
	}
}

// keep enters a connection, unless the proxy is closed: then it closes it.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) end(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close() // a connection that is broken already is as good
}

func (p *proxy) serve(c net.Conn) {
	defer p.end(c)
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	if target == "" {
		return
	}
	s, err := net.Dial("tcp", target)
	if err != nil {
		return // as the client sees it, the server is not there
	}
	if !p.keep(s) {
		return
	}
	defer p.end(s)
	w := p.watch()
	var up sync.WaitGroup
	up.Go(func() {
		defer p.end(s) // ends what comes back
		buf := make([]byte, 256<<10)
		for {
			n, err := c.Read(buf)
			w.sent(buf[:n])
			if _, werr := s.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	})
	p.back(c, s, w)
	p.end(c)
	p.end(s)
	up.Wait()
}

// back passes on what the server says, until an answer is to be lost or either
// side is gone.
func (p *proxy) back(c, s net.Conn, w replyWatch) {
	buf := make([]byte, 64<<10)
	var held []byte
	for {
		n, err := s.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			n, what := w.got(b)
			held = append(held, b[:n]...)
			b = b[n:]
			if what == answer && p.loses() {
				return
			}
			if what != hold {
				if _, err := c.Write(held); err != nil {
					return
				}
				held = held[:0]
			}
		}
		if err != nil {
			_, _ = c.Write(held) // what a server said that was killed was said
			return
		}
	}
}

// loses decides about one answer.
func (p *proxy) loses() bool {
	p.replies.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.die.Float64() >= p.rate {
		return false
	}
	p.dropped.Add(1)
	return true
}
