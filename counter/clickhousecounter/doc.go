// Package clickhousecounter is a counter.EventStore in ClickHouse: each decided delta of a namespace
// is a row, which SQL can be asked about, too. The counters themselves, tokens and positions lie in a
// store on this machine, beside which Open puts a small file that names the rows.
//
// # What it guarantees
//
// Events are in ClickHouse, synced to its disk, before the store has the position of their records. A
// row says which event of which record it is, so that a block that is written again, cut elsewhere,
// changes nothing: sums leave copies out. Names reach ClickHouse as blocks, never as SQL. Events that
// are in bases are freed day by day, as partitions of the table.
//
// # What it does not
//
// It makes no table unless the cluster may. While ClickHouse is away, calls fail with
// consumers.ErrStoreAway, and nothing is lost: the log has what is not saved. Copies that a crash has
// brought about are there until ClickHouse merges: whoever asks by SQL says SELECT DISTINCT or FINAL.
package clickhousecounter
