// Package pebblekv is the embedded kv.Store: the items of one namespace in a
// Pebble instance of its own.
//
// # What it guarantees
//
//   - A batch, the state saved with it, and its token entries are one Pebble
//     batch: after kill -9 or power loss the store is as of some commit, with
//     everything before it and nothing after it.
//   - Everything committed before Sync was called survives power loss once Sync
//     returned. Without Sync a commit survives neither: the log replays it.
//   - Which write of an item wins depends on its version alone, never on the
//     order of arrival, and a write costs no read.
//   - A page, a point read and the chunks of an inlined upload are each of one
//     moment of the store. Bytes that are returned are the caller's, items that
//     Query.Each is given are lent.
//   - Work and memory of a call are bounded: by the page, by Limit of a sweep, by
//     2^18 keys looked at for a page, by 65 fragments per layer for a range delete.
//   - Damage that Pebble's block checksums or ours show is an error that wraps
//     wal.ErrCorrupt, never another answer. After damage or a failed background
//     write the store takes no more commits, and Config.OnFail is told.
//
// # What it does not
//
// It reads no clock but for deadlines of reads: expiry is judged at the Now of a
// query and the LogTime of a sweep. Memtables have no checksum, so memory that
// fails is not noticed. A store with a failed write cannot be opened again in the
// same process. Batch and Sweep of one partition belong to one
// goroutine; everything else is safe for concurrent use.
//
// # Format, version 1
//
// Integers are big-endian. p is the partition in two bytes.
//
//	'f'                                   format version, partitions (4)
//	's' p                                 state: applied (8), log time (8), max time (8), n (2),
//	                                      n times token bucket: start (8), exponent (1), entries (8)
//	'r' p len(2) id 0x00                  MERGE: newest record tombstone (25), newest range tombstone ever (25)
//	'r' p len(2) id 0x01 layer(1) start   range tombstone: version (25), open (1), end
//	'r' p len(2) id 0x02 key              MERGE: cell
//	't' p start(8) exponent(1) nonce(16)  token: hash (16), offset (8), log time (8), accepted at (8),
//	                                      time (8), outcome (1), the version found (25) if any,
//	                                      and the default time to live if known (uvarint, us)
//	'u' p upload(16)                      upload: flags (1), expiry (8), if committed version (25) and
//	                                      chunks (4), len (2), record id, key
//	'c' p upload(16) index(4)             chunk: CRC-32C of key and data (4), data
//	'q' p key                             parked queue: attempts (4), n (4), n times partition (4),
//	                                      offset (8), index (4); reason
//
// A version is the 25 bytes of wal.Version, all zero for none. A cell is version
// (25), flags (1), with flag 1 compression and content type (uvarint length and
// bytes each), then the value, or with flag 2 instead of it: upload (16), chunks
// (4), size (8), SHA-256 (32). The cell of a delete ends after the flags, which
// are zero. A token bucket holds the entries with start <= log time < start +
// 2^exponent microseconds. Range tombstones of one layer of a record do not
// overlap.
package pebblekv
