// Command chbridge makes a ClickHouse server of libchdb, ClickHouse's engine as a library, for
// tests: it answers both protocols of clickhouse-go, HTTP and native TCP.
//
//	chbridge LIBRARY DATADIR HTTP_ADDRESS NATIVE_ADDRESS
//
// # What it guarantees
//
// Every statement runs in the real engine, on MergeTree tables in DATADIR that survive a kill.
// Blocks, settings, server-side parameters, LZ4 and errors with their codes go over the wire as a
// server sends them, at protocol revision 54460.
//
// # What it does not do
//
// It has one session: one statement runs at a time, a statement whose caller has gone away runs on,
// and an answer is held in memory before it is sent. There are no users, quotas, row policies, TLS
// and no replication. Of HTTP it knows what clickhouse-go sends.
package main
