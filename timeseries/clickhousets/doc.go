// Package clickhousets is a timeseries.Store whose events lie in ClickHouse. What is decided,
// tokens, positions and the list of slices lie in a ledger on this machine (timeseries/ledger).
//
// # What it guarantees
//
// A batch is in ClickHouse, synced to its disk, before the ledger says so. Each row says where
// in the log it was decided, so a batch that is written again, cut elsewhere, changes nothing:
// reads drop copies, and of two items of one event and key the first in log order holds. A read
// sees what the ledger's position covers and nothing beyond, also while a batch is under way.
// Time slices are dropped as partitions of the table, at a cost that does not depend on what
// they hold. Values come back with their types and every byte.
//
// Names, keys and values reach ClickHouse as blocks and as parameters of queries, never as SQL.
//
// # What it does not
//
// It makes no table unless Config.MakeSchema says so. While ClickHouse is away, calls fail with
// consumers.ErrStoreAway, and nothing is lost or kept in memory. A ledger that is lost with its
// directory is made again from the log, with rows of its own: two stores never share rows.
package clickhousets
