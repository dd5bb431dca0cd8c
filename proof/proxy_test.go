package proof

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// network is what a proxy does to the bytes that go through it.
type network string

const (
	flows network = "flows" // as they come
	cut   network = "cut"   // connections are closed, and new ones too
	hangs network = "hangs" // connections stay, and nothing goes through
	slow  network = "slow"  // each piece goes on after slowBy
)

// slowBy is less than any timeout of a client, and a multiple of what a request takes.
const slowBy = 150 * time.Millisecond

// link is proxies before servers, which all do the same.
type link struct {
	mu    sync.Mutex // guards the rest
	state network
	moved chan struct{} // closed at the next change of state
	conns map[net.Conn]bool
	ended bool
}

func newLink(t *testing.T) *link {
	l := &link{state: flows, moved: make(chan struct{}), conns: make(map[net.Conn]bool)}
	t.Cleanup(func() {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		l.set(cut)
	})
	return l
}

// listen leads from an address to another, and returns the first with its port.
func (l *link) listen(t *testing.T, address, target string) string {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() { l.lead(in, target) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // nothing was written to it
		l.set(cut)
		wg.Wait()
	})
	return ln.Addr().String()
}

// set changes what happens from now on, to connections that are open too.
func (l *link) set(n network) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		n = cut
	}
	l.state = n
	close(l.moved)
	l.moved = make(chan struct{})
	if n == cut {
		for c := range l.conns {
			_ = c.Close() // its peers hear of it, which is the point
		}
	}
}

func (l *link) now() (network, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.moved
}

// lead pumps between a connection and target until one of them ends.
func (l *link) lead(in net.Conn, target string) {
	defer in.Close()
	if !l.keep(in) {
		return
	}
	defer l.forget(in)
	out, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return // the client hears that its connection ended, as without a proxy
	}
	defer out.Close()
	if !l.keep(out) {
		return
	}
	defer l.forget(out)
	var wg sync.WaitGroup
	pump := func(to, from net.Conn) {
		defer to.Close()
		defer from.Close()
		_, err := io.Copy(to, reader{from, l})
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return // the other side is told by the close
		}
	}
	wg.Go(func() { pump(out, in) })
	wg.Go(func() { pump(in, out) })
	wg.Wait()
}

func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == cut {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// reader hands on what it reads when the link lets it.
type reader struct {
	c net.Conn
	l *link
}

func (r reader) Read(b []byte) (int, error) {
	n, err := r.c.Read(b)
	late := false
	for {
		state, moved := r.l.now()
		switch {
		case state == cut:
			return 0, net.ErrClosed
		case state == hangs:
			<-moved
			continue
		case state == slow && !late:
			select {
			case <-time.After(slowBy):
			case <-moved:
			}
			late = true
			continue
		}
		return n, err
	}
}
