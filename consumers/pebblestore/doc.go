// Package pebblestore is what every store on Pebble has in common: a Pebble
// instance of its own, opened, checked, written and closed in one way, and the
// ledger of each partition beside the store's data. What a store keeps as data,
// and how its writes merge, is its own.
//
// # What it guarantees
//
//   - A Store implements consumers.Ledger, a Batch consumers.Batch. A commit is one
//     Pebble batch: the changes of the data, the state, token entries, exceptions
//     and parked queues are there together or not at all, and a crash leaves a
//     prefix of the commits, over all partitions.
//   - Everything committed before Sync was called survives power loss once Sync
//     returned. Without Sync a commit survives neither power loss nor kill -9: the
//     log has it.
//   - A directory is opened by one process at a time, and only by the kind of
//     store, format and number of partitions that it was made with. One whose
//     manifest is damaged is refused with all its files.
//   - Open does not wait for compactions that are due, and reads of each partition
//     one row.
//   - The first failed write, and the first damage that is noticed, ends the store:
//     Commit, Sync and Close return the reason from then on, and Config.OnFail is
//     told once. None of them waits for a Pebble that cannot go on.
//   - Damage that a read meets is an error that wraps wal.ErrCorrupt.
//   - Pebble is not used after Close: who is inside is waited for, what is kept open
//     (Keep) is closed, who comes later gets consumers.ErrClosed. No lock is held
//     during a call, so a callback may call the store again.
//   - A sweep looks at no more keys than its limit. Token entries go by the bucket,
//     one range deletion each, and do not count.
//
// # What it does not
//
// It reads no clock. It does not check that commits of a partition come in the
// order of their Begin, nor that they go forward. Of two entries of a token in one
// bucket of log time (an eighth of the window or less) the one that was saved last
// is found, whatever their offsets. A store with a failed write cannot be opened
// again in the same process.
//
// # To use it
//
// A store embeds a *Store, which it opens with a Layout, and its batch embeds a
// Batch. A read of its own begins with Enter and ends with Leave; in between it may
// use what DB has, which is all of Pebble's reads. What it writes goes into W of a
// Batch or of a Sweep.
//
// # Format
//
// The first byte of a key is its table. Integers of keys are big-endian; p is the
// partition in two bytes. Of values, v is the version byte 1, i a zigzag varint, u
// a varint.
//
//	'f'              version of the store's format (1), partitions (4)
//	's' p            state: v, flags (1 follows), applied i, log time i, max time i, step u, first exception i;
//	                 what else the store has of it; token buckets (see wal/pebbletokens)
//	't' p bucket …   tokens (see wal/pebbletokens): the value as the store writes it
//	'q' p id(16)     parked queue: v, attempts i, at i, log time i, length of the key u, key, reason; the id
//	                 is the first 16 bytes of the key's SHA-256
//	'Q' p id(16) offset(8) index(4)
//	                 a record that waits in the queue; index 0xffffffff is the whole record
//	'x' p offset(8)  exceptions of a record, as the applier wrote them
//
// All other tables are the store's.
package pebblestore
