package clickhousestore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headwater-db/headwater/consumers/clusterstore"
)

// Table is a table that stores of one kind share. Its partitions are (store, part, slice), where
// store is the life of a store, part a partition of its log, and slice a number; decided is the
// offset of the record that a row is of.
type Table struct {
	Name    string // with the version of its layout
	Columns []Column
	// Make is the statement that makes the table where it is missing.
	Make string
}

// Column is a column that is written.
type Column struct{ Name, Type string }

// Columns are those of a table: what each table begins with, and its own.
func Columns(own ...Column) []Column {
	return append([]Column{{"store", "LowCardinality(String)"}, {"dataset", "LowCardinality(String)"}, {"part", "UInt32"}, {"slice", "Int64"}}, own...)
}

// insertion is the statement of a block, which has the columns in their order.
func (t *Table) insertion() string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return "INSERT INTO " + t.Name + " (" + strings.Join(names, ", ") + ")"
}

// Syncing are the settings of a table whose blocks are on disk when they are acknowledged, and
// which leaves out a block that it was given already.
const Syncing = "fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, non_replicated_deduplication_window = 1000"

// CheckSchema looks whether the database has the tables. clusterstore.ErrSchema says what is missing.
func (c *Cluster) CheckSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for _, t := range c.tables {
		if err := c.checkTable(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) checkTable(ctx context.Context, t *Table) error {
	rows, err := c.conn.Query(ctx, "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '"+t.Name+"'")
	if err != nil {
		return c.away("look at table "+t.Name, err)
	}
	has := make(map[string]string)
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			return errors.Join(err, rows.Close())
		}
		has[name] = kind
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return c.away("look at table "+t.Name, err)
	}
	if len(has) == 0 {
		return fmt.Errorf("%w: ClickHouse has no table %s; run `headwater schema apply`", clusterstore.ErrSchema, t.Name)
	}
	for _, col := range t.Columns {
		if got := has[col.Name]; got != col.Type {
			return fmt.Errorf("%w: column %s of %s is %q and has to be %s; it was not made by Headwater, so move it away and run `headwater schema apply`", clusterstore.ErrSchema, col.Name, t.Name, got, col.Type)
		}
	}
	return nil
}

// ApplySchema makes the tables where they are missing.
func (c *Cluster) ApplySchema(ctx context.Context) error {
	run, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for _, t := range c.tables {
		if err := c.conn.Exec(run, t.Make); err != nil {
			return c.away("make table "+t.Name, err)
		}
	}
	return c.CheckSchema(ctx)
}

// Schema is the statements that make the tables.
func (c *Cluster) Schema() (all []string) {
	for _, t := range c.tables {
		all = append(all, t.Make)
	}
	return all
}
