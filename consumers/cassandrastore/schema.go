package cassandrastore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gocql/gocql"

	"github.com/headwater-db/headwater/consumers/clusterstore"
)

// Table is a table that stores of one kind share. Its first two columns are dataset, a name for people,
// and store, the life of a store; both are in its partition key.
type Table struct {
	Name    string   // with the version of its layout
	Columns []Column // all
	// Key is its PRIMARY KEY, as in "(dataset, store, id), key", and Options what follows WITH.
	Key, Options string
	// Forget removes the rows of the store in a directory, from this table and those that it leads to; nil:
	// another table's does.
	Forget func(ctx context.Context, r *Rows, dir string) error
}

// Column is a column with its type in CQL.
type Column struct{ Name, Type string }

// make is the statement that makes the table where it is missing.
func (t *Table) make(keyspace string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS \"%s\".%s (\n", keyspace, t.Name)
	for _, c := range t.Columns {
		fmt.Fprintf(&b, "  %s %s,\n", c.Name, c.Type)
	}
	fmt.Fprintf(&b, "  PRIMARY KEY (%s)\n) WITH %s", t.Key, t.Options)
	return b.String()
}

// Schema is the statements that make the keyspace and the tables. The names in them are the
// configuration's, and checked.
func (c *Cluster) Schema() []string {
	all := []string{c.makeKeyspace()}
	for _, t := range c.tables {
		all = append(all, t.make(c.cfg.Keyspace))
	}
	return all
}

func (c *Cluster) makeKeyspace() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE KEYSPACE IF NOT EXISTS \"%s\" WITH replication = {'class': 'NetworkTopologyStrategy'", c.cfg.Keyspace)
	for _, dc := range slices.Sorted(maps.Keys(c.cfg.Replication)) {
		fmt.Fprintf(&b, ", '%s': %d", dc, c.cfg.Replication[dc])
	}
	if len(c.cfg.Replication) == 0 {
		b.WriteString(", 'replication_factor': 1")
	}
	b.WriteString("} AND durable_writes = true")
	return b.String()
}

// CheckSchema looks whether the keyspace and the tables are there. clusterstore.ErrSchema says what is missing.
func (c *Cluster) CheckSchema(ctx context.Context) error {
	return c.withoutKeyspace(ctx, func(s *gocql.Session) error { return c.check(ctx, s) })
}

// ApplySchema makes what is missing.
func (c *Cluster) ApplySchema(ctx context.Context) error {
	return c.withoutKeyspace(ctx, func(s *gocql.Session) error {
		lacks, err := c.missing(ctx, s)
		if err != nil {
			return err
		}
		if len(lacks) > 0 {
			for _, q := range c.Schema() {
				err := s.Query(q).WithContext(ctx).Exec()
				if refused := gocql.RequestError(nil); errors.As(err, &refused) && (refused.Code() == gocql.ErrCodeConfig || refused.Code() == gocql.ErrCodeUnauthorized) {
					return fmt.Errorf("%w: cluster %s refuses to make them: %w", clusterstore.ErrSchema, c.cfg.Name, err)
				}
				if err != nil {
					return c.away(ctx, "make the schema", err)
				}
			}
			if err := s.AwaitSchemaAgreement(ctx); err != nil {
				return c.away(ctx, "wait until all nodes have the schema", err)
			}
		}
		return c.check(ctx, s)
	})
}

func (c *Cluster) withoutKeyspace(ctx context.Context, do func(s *gocql.Session) error) error {
	s, err := c.dial("")
	if err != nil {
		return c.away(ctx, "connect", err)
	}
	defer s.Close()
	return do(s)
}

// missing names what is not there.
func (c *Cluster) missing(ctx context.Context, s *gocql.Session) (names []string, err error) {
	var name string
	err = s.Query("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", c.cfg.Keyspace).WithContext(ctx).Scan(&name)
	if errors.Is(err, gocql.ErrNotFound) {
		return []string{"keyspace " + c.cfg.Keyspace}, nil
	}
	for _, t := range c.tables {
		if err != nil {
			break
		}
		err = s.Query("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?", c.cfg.Keyspace, t.Name).WithContext(ctx).Scan(&name)
		if errors.Is(err, gocql.ErrNotFound) {
			names, err = append(names, "table "+t.Name), nil
		}
	}
	return names, c.away(ctx, "look at the schema", err)
}

func (c *Cluster) check(ctx context.Context, s *gocql.Session) error {
	names, err := c.missing(ctx, s)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%w: cluster %s has no %s; run `headwater schema apply`", clusterstore.ErrSchema, c.cfg.Name, strings.Join(names, ", no "))
	}
	for _, t := range c.tables {
		if err := c.checkTable(ctx, s, t); err != nil {
			return err
		}
	}
	return c.checkReplication(ctx, s)
}

func (c *Cluster) checkTable(ctx context.Context, s *gocql.Session, t *Table) error {
	it := s.Query("SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?", c.cfg.Keyspace, t.Name).WithContext(ctx).Iter()
	has, name, kind := make(map[string]string), "", ""
	for it.Scan(&name, &kind) {
		has[name] = kind
	}
	if err := it.Close(); err != nil {
		return c.away(ctx, "look at table "+t.Name, err)
	}
	for _, col := range t.Columns {
		if has[col.Name] != col.Type {
			return fmt.Errorf("%w: column %s of %s.%s is %q and has to be %s; it was not made by Headwater, so move it away and run `headwater schema apply`",
				clusterstore.ErrSchema, col.Name, c.cfg.Keyspace, t.Name, has[col.Name], col.Type)
		}
	}
	return nil
}

// checkReplication refuses a keyspace with more copies than there are nodes: no quorum of it would answer.
func (c *Cluster) checkReplication(ctx context.Context, s *gocql.Session) error {
	var replication map[string]string
	err := s.Query("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?", c.cfg.Keyspace).WithContext(ctx).Scan(&replication)
	nodes, dc := make(map[string]int), ""
	if err == nil {
		err = s.Query("SELECT data_center FROM system.local").WithContext(ctx).Scan(&dc)
		nodes[dc]++
	}
	if err == nil {
		it := s.Query("SELECT data_center FROM system.peers").WithContext(ctx).Iter()
		for it.Scan(&dc) {
			nodes[dc]++
		}
		err = it.Close()
	}
	if err != nil {
		return c.away(ctx, "look at the replication", err)
	}
	for dc, text := range replication {
		n, err := strconv.Atoi(text)
		if err != nil { // the class of the strategy, or one that is not counted in nodes
			continue
		}
		if dc == "replication_factor" { // SimpleStrategy, over all nodes
			if all := total(nodes); n > all {
				return fmt.Errorf("%w: keyspace %s keeps %d copies, and cluster %s has %d nodes; start more nodes, or lower the replication with ALTER KEYSPACE", clusterstore.ErrSchema, c.cfg.Keyspace, n, c.cfg.Name, all)
			}
			continue
		}
		if nodes[dc] == 0 {
			return fmt.Errorf("%w: keyspace %s keeps copies in data center %s, and cluster %s has nodes in %s only; mend replication in the configuration or with ALTER KEYSPACE",
				clusterstore.ErrSchema, c.cfg.Keyspace, dc, c.cfg.Name, strings.Join(slices.Sorted(maps.Keys(nodes)), ", "))
		}
		if n > nodes[dc] {
			return fmt.Errorf("%w: keyspace %s keeps %d copies in data center %s, and cluster %s has %d nodes there; start more nodes, or lower the replication with ALTER KEYSPACE",
				clusterstore.ErrSchema, c.cfg.Keyspace, n, dc, c.cfg.Name, nodes[dc])
		}
	}
	return nil
}

func total(nodes map[string]int) (n int) {
	for _, k := range nodes {
		n += k
	}
	return n
}
