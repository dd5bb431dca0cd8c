// Package pebblestore is what every store on Pebble has in common: a Pebble
// instance of its own, opened, checked, written and closed in one way, with the
// rows that every store has. What a store keeps, and how its writes merge, is
// its own.
//
// # What it guarantees
//
//   - A directory is opened by one process at a time, and only by the kind of
//     store, format and number of partitions that it was made with. One whose
//     manifest is damaged is refused with all its files.
//   - Open does not wait for compactions that are due, and reads of each partition
//     one row.
//   - The first failed write, and the first damage that is noticed, ends the store:
//     Apply, Sync and Close return the reason from then on, and Config.OnFail is
//     told once. None of them waits for a Pebble that cannot go on.
//   - What was applied before Sync was called survives power loss once Sync
//     returned.
//   - Damage that a read meets is an error that wraps wal.ErrCorrupt.
//
// # What it does not
//
// It does not keep calls away from a Pebble that is closed: a store lets nobody in
// before it calls Close. A store with a failed write cannot be opened again in
// the same process.
//
// # To use it
//
// Open in the store's own Open, with a Layout. Reads, iterators and batches are
// Pebble's own methods. Writes are not: they go through Apply. The state of a
// partition is committed with StateKey in each batch that changes something, the
// token buckets of Tokens behind it, and parked queues with SaveParked.
//
// # Format
//
// The first byte of a key is its table. Integers are big-endian; p is the partition
// in two bytes.
//
//	'f'        version of the store's format (1), partitions (4)
//	's' p      state, as the store wrote it, then token buckets (see wal/pebbletokens)
//	't' p …    tokens (see wal/pebbletokens)
//	'q' p key  parked queue: 1, attempts i, n u, n times partition u, offset i, index i; reason.
//	           u is a varint, i a zigzag varint. Layout.Parked may say another form
//
// All other tables are the store's.
package pebblestore
