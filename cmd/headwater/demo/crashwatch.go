package demo

import (
	"bytes"
	"strconv"
	"sync/atomic"
)

// http2Watch finds the end of calls that succeeded in what a gRPC server sends: a
// HEADERS frame that ends a stream on which DATA went before. A call that failed
// has no DATA, and its answer is never lost.
type http2Watch struct {
	head    [9]byte // of the frame at hand
	have    int     // bytes of head
	payload int     // bytes of the frame that are to come
	data    map[uint32]bool
}

func newHTTP2Watch() replyWatch { return &http2Watch{data: make(map[uint32]bool)} }

func (*http2Watch) sent([]byte) {}

// The frames and the flag that matter, of RFC 9113.
const (
	frameData    = 0x0
	frameHeaders = 0x1
	endStream    = 0x1
)

func (w *http2Watch) got(b []byte) (int, verdict) {
	if w.payload > 0 {
		n := min(w.payload, len(b))
		w.payload -= n
		return n, pass
	}
	n := copy(w.head[w.have:], b)
	if w.have += n; w.have < len(w.head) {
		return n, hold
	}
	w.have = 0
	h := &w.head
	w.payload = int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags := h[3], h[4]
	stream := uint32(h[5]&0x7f)<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])
	switch {
	case kind == frameData:
		w.data[stream] = true
	case kind == frameHeaders && flags&endStream != 0:
		was := w.data[stream]
		delete(w.data, stream)
		if was {
			return n, answer
		}
	}
	return n, pass
}

// respWatch finds the end of the answers to a pipeline of Redis: all commands
// that are on their way have theirs. Until then they are held, so that a pipeline
// loses all its answers or none. Every answer is one line, which the commands
// that go through the proxy see to.
type respWatch struct {
	open atomic.Int64 // commands without an answer

	// Of the command at hand, on its way to the server.
	line []byte // a line that is not complete
	args int    // arguments that are to come
	skip int    // bytes of an argument that are to come
}

func newRESPWatch() replyWatch { return &respWatch{} }

func (w *respWatch) sent(b []byte) {
	for len(b) > 0 {
		if w.skip > 0 {
			n := min(w.skip, len(b))
			w.skip -= n
			b = b[n:]
			if w.skip == 0 && w.args == 0 {
				w.open.Add(1)
			}
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			w.line = append(w.line, b...)
			return
		}
		w.line = append(w.line, b[:i]...)
		b = b[i+1:]
		// Our own client wrote it: "*3\r", "$6\r".
		n, _ := strconv.Atoi(string(bytes.TrimRight(w.line[1:], "\r")))
		if w.line[0] == '*' {
			w.args = n
		} else {
			w.args--
			w.skip = n + len("\r\n")
		}
		w.line = w.line[:0]
	}
}

func (w *respWatch) got(b []byte) (int, verdict) {
	for i, c := range b {
		if c == '\n' && w.open.Add(-1) == 0 {
			return i + 1, answer
		}
	}
	return len(b), hold
}
