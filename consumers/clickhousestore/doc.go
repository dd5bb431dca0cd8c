// Package clickhousestore is what all stores in ClickHouse share: the connections to a cluster,
// the tables that it has to have, statements whose values are parameters, and the rows of one
// store in a table that many stores share.
//
// # What it guarantees
//
// Each row of a table begins with the life of its store, and no two stores have one: a store that
// is made again finds nothing of the one before. A block is synced to the disk of ClickHouse
// before Insert returns. Names, keys and values reach ClickHouse as blocks and as parameters of
// queries, never as SQL. Rows of a log that was lost are removed before the first block of a
// partition is written.
//
// # What it does not
//
// It makes no table unless ClusterConfig.MakeSchema says so. While ClickHouse is away, calls fail
// with consumers.ErrStoreAway, and nothing is kept in memory. It does not know what rows mean:
// which of two holds, and which a reader sees, is the store's.
package clickhousestore
