package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// splitAll has every test that opens a server by its directory talk to a gateway, with a worker
// on the directory and a log on Kafka beside it.
var splitAll = os.Getenv("HEADWATER_TEST_ROLES") == "split"

// split is a cluster of one gateway and one worker.
type split struct {
	brokers []string
	prefix  string
	dir     string // of the worker
	gateway *Server
	worker  *Server

	abstractions, names []string // of the next worker
	clusters            map[string]Cluster
	tls                 *TLSFiles // of the internal listener
}

// newSplit starts a gateway and a worker on brokers, and closes them with the test.
func newSplit(t *testing.T, brokers []string) *split {
	t.Helper()
	return startSplit(t, &split{brokers: brokers})
}

func startSplit(t *testing.T, c *split) *split {
	t.Helper()
	c.prefix, c.dir = newPrefix(), t.TempDir()
	c.worker = c.open(t, Worker, c.dir)
	c.gateway = c.open(t, Gateway, "")
	t.Cleanup(func() {
		for _, s := range []*Server{c.gateway, c.worker} {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	return c
}

func (c *split) config(role Role, dir string) Config {
	return Config{Role: role, DataDir: dir, Demo: role == Gateway, KafkaBrokers: c.brokers, ReplicationFactor: 1, AllowUnsafe: true, TopicPrefix: c.prefix, Clusters: c.clusters, InternalTLS: c.tls}
}

func (c *split) open(t *testing.T, role Role, dir string) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg := c.config(role, dir)
	if role == Worker {
		cfg.Abstractions, cfg.ConsumeNamespaces = c.abstractions, c.names
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("role", role)
	}
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(ctx); err != nil {
		t.Error(errors.Join(err, s.Close()))
		t.FailNow()
	}
	return s
}

// splits are the clusters of tests that open a server by its directory.
var splits = splitsByDir{all: make(map[string]*split)}

type splitsByDir struct {
	mu  sync.Mutex // guards all, and the gateway and the worker of each
	all map[string]*split
}

// open is a gateway, whose worker has dir. The brokers stay from one opening of a directory to the
// next; the worker is closed by the next, or with the test.
func (a *splitsByDir) open(t *testing.T, dir string, clusters map[string]Cluster) *Server {
	t.Helper()
	a.mu.Lock()
	c := a.all[dir]
	if c == nil {
		k, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		c = &split{brokers: k.ListenAddrs(), prefix: newPrefix(), dir: dir}
		a.all[dir] = c
		for name, cl := range clusters {
			if !cl.HasTables() {
				continue
			}
			made, err := cl.Connect(name, false, nil)
			if err == nil {
				err = errors.Join(made.ApplySchema(t.Context()), made.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() {
			if err := c.worker.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			k.Close()
		})
	}
	a.mu.Unlock()
	c.clusters = clusters
	if c.worker != nil {
		if err := c.worker.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	worker := c.open(t, Worker, dir)
	a.mu.Lock()
	c.worker = worker
	a.mu.Unlock()
	g := c.open(t, Gateway, "")
	a.mu.Lock()
	c.gateway = g
	a.mu.Unlock()
	owned(t, g)
	return g
}

// owned waits until every namespace of a gateway has an owner, whose metrics tell of it: a worker answers a
// moment before that.
func owned(t *testing.T, s *Server) {
	t.Helper()
	until(t, "every namespace has an owner", func() bool {
		worker := inside(s)
		for _, x := range s.spaces.opened() {
			if state, _ := x.ownerState(); state == "retrying" {
				return false
			}
			n, ok := worker.spaces.dir.Get(x.ns.Name)
			if !ok || n.Stream == nil {
				return false
			}
		}
		return true
	})
}

// wholeOnly skips a test that is about what one process alone has: its directory, or its log.
func wholeOnly(t *testing.T) {
	t.Helper()
	if splitAll {
		t.Skip("it is about one process that does everything")
	}
}

// inside is the process that has the stores of what s answers from: s itself, or its worker.
func inside(s *Server) *Server {
	splits.mu.Lock()
	defer splits.mu.Unlock()
	for _, c := range splits.all {
		if c.gateway == s {
			return c.worker
		}
	}
	return s
}

// spaceOf is an open namespace of the process that has its stores.
func spaceOf(t *testing.T, s *Server, name string) (x *space) {
	t.Helper()
	sp := inside(s).spaces
	until(t, name+" is open", func() bool {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		x = sp.open[name]
		here, ok := s.spaces.dir.Get(name)
		return x != nil && x.front != nil && ok && x.ns.Config().Version >= here.Config().Version
	})
	return x
}
