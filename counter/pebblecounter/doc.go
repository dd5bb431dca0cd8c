// Package pebblecounter is the embedded counter.Store: the counters of one
// namespace in a Pebble instance of its own.
//
// # What it guarantees
//
//   - A batch, the state saved with it, and its token entries are one Pebble
//     batch: after kill -9 or power loss the store is as of some commit, with
//     everything before it and nothing after it, over all partitions.
//   - Everything committed before Sync was called survives power loss once Sync
//     returned. Without Sync a commit survives kill -9 of the process, and the log
//     replays it after power loss.
//   - A window, a base and a row are written without a read.
//   - The rows of one Counters call, and all that a Snapshot shows, are of one
//     moment. No read waits for a commit, and no commit for a read.
//   - A sweep looks at no more than Limit keys, and an id that waits for its events
//     to be folded is looked at once, however long it waits.
//   - Damage that Pebble's block checksums or ours show is an error that wraps
//     wal.ErrCorrupt, never another answer. After damage or a failed write the
//     store takes no more commits, and Config.OnFail is told.
//
// # What it does not
//
// It reads no clock. It does not check that commits of a partition come in the
// order of their Begin, nor that they go forward. Of two entries of a token in
// one bucket of log time (an eighth of the window or less) the one that was
// saved last is found, whatever their offsets. A snapshot keeps up to three
// memtables and the files of its moment from being freed: do not hold one for
// long. A store with a failed write cannot be opened again in the same process.
//
// A Batch and a Snapshot belong to one goroutine at a time; everything else is
// safe for concurrent use.
//
// # Format, version 1
//
// Keys are big-endian; p is the partition in two bytes. Of values, v is the
// version byte 1, i a zigzag varint, u a varint, and wide a zigzag varint of up to
// 128 bits. A bucket is adds (i), sum (wide).
//
//	'f'                           format version (1), partitions (4)
//	's' p                         state: v, flags (1 expiring), applied i, log time i, max time i,
//	                              next id u, folded i, token buckets (see wal/pebbletokens)
//	'c' p name                    counter: v, flags (1 fixed, 2 starts are in microseconds, not seconds),
//	                              id u, value i, held i, expires at i, last offset i, last event i,
//	                              n u, n times: 0 for none, or bucket, start less the start before i
//	'w' p id(8) seconds(4) start(8, sign turned over)
//	                              MERGE: window: v, bucket
//	'b' p id(8)                   MERGE: base: v, flags (1 cleared), sum i, events i
//	'd' p id(8)                   retired, windows not freed: v, offset i
//	'g' p offset(8) id(8)         retired at offset, waits for the fold: v
//	'e' p offset(8)               event row, as the applier wrote it
//	't' p bucket nonce            token: v, hash (16), outcome, offset i, log time i, accepted at and time
//	                              less the log time i i; with an answer: violation, ended, value i, held i,
//	                              applied delta i, expires at i
//	'h' p nonce(16)               held reservation: v, state, amount i, expires at i, ended at i, name
//	'r' p nonce(16)               ended reservation, the same
//	'q' p key                     parked queue: v, attempts i, n u, n times partition u, offset i, index i; reason
package pebblecounter
