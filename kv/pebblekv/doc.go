// Package pebblekv is the embedded kv.Store: the items of one namespace in a
// Pebble instance of its own.
//
// # What it guarantees
//
// What pebblestore does of its ledger, of commits, failure, damage and Close, and:
//
//   - Which write of an item wins depends on its version alone, never on the
//     order of arrival, and a write costs no read.
//   - A page, a point read and the chunks of an inlined upload are each of one
//     moment of the store. Bytes that are returned are the caller's, items that
//     Query.Each is given are lent.
//   - Work and memory of a call are bounded: by the page, by Limit of a sweep, by
//     2^18 keys looked at for a page, by 65 fragments per layer for a range delete.
//   - Damage that Pebble's block checksums or ours show is never another answer.
//
// # What it does not
//
// It reads no clock but for deadlines of reads: expiry is judged at the Now of a
// query and the LogTime of a sweep. Memtables have no checksum, so memory that
// fails is not noticed. One batch of a partition is open at a time, and Batch and
// Sweep of one partition belong to one goroutine; everything else is safe for
// concurrent use.
//
// # Format, version 1
//
// Beside the tables of pebblestore, whose words are used here. Integers of a given
// length are big-endian. A state has nothing of its own.
//
//	'r' p len(2) id 0x00                  MERGE: newest record tombstone (33), newest range tombstone ever (33)
//	'r' p len(2) id 0x01 layer(1) start   range tombstone: version (33), open (1), end
//	'r' p len(2) id 0x02 key              MERGE: cell
//	't' p bucket id(16)                   token: hash (16), offset (8), log time (8), accepted at (8),
//	                                      time (8), outcome (1), the version found (33) if any,
//	                                      and the default time to live if known (u, us)
//	'u' p upload(16)                      upload: flags (1), expiry (8), time to live (8), if committed
//	                                      version (33) and chunks (4), then record id, compression and
//	                                      content type, each behind its length (2), and key
//	'c' p upload(16) index(4)             chunk: CRC-32C of key and data (4), data
//
// A version is the 33 bytes of wal.Version, all zero for none. A cell is version
// (33), flags (1), with flag 1 compression and content type (length u and bytes
// each), then the value, or with flag 2 instead of it: upload (16), chunks
// (4), size (8), SHA-256 (32). The cell of a delete ends after the flags, which
// are zero. Range tombstones of one layer of a record do not overlap.
package pebblekv
