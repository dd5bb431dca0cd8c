// Package pebblecounter is the embedded counter.Store: the counters of one
// namespace in a Pebble instance of its own.
//
// # What it guarantees
//
// What pebblestore does of its ledger, of commits, failure, damage and Close, and:
//
//   - A window, a base and a row are written without a read.
//   - The rows of one Counters call, and all that a Snapshot shows, are of one
//     moment. No read waits for a commit, and no commit for a read.
//   - A sweep looks at no more than Limit keys, and an id that waits for its events
//     to be folded is looked at once, however long it waits.
//
// # What it does not
//
// It reads no clock. A snapshot keeps up to three memtables and the files of its
// moment from being freed: do not hold one for long.
//
// A Batch and a Snapshot belong to one goroutine at a time; everything else is
// safe for concurrent use.
//
// # Format, version 1
//
// Beside the tables of pebblestore, whose words are used here. wide is a zigzag
// varint of up to 128 bits, a bucket is adds (i), sum (wide).
//
//	's' p                         of a state: v, flags (1 expiring), next id u, folded i
//	't' p bucket id(16)           token: v, hash (16), outcome, offset i, log time i, accepted at and time
//	                              less the log time i i; with an answer: violation, ended, value i, held i,
//	                              applied delta i, expires at i
//	'c' p name                    counter: v, flags (1 fixed, 2 starts are in microseconds, not seconds),
//	                              id u, value i, held i, expires at i, last offset i, last event i,
//	                              n u, n times: 0 for none, or bucket, start less the start before i
//	'w' p id(8) seconds(4) start(8, sign turned over)
//	                              MERGE: window: v, bucket
//	'b' p id(8)                   MERGE: base: v, flags (1 cleared), sum i, events i
//	'd' p id(8)                   retired, windows not freed: v, offset i
//	'g' p offset(8) id(8)         retired at offset, waits for the fold: v
//	'e' p offset(8)               event row, as the applier wrote it
//	'h' p id(16)                  held reservation: v, state, amount i, expires at i, ended at i, name
//	'r' p id(16)                  ended reservation, the same
//
// Of a shared store also what is to be published:
//
//	'u' p 'c' name                row, or that it is gone: v, a number of the batch that changed it
//	'u' p 'd' id(8)               retired: the same
//	'u' p 'r' id(16)              reservation: the same
//	'u' p 'w' id(8) seconds(4) start(8, sign turned over) offset(8)
//	                              what the record there added to a bucket: v, bucket
//	'k' p                         v, up to where it is published i, above which offset lives have all windows here i,
//	                              up to which offset all rows cover their counters i
package pebblecounter
