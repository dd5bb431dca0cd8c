// Package pebblelog is the embedded log: wal.Broker and wal.Log on one Pebble
// instance of its own, in one directory, opened by one process.
package pebblelog
