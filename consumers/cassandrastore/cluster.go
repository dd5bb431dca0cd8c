package cassandrastore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/gocql/gocql"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/clusterstore"
)

// Cluster is the connections to one Cassandra, for any number of stores and callers.
type Cluster struct {
	cfg    ClusterConfig
	tables []*Table
	look   *clusterstore.Look

	mu      sync.Mutex // guards what follows
	session *gocql.Session
	closed  bool
}

// Connect makes a cluster that has to have some tables. It does not wait for Cassandra to answer. A
// password file that cannot be read is an error here already.
func Connect(cfg ClusterConfig, tables ...*Table) (*Cluster, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	if cfg.PasswordFile != "" {
		if _, err := os.ReadFile(cfg.PasswordFile); err != nil {
			return nil, fmt.Errorf("cluster %s: password_file: %w", cfg.Name, err)
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Cluster{cfg: cfg, tables: tables, look: clusterstore.NewLook()}, nil
}

// Close closes the connections. Statements that are under way fail.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.session != nil {
		c.session.Close()
		c.session = nil
	}
	return nil
}

// dial connects, without a keyspace where that may not be there yet.
func (c *Cluster) dial(keyspace string) (*gocql.Session, error) {
	cfg, err := c.cfg.driver(keyspace)
	if err != nil {
		return nil, err
	}
	return cfg.CreateSession()
}

// ready returns the session once the schema was seen.
func (c *Cluster) ready(ctx context.Context) (*gocql.Session, error) {
	err := c.look.Ready(ctx, func(ctx context.Context) error {
		check := c.CheckSchema
		if c.cfg.MakeSchema {
			check = c.ApplySchema
		}
		if err := check(ctx); err != nil {
			return err
		}
		return c.open()
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return nil, consumers.ErrClosed
	}
	return c.session, nil
}

// Ready returns when the schema was seen.
func (c *Cluster) Ready(ctx context.Context) error {
	_, err := c.ready(ctx)
	return err
}

// open makes the session that statements are sent by, unless there is one: what is under way keeps it.
func (c *Cluster) open() error {
	c.mu.Lock()
	there := c.session != nil && !c.session.Closed()
	c.mu.Unlock()
	if there {
		return nil
	}
	s, err := c.dial(c.cfg.Keyspace)
	if err != nil {
		return c.away(context.Background(), "connect", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.Close()
		return consumers.ErrClosed
	}
	c.session = s
	return nil
}

// away is the error of a statement: the caller's own end first, or Cassandra's own words. Where a table
// is not there any more the schema is looked at anew.
func (c *Cluster) away(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var refused gocql.RequestError
	if errors.As(err, &refused) && refused.Code() == gocql.ErrCodeInvalid {
		c.look.Forget()
	}
	return fmt.Errorf("%w: %s in cluster %s: %w", consumers.ErrStoreAway, what, c.cfg.Name, err)
}
