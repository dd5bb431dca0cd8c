package demo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// frame is one of HTTP/2.
func frame(kind, flags byte, stream uint32, payload string) []byte {
	n := len(payload)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}, payload...)
}

// walk gives a watch b in pieces of size bytes and returns the bytes that were
// passed on before each answer that was found, and after the last.
func walk(w replyWatch, b []byte, size int) (parts []string) {
	var held, part []byte
	for len(b) > 0 {
		piece := b[:min(size, len(b))]
		b = b[len(piece):]
		for len(piece) > 0 {
			n, what := w.got(piece)
			held = append(held, piece[:n]...)
			piece = piece[n:]
			if what == answer {
				parts = append(parts, string(part))
				part = nil
			}
			if what != hold {
				part = append(part, held...)
				held = nil
			}
		}
	}
	return append(parts, string(part)+string(held))
}

func TestAnswersAreFoundInHTTP2HoweverItIsCut(t *testing.T) {
	t.Parallel()
	settings := frame(4, 0, 0, "123456")
	head, data, end := frame(1, 4, 1, "h"), frame(0, 0, 1, strings.Repeat("d", 300)), frame(1, 5, 1, "trailer")
	failed := frame(1, 5, 3, "no such thing")
	second := append(frame(0, 0, 5, "x"), frame(1, 5, 5, "t")...)
	all := append(append(append(append(append([]byte{}, settings...), head...), data...), end...), failed...)
	all = append(all, second...)
	for size := 1; size <= len(all); size++ {
		parts := walk(newHTTP2Watch(), all, size)
		if len(parts) != 3 || strings.Join(parts, "") != string(all) {
			t.Fatalf("in pieces of %d: %d answers were found, and 2 are there", size, len(parts)-1)
		}
		if parts[0] != string(settings)+string(head)+string(data) {
			t.Fatalf("in pieces of %d: %q went on before the first answer", size, parts[0])
		}
	}
}

func TestAnswersAreFoundInRESPHoweverItIsCut(t *testing.T) {
	t.Parallel()
	var pipe []byte
	for _, c := range []string{"a*b", "$3\r\nx", ""} { // what looks like a command is not one
		pipe = append(pipe, fmt.Sprintf("*3\r\n$6\r\nINCRBY\r\n$%d\r\n%s\r\n$1\r\n1\r\n", len(c), c)...)
	}
	for size := 1; size <= len(pipe); size++ {
		w := &respWatch{}
		for b := pipe; len(b) > 0; {
			n := min(size, len(b))
			w.sent(b[:n])
			b = b[n:]
		}
		if n := w.open.Load(); n != 3 {
			t.Fatalf("in pieces of %d: %d commands were found, and 3 are there", size, n)
		}
		parts := walk(w, []byte(":1\r\n:2\r\n-ERR no\r\n"), size)
		if len(parts) != 2 || parts[0] != "" {
			t.Fatalf("in pieces of %d: %q", size, parts)
		}
	}
}

// echo answers each line that is an integer command of RESP with one line.
func echo(t *testing.T) (addr string, served func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					if _, err := io.ReadFull(r, make([]byte, len("*1\r\n$4\r\nPING\r\n"))); err != nil {
						return
					}
					mu.Lock()
					n++
					mu.Unlock()
					if _, err := c.Write([]byte("+PONG\r\n")); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// What the proxy loses was done by the server, and the client is told of nothing
// but a connection that ended.
func TestProxyLosesAnswersOfWhatWasDone(t *testing.T) {
	t.Parallel()
	addr, served := echo(t)
	p, err := newProxy(newRESPWatch, 0.3, 7)
	if err != nil {
		t.Fatal(err)
	}
	p.point(addr)
	const calls = 200
	lost := 0
	for range calls {
		c, err := net.Dial("tcp", p.addr())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 7)
		switch n, err := io.ReadFull(c, b); {
		case err == nil:
		case n == 0 && strings.Contains(err.Error(), "EOF"), n == 0 && strings.Contains(err.Error(), "reset"):
			lost++
		default:
			t.Fatalf("%d bytes of an answer, %v", n, err)
		}
		c.Close()
	}
	if served() != calls || lost == 0 || lost == calls || int64(lost) != p.dropped.Load() || p.replies.Load() != calls {
		t.Errorf("of %d calls %d were served and %d lost their answer; the proxy says %d of %d", calls, served(), lost, p.dropped.Load(), p.replies.Load())
	}
	p.point("")
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a proxy without a server answers")
	}
	c.Close()
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
