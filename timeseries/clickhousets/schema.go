package clickhousets

import (
	"github.com/headwater-db/headwater/consumers/clickhousestore"
)

// table is the name of the table, with the version of its layout.
const table = "headwater_events_1"

// Table has the events of all stores of a database.
//
// A row is what one record says of one event. store is the life of a store, dataset is for
// people. age is minus the event's time in microseconds, so that the newest comes first.
// decided, record and idx are the row's timeseries.Order; bytes is the size of its items.
//
// The key has the length of the series before the series, which is the order of a comparison.
// Copies of a row collapse when ClickHouse merges parts; rows of one event that differ do not.
var Table = &clickhousestore.Table{
	Name: table,
	Columns: clickhousestore.Columns(
		clickhousestore.Column{Name: "series", Type: "String"},
		clickhousestore.Column{Name: "age", Type: "Int64"},
		clickhousestore.Column{Name: "id", Type: "String"},
		clickhousestore.Column{Name: "decided", Type: "Int64"},
		clickhousestore.Column{Name: "record", Type: "Int64"},
		clickhousestore.Column{Name: "idx", Type: "UInt32"},
		clickhousestore.Column{Name: "ints", Type: "Map(LowCardinality(String), Int64)"},
		clickhousestore.Column{Name: "doubles", Type: "Map(LowCardinality(String), Float64)"},
		clickhousestore.Column{Name: "strings", Type: "Map(LowCardinality(String), String)"},
		clickhousestore.Column{Name: "blobs", Type: "Map(LowCardinality(String), String)"},
		clickhousestore.Column{Name: "bytes", Type: "UInt32"},
	),
	Make: `CREATE TABLE IF NOT EXISTS ` + table + ` (
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
SETTINGS ` + clickhousestore.Syncing,
}
