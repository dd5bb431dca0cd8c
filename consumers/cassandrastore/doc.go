// Package cassandrastore is what every store with its rows in Cassandra has in common: the connections
// of a cluster, the schema, and the rows of one life.
//
// # What it guarantees
//
// Connect does not wait for Cassandra. The keyspace and the tables are looked at before the first
// statement; a process that makes no schema names the command that does. A statement is prepared,
// idempotent, sent to a node that has its row, at the consistency of the cluster, and is never sent
// again at a weaker one. What fails because Cassandra is away, or refuses, wraps
// consumers.ErrStoreAway: it passes, and the log has what was to be written.
//
// # What it does not
//
// It makes no table for a namespace: rows of all of them are in the same tables, and begin with a
// dataset, a name for people, and the life of their store. It gives no statement a timestamp: that is
// the caller's, always. Reads are not hedged between nodes.
package cassandrastore
