package cassandrastore

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/gocql/gocql"

	"github.com/headwater-db/headwater/consumers/clusterstore"
)

// Rows are the rows of one store. Safe for concurrent use.
type Rows struct {
	Cluster *Cluster
	// Dataset and Life are the first two values of every partition key. Both are those that the store
	// was made with.
	Dataset string
	Life    []byte
}

// OpenRows returns the rows of the store whose other half is in the directory dir, where a small file
// names them. life is that of rows that several directories share, empty where they are this one's alone.
// fresh: there was no such file. It does not wait for Cassandra.
func OpenRows(dir string, c *Cluster, dataset, life string) (_ *Rows, fresh bool, err error) {
	at, fresh, err := clusterstore.Open(dir, clusterstore.Cassandra, clusterstore.Place{Life: life, Cluster: c.cfg.Name, Dataset: dataset})
	if err != nil {
		return nil, false, fmt.Errorf("open the rows of a store in cluster %s: %w", c.cfg.Name, err)
	}
	return c.rowsAt(at), fresh, nil
}

func (c *Cluster) rowsAt(at clusterstore.Place) *Rows {
	life, _ := hex.DecodeString(at.Life) // it was checked as it was read
	return &Rows{Cluster: c, Dataset: at.Dataset, Life: life}
}

// Statement is one statement with its values.
type Statement struct {
	CQL  string
	Args []any
}

// Exec runs statements of one partition of a table, all of them or none. what is for people.
func (r *Rows) Exec(ctx context.Context, what string, all ...Statement) error {
	s, err := r.Cluster.ready(ctx)
	if err != nil {
		return err
	}
	if len(all) == 1 {
		return r.Cluster.away(ctx, what, s.Query(all[0].CQL, all[0].Args...).WithContext(ctx).Exec())
	}
	b := s.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
	for _, q := range all {
		b.Entries = append(b.Entries, gocql.BatchEntry{Stmt: q.CQL, Args: q.Args, Idempotent: true})
	}
	return r.Cluster.away(ctx, what, s.ExecuteBatch(b))
}

// Query runs a statement and calls f with each row until f says that it has enough. Cassandra sends
// pageRows rows at a time. An error of f ends the query and is returned.
func (r *Rows) Query(ctx context.Context, what string, q Statement, pageRows int, f func(scan func(dest ...any) error) (more bool, err error)) error {
	s, err := r.Cluster.ready(ctx)
	if err != nil {
		return err
	}
	it := s.Query(q.CQL, q.Args...).WithContext(ctx).PageSize(pageRows).Prefetch(0).Iter()
	rows := it.Scanner()
	for rows.Next() {
		more, err := f(rows.Scan)
		if err != nil || !more {
			_ = it.Close() // what was read is whole
			return err
		}
	}
	return r.Cluster.away(ctx, what, rows.Err())
}

// Forget removes the rows that belong to the store in dir, before the directory is removed. It does
// nothing where there are none.
func (c *Cluster) Forget(ctx context.Context, dir string) error {
	at, there, err := clusterstore.Read(dir, clusterstore.Cassandra)
	if err != nil || !there {
		return err
	}
	for _, t := range c.tables {
		if t.Forget == nil {
			continue
		}
		if err := t.Forget(ctx, c.rowsAt(at), dir); err != nil {
			return err
		}
	}
	return nil
}
