// Package clusterstore is what all stores with their data on another server have alike, ClickHouse or
// Cassandra: the name of their rows, which is in their directory here, and the one look at the schema
// before the first statement.
//
// # What it guarantees
//
// Each directory gets a name of 16 random bytes, its life, that no other has; it is on disk before it
// is returned. What is on the server under a life belongs to that directory, and is removed before it.
//
// # What it does not
//
// It asks no server, and does not know whether a directory is a copy of another.
package clusterstore
