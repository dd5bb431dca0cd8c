package clickhousets

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Table has the events of all stores of a database. Its name has the version of its layout.
const Table = "headwater_events_1"

const table = Table

// Schema is what the database has to have, statement by statement.
//
// A row is what one record says of one event. store is the life of a store, dataset is for
// people. age is minus the event's time in microseconds, so that the newest comes first.
// decided, record and idx are the row's timeseries.Order; bytes is the size of its items.
//
// The key has the length of the series before the series, which is the order of a comparison.
// Copies of a row collapse when ClickHouse merges parts; rows of one event that differ do not.
var Schema = []string{
	`CREATE TABLE IF NOT EXISTS ` + table + ` (
    store LowCardinality(String),
    dataset LowCardinality(String),
    part UInt32,
    slice Int64,
    series String CODEC(ZSTD(1)),
    age Int64 CODEC(Delta, ZSTD(1)),
    id String CODEC(ZSTD(1)),
    decided Int64 CODEC(Delta, ZSTD(1)),
    record Int64 CODEC(Delta, ZSTD(1)),
    idx UInt32 CODEC(Delta, ZSTD(1)),
    ints Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
    doubles Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    strings Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    blobs Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    bytes UInt32 CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(-age, 'UTC')
) ENGINE = ReplacingMergeTree
PARTITION BY (store, part, slice)
ORDER BY (store, part, slice, length(series), series, age, id, decided, record, idx)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, non_replicated_deduplication_window = 1000`,
}

// columns of the table that are written, in the order of a block, with their types.
var columns = []struct{ name, kind string }{
	{"store", "LowCardinality(String)"},
	{"dataset", "LowCardinality(String)"},
	{"part", "UInt32"},
	{"slice", "Int64"},
	{"series", "String"},
	{"age", "Int64"},
	{"id", "String"},
	{"decided", "Int64"},
	{"record", "Int64"},
	{"idx", "UInt32"},
	{"ints", "Map(LowCardinality(String), Int64)"},
	{"doubles", "Map(LowCardinality(String), Float64)"},
	{"strings", "Map(LowCardinality(String), String)"},
	{"blobs", "Map(LowCardinality(String), String)"},
	{"bytes", "UInt32"},
}

// ErrSchema: the database has not the table that this build needs.
var ErrSchema = errors.New("the ClickHouse database has no table of this build")

// CheckSchema looks whether the database has the table. ErrSchema says what is missing.
func (c *Cluster) CheckSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	rows, err := c.conn.Query(ctx, "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '"+table+"'")
	if err != nil {
		return c.away("look at the table", err)
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
		return c.away("look at the table", err)
	}
	if len(has) == 0 {
		return fmt.Errorf("%w: %s is not there; run `headwater schema apply`", ErrSchema, table)
	}
	for _, col := range columns {
		if got := has[col.name]; got != col.kind {
			return fmt.Errorf("%w: column %s of %s is %q and has to be %s; it was not made by Headwater, so move it away and run `headwater schema apply`", ErrSchema, col.name, table, got, col.kind)
		}
	}
	return nil
}

// ApplySchema makes the table where it is missing.
func (c *Cluster) ApplySchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for _, q := range Schema {
		if err := c.conn.Exec(ctx, q); err != nil {
			return c.away("make the table", err)
		}
	}
	return c.CheckSchema(ctx)
}

// insertion is the statement of a block.
var insertion = func() string {
	var names []string
	for _, col := range columns {
		names = append(names, col.name)
	}
	return "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ")"
}()
