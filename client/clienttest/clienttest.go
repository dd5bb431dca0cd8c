// Package clienttest starts a real server inside a test.
//
//	func TestOrders(t *testing.T) {
//		c := clienttest.New(t)
//		orders := c.KV("demo-kv")
//		...
//
// It guarantees that the server is the one of the headwater binary, with a data
// directory of its own below the test's temporary one, on free ports of the
// loopback interface, ready for writes, with the demo namespaces demo-kv,
// demo-counter, demo-timeseries and demo-log; and that client and server are closed, and
// everything they started has ended, when the test has. Tests with servers of
// their own can run in parallel. Faults loses and repeats answers between them.
//
// Writes are fsynced as anywhere else, so a test pays for them. A server killed
// in the middle is not for this package: start the binary for that.
package clienttest

import (
	"context"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// readyWithin is how long a start may take before the test fails.
const readyWithin = 30 * time.Second

// Config says how the server and its client are made. The zero Config is a good
// one.
type Config struct {
	// DataDir keeps the data where a later Server of the test finds it; empty: a
	// new directory.
	DataDir string
	// Namespaces are documents of namespaces to make beside the demo ones.
	Namespaces []string
	Client     client.Config
}

// New starts a server and returns a client of it.
func New(t testing.TB) *client.Client {
	t.Helper()
	_, c := NewServer(t, Config{})
	return c
}

// NewServer starts a server and returns it with a client of it. The server may
// be closed before the test ends.
func NewServer(t testing.TB, cfg Config) (*Server, *client.Client) {
	t.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	s, err := server.Open(ctx, server.Config{DataDir: cfg.DataDir, Demo: true, Namespaces: cfg.Namespaces, FreeSpaceFloor: -1})
	if err != nil {
		t.Fatalf("start server: %v", err)
	}
	out := &Server{s: s}
	t.Cleanup(func() { out.Close(t) })
	if err := s.WaitReady(ctx); err != nil {
		t.Fatalf("wait for server: %v", err)
	}
	c, err := client.Dial(s.GRPCAddr(), cfg.Client)
	if err != nil {
		t.Fatalf("dial server: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return out, c
}

// Server is a server of a test.
type Server struct {
	s      *server.Server
	closed bool
}

// GRPCAddr is the address for client.Dial, HTTPAddr that of HTTP+JSON.
func (s *Server) GRPCAddr() string { return s.s.GRPCAddr() }

// HTTPAddr is "host:port".
func (s *Server) HTTPAddr() string { return s.s.HTTPAddr() }

// Close stops the server. Closing it again does nothing. Not safe for concurrent
// use.
func (s *Server) Close(t testing.TB) {
	t.Helper()
	if s.closed {
		return
	}
	s.closed = true
	if err := s.s.Close(); err != nil {
		t.Errorf("close server: %v", err)
	}
}
