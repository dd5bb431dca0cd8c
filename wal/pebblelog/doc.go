// Package pebblelog is the embedded log: wal.Broker and wal.Log on one Pebble
// instance of its own, in one directory, opened by one process.
//
// # What it guarantees
//
// A Sync append that is acknowledged has been fsynced, together with every record
// before it in its partition. It survives kill -9 and power loss. Offsets of a
// partition are dense, begin at 0 and are given once, also when everything has been
// trimmed. Nothing above the last finished fsync is ever read, counted in Bounds, or
// named by Barrier. Log time never falls within a partition, whatever the wall clock
// does.
//
// Every record carries a CRC32C over its topic's incarnation, partition, offset, log
// time and bytes, which is checked whenever it is read from the disk. What does not match, and an offset
// that is missing, is a *wal.CorruptError that names the place.
//
// An error of a write or a sync, and damage of a table that is met while the log is
// open, stops the log for good (wal.ErrFailed): nothing is acknowledged after it, what was in flight is wal.ErrUnknown, reads of what is
// durable go on, and a restart reads back what is on disk. Below the free-space
// floor appends are refused before the disk is full (wal.ErrDiskFull) and taken again
// when space returns.
//
// # What it does not
//
// Buffered appends that are not synced yet are lost with the process, by their
// name: Config.BufferedLoss says how much. Damage to the last few
// groups of appends that were written before a crash may be taken for a torn write;
// DESIGN.md says which. A log that failed keeps its directory locked until the
// process ends. Space of trimmed records returns when Pebble compacts, not at once.
//
// # Key layout, format 1
//
// Integers are big-endian. Pebble runs at its newest format version.
//
//	"m/format"                              4 bytes: 1
//	"m/next-topic-id"                       4 bytes; ids are never used again
//	't' name                                version (1) | topic id (4) | partitions (4) | incarnation (16) | crc32c (4)
//	'f' topic id (4) partition (4)          trim floor (8) | log time (8) | crc32c (4)
//	'r' topic id (4) partition (4) offset (8)   crc32c (4) | log time (8) | record
//
// Beside Pebble's files lies ENDS, the durable end of every partition as of at most
// half a second ago:
//
//	"HWENDS01" | topics (4) | per topic: id (4), partitions (4), per partition: end (8) | crc32c (4)
package pebblelog
