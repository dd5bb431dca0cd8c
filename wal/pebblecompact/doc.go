// Package pebblecompact keeps Pebble from compacting while it opens.
//
// Open of a Pebble that was not closed, and of most that were, flushes what it
// replayed from its write-ahead log. The end of that flush starts whatever
// compaction the last process left undone, and Open then waits for it, since it
// looks for files that nothing names any more. Such a compaction rewrites up to
// hundreds of megabytes: with 10 M records it was 2 s of a start of 2.1 s. A
// Scheduler grants none until Begin.
//
// To use it: New for each Pebble, as Options.Experimental.CompactionScheduler,
// and Begin when the store is open. A store that is closed before Begin is right
// too. From Begin on it grants as Pebble's own scheduler does, as many at a time
// as Pebble allows itself.
//
// What it does not hold back: flushes, and compactions that only delete files,
// which Pebble does not ask for. Formats of Pebble whose introduction compacts
// marked files while Open waits (none that a store here was ever made with)
// would wait for ever.
package pebblecompact
