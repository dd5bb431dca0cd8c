package clickhousecounter

import "github.com/headwater-db/headwater/consumers/clickhousestore"

// table is the name of the table, with the version of its layout.
const table = "headwater_counter_events_1"

// Table has the events of the counters of all stores of a database.
//
// A row is one event. store is the life of a store, dataset and counter are for people: life names
// a life of a counter, from the add that began it to its end. decided is the offset of the record
// that decided it, and idx which of the record's events it is. slice is the day of the record's log
// time. Times are microseconds since 1970. kind is a counter.EventKind.
//
// The key begins with the life, so that a recount reads the events of one counter and no others.
var Table = &clickhousestore.Table{
	Name: table,
	Columns: clickhousestore.Columns(
		clickhousestore.Column{Name: "counter", Type: "String"},
		clickhousestore.Column{Name: "life", Type: "UInt64"},
		clickhousestore.Column{Name: "decided", Type: "Int64"},
		clickhousestore.Column{Name: "idx", Type: "UInt32"},
		clickhousestore.Column{Name: "kind", Type: "UInt8"},
		clickhousestore.Column{Name: "delta", Type: "Int64"},
		clickhousestore.Column{Name: "event_time", Type: "Int64"},
		clickhousestore.Column{Name: "log_time", Type: "Int64"},
		clickhousestore.Column{Name: "accepted_at", Type: "Int64"},
		clickhousestore.Column{Name: "nonce", Type: "String"},
	),
	Make: `CREATE TABLE IF NOT EXISTS ` + table + ` (
    store LowCardinality(String),
    dataset LowCardinality(String),
    part UInt32,
    slice Int64,
    counter String CODEC(ZSTD(1)),
    life UInt64 CODEC(Delta, ZSTD(1)),
    decided Int64 CODEC(Delta, ZSTD(1)),
    idx UInt32 CODEC(Delta, ZSTD(1)),
    kind UInt8 CODEC(ZSTD(1)),
    delta Int64 CODEC(ZSTD(1)),
    event_time Int64 CODEC(Delta, ZSTD(1)),
    log_time Int64 CODEC(Delta, ZSTD(1)),
    accepted_at Int64 CODEC(Delta, ZSTD(1)),
    nonce String CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(event_time, 'UTC'),
    what String ALIAS multiIf(kind = 0, 'add', kind = 1, 'clear', 'settle')
) ENGINE = ReplacingMergeTree
PARTITION BY (store, part, slice)
ORDER BY (store, part, slice, life, decided, idx)
SETTINGS ` + clickhousestore.Syncing,
}
