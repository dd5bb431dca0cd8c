package httpjson

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/segmentio/ksuid"

	"github.com/headwater-db/headwater/api/apierrors"
)

// net/http answers what it cannot read by itself, as plain text and before a
// handler sees it. It writes such an answer to the connection where no request is
// in a handler's hands, which is how it is told from the answers of handlers.

// connection is one of a listener that Listen returned.
type connection struct {
	net.Conn
	h *Handler
	// handling: a request was handed to the handler, and its answer is not out.
	handling atomic.Bool
	// refused: the answer to a request that cannot be read is out; what net/http
	// still writes of its own is dropped. It closes the connection then.
	refused bool
}

type connectionKey struct{}

// Listen returns l, and changes s, such that every answer of s is one of this
// package, whatever the request is. s serves h and what Listen returned, without
// TLS.
func (h *Handler) Listen(s *http.Server, l net.Listener) net.Listener {
	s.DisableGeneralOptionsHandler = true
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if c, ok := c.(*connection); ok && state == http.StateIdle {
			c.handling.Store(false)
		}
	}
	return &listener{l, h}
}

type listener struct {
	net.Listener
	h *Handler
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, h: l.h}, nil
}

// handles notes that the answer to r is the handler's.
func handles(r *http.Request) {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		c.handling.Store(true)
	}
}

// CloseWrite is what net/http looks for, so that its last answer is not lost.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Write sends an answer, or in place of net/http's own one that has the form of
// the API.
func (c *connection) Write(b []byte) (int, error) {
	if c.handling.Load() {
		return c.Conn.Write(b)
	}
	if c.refused {
		return len(b), nil
	}
	c.refused = true
	if _, err := c.Conn.Write(c.h.refusal(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// refusal is the whole answer to a request that cannot be read, by what net/http
// says of it: "HTTP/1.1 400 Bad Request: missing required Host header".
func (h *Handler) refusal(said []byte) []byte {
	line, _, _ := bytes.Cut(said, []byte("\r\n"))
	text := strings.TrimPrefix(string(line), "HTTP/1.1 ")
	status, _, _ := strings.Cut(text, " ")
	// It may have been a write, and was none.
	x := &exchange{h: h, id: ksuid.New().String(), write: true}
	e := refusalOf(status, text).ForWrite(apierrors.NotApplied, nil)
	h.cfg.Logger.LogAttrs(context.Background(), slog.LevelDebug, "a request cannot be read",
		slog.String("request_id", x.id), slog.String("error", text))
	body := append(x.errorJSON(e), '\n')
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", e.HTTPStatus(), http.StatusText(e.HTTPStatus()))
	for _, header := range [][2]string{
		{"Content-Type", "application/json"}, {"Content-Length", strconv.Itoa(len(body))}, {"Cache-Control",
			"no-store"},
		{"X-Content-Type-Options", "nosniff"}, {"X-Request-Id", x.id}, {reasonHeader, e.Reason},
		{"Connection", "close"},
	} {
		fmt.Fprintf(&out, "%s: %s\r\n", header[0], header[1])
	}
	out.WriteString("\r\n")
	out.Write(body)
	return out.Bytes()
}

func refusalOf(status, text string) *apierrors.Error {
	switch status {
	case "431":
		return apierrors.New(apierrors.RequestTooLarge, "the request's path and headers are too large (%.100s); "+
			"use an RPC, which has all of it in its body", text)
	case "501", "505":
		return apierrors.New(apierrors.NotOffered,
			"the request is of a kind that is not served (%.100s); use HTTP/1.1", text)
	default:
		return apierrors.New(apierrors.MalformedRequest, "the request is not HTTP that can be read (%.100s); "+
			"percent-encode its path (%% as %%25), and send each header once", text)
	}
}
