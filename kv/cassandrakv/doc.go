// Package cassandrakv is the kv.Store whose items are in Cassandra. Its ledger (positions, tokens,
// exceptions, parked records, uploads without their chunks) is on Pebble on this machine.
//
// # What it guarantees
//
//   - Which write of an item wins depends on its version alone: the version's time is the write
//     timestamp, an item is one cell, and its expiry and nonce come first in the cell, so that Cassandra's own
//     rules for equal timestamps (a delete, then what ends, then the larger value) are those of wal.Version.
//   - An item is written and deleted without a read. A delete of a range or of a record is one tombstone.
//   - What a Commit saves in the ledger has happened in Cassandra before. A crash in between has the log
//     applied again, which changes nothing: consumers.Ahead repeats what was decided by a look.
//   - A process that Takes a partition goes on where another one has ended, with a ledger of its own or with none.
//   - What has expired is invisible by its own expiry. Cassandra's time to live, which ends a day later at
//     the least, only frees space.
//   - The changes of one record in a Commit are one batch of one partition, so a reader sees all of them
//     or none, up to 4 MiB and 1,000 changes; of several records a reader may see some earlier.
//
// # What it does not
//
// Item is told no version of what a tombstone hides, since Cassandra does not show it: newest is then that
// of the newest delete or end in the partition, or above. Of two writes of one version (equal nonces, too)
// the one with the larger value wins. Of two expiring writes of one microsecond the one wins whose time to
// live ends in the later second, as counted by the node that took it. A Snapshot moves on: it shows what is written while it is
// read. Scan reads the index of records, which may name some that have nothing left; a sweep takes them out.
// Reads are not hedged.
//
// # Layout, version 1
//
// Rows begin with dataset, a name for people, the life of the store and the partition of its log.
//
//	kv_items_1   (dataset, store, part, id), key    cell: class (1), with class Expiring the expiry (8,
//	                                                microseconds since 1970), nonce (16), then what kv.PutCell
//	                                                writes; its write timestamp is the version's time
//	kv_records_1 (dataset, store, part, bucket), len, id
//	                                                one row for a record that has had an item, in 16 buckets by
//	                                                its hash; its timestamp is the time of a put
//	kv_chunks_1  (dataset, store, part, upload), idx
//	                                                data: CRC-32C of upload, index and data (4), data. Timestamp 1;
//	                                                a drop has timestamp 2, since no upload has two lives
//	kv_uploads_1 (dataset, store, part), upload     about: as in the ledger; its timestamp is the offset that the
//	                                                partition was applied to, plus one
//
// In the ledger, beside the cache (see cache.go) and what package ledger has: 'g' p, the time of the partition's newest delete or write
// that ends (8, microseconds), and 'd' p, up to where the partition was decided (8).
package cassandrakv
