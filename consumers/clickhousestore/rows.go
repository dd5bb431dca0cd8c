package clickhousestore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/wal"
)

// Rows are the rows of one store in a table. Safe for concurrent use, but for Insert and
// LogEndsAt, which are called by one goroutine for each partition.
type Rows struct {
	Cluster *Cluster
	Table   *Table
	Life    string // of the store, in every row
	Dataset string // a name for people, in every row
	session string // of this opening
	ends    []logEnd
}

// OpenRows returns the rows of the store whose other half is in the directory dir, where a small
// file names them. fresh: there was none, and the rows are of a new life. It does not wait for
// ClickHouse.
func OpenRows(dir string, c *Cluster, t *Table, dataset string, partitions int) (_ *Rows, fresh bool, err error) {
	at, fresh, err := clusterstore.Open(dir, clusterstore.ClickHouse, clusterstore.Place{Cluster: c.cfg.Name})
	if err != nil {
		return nil, false, fmt.Errorf("open the rows of a store in cluster %s: %w", c.cfg.Name, err)
	}
	session := make([]byte, 8)
	if _, err := rand.Read(session); err != nil {
		return nil, false, err
	}
	return &Rows{Cluster: c, Table: t, Life: at.Life, Dataset: dataset, session: hex.EncodeToString(session), ends: make([]logEnd, partitions)}, fresh, nil
}

// Of is the condition of all rows of a partition.
func (r *Rows) Of(q *Statement, p wal.Partition) string {
	return "store = " + q.Param("String", r.Life) + " AND part = " + strconv.Itoa(int(p))
}

// RowScanner is a row of an answer.
type RowScanner interface{ Scan(dest ...any) error }

// Query runs the statement and calls f with each row. what is for people. An error of f ends it
// and is returned.
func (r *Rows) Query(ctx context.Context, what string, q *Statement, set clickhouse.Settings, f func(row RowScanner) error) error {
	if err := r.Cluster.Ready(ctx); err != nil {
		return err
	}
	run, cancel := q.context(ctx, r.Cluster.cfg.Timeout, set, r.Cluster.reading)
	defer cancel()
	rows, err := r.Cluster.conn.Query(run, q.String())
	if err != nil {
		return r.failed(ctx, what, err)
	}
	for rows.Next() {
		if err := f(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return r.failed(ctx, what, errors.Join(rows.Err(), rows.Close()))
}

// Exec runs a statement without an answer.
func (r *Rows) Exec(ctx context.Context, what string, q *Statement, set clickhouse.Settings) error {
	if err := r.Cluster.Ready(ctx); err != nil {
		return err
	}
	run, cancel := q.context(ctx, r.Cluster.cfg.Timeout, set)
	defer cancel()
	return r.failed(ctx, what, r.Cluster.conn.Exec(run, q.String()))
}

// Insert writes a block of a partition; ClickHouse has synced it when nil is returned. A block of
// a name that this opening has written already is left out by ClickHouse. slices has the slice of
// each row; own are the table's own columns, in its order, each a slice of values. The first block of
// a partition waits until the rows of a log that was lost are gone.
func (r *Rows) Insert(ctx context.Context, p wal.Partition, name string, slices []int64, own ...any) error {
	if err := r.removeLost(ctx, p); err != nil {
		return err
	}
	if err := r.Cluster.Ready(ctx); err != nil {
		return err
	}
	q := &Statement{}
	run, cancel := q.context(ctx, r.Cluster.cfg.Timeout, clickhouse.Settings{
		"insert_deduplication_token": r.Life + "-" + r.session + "-" + name, "async_insert": 0, "max_partitions_per_insert_block": 0,
	})
	defer cancel()
	out, err := r.Cluster.conn.PrepareBatch(run, r.Table.insertion())
	if err != nil {
		return r.failed(ctx, "begin a block", err)
	}
	n := len(slices)
	for i, column := range append([]any{repeated(r.Life, n), repeated(r.Dataset, n), repeated(uint32(p), n), slices}, own...) {
		if err := out.Column(i).Append(column); err != nil {
			return errors.Join(fmt.Errorf("fill a block: column %s: %w", r.Table.Columns[i].Name, err), out.Abort())
		}
	}
	if err := out.Send(); err != nil {
		return r.failed(ctx, "write a block", err)
	}
	return nil
}

// failed is the error of a statement: the caller's own end first.
func (r *Rows) failed(ctx context.Context, what string, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.Cluster.away(what, err)
}

// DropPartition removes what is in a slice of a partition. Its name is made of a life, which is
// hex, and of numbers.
func (r *Rows) DropPartition(ctx context.Context, p wal.Partition, slice int64) error {
	q := &Statement{}
	q.Addf("ALTER TABLE "+r.Table.Name+" DROP PARTITION ('%s', %d, %d)", r.Life, p, slice)
	return r.Exec(ctx, "drop a slice", q, nil)
}

// SlicesWith are the slices of a partition that have rows of a condition.
func (r *Rows) SlicesWith(ctx context.Context, what string, p wal.Partition, condition func(q *Statement) string) (in []int64, err error) {
	q := &Statement{}
	q.WriteString("SELECT DISTINCT slice FROM " + r.Table.Name + " WHERE " + r.Of(q, p) + " AND " + condition(q))
	return r.Slices(ctx, what, q)
}

// Slices runs a statement that answers slices.
func (r *Rows) Slices(ctx context.Context, what string, q *Statement) (in []int64, err error) {
	err = r.Query(ctx, what, q, nil, func(row RowScanner) error {
		var x int64
		err := row.Scan(&x)
		in = append(in, x)
		return err
	})
	return in, err
}

// DeleteIn has ClickHouse remove the rows of a condition from a slice, and waits until it has
// where wait says so.
func (r *Rows) DeleteIn(ctx context.Context, what string, p wal.Partition, slice int64, condition func(q *Statement) string, wait bool) error {
	q, sync := &Statement{}, 0
	if wait {
		sync = 2
	}
	q.Addf("DELETE FROM "+r.Table.Name+" IN PARTITION ('%s', %d, %d) WHERE %s", r.Life, p, slice, condition(q))
	return r.Exec(ctx, what, q, clickhouse.Settings{"lightweight_deletes_sync": sync})
}

// Forget removes the rows that belong to the store in dir, before the directory is removed.
// It does nothing where there are none.
func (c *Cluster) Forget(ctx context.Context, dir string) error {
	at, there, err := clusterstore.Read(dir, clusterstore.ClickHouse)
	if err != nil || !there {
		return err
	}
	for _, t := range c.tables {
		err = errors.Join(err, c.forget(ctx, &Rows{Cluster: c, Table: t, Life: at.Life}))
	}
	return err
}

func (c *Cluster) forget(ctx context.Context, r *Rows) error {
	q := &Statement{}
	q.WriteString("SELECT DISTINCT part, slice FROM " + r.Table.Name + " WHERE store = " + q.Param("String", r.Life))
	type partition struct {
		part  uint32
		slice int64
	}
	var all []partition
	err := r.Query(ctx, "list the partitions of a store", q, nil, func(row RowScanner) error {
		var x partition
		err := row.Scan(&x.part, &x.slice)
		all = append(all, x)
		return err
	})
	for _, x := range all {
		err = errors.Join(err, r.DropPartition(ctx, wal.Partition(x.part), x.slice))
	}
	return err
}

// repeated is a column of one value.
func repeated[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}
