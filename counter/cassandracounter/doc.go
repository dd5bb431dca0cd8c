// Package cassandracounter is a counter.Store of which other processes may take partitions over: the counters of the
// partitions that this process applies are on this machine, in a store on Pebble, and are published to Cassandra.
//
// # What it guarantees
//
//   - Everything of a published row is decided, and marks that count say so: nothing is published that the store on
//     this machine does not have, and that has nothing that is not marked.
//   - Rows are values, never increments. A row has the position that the partition was published at, plus one, as its
//     timestamp, so that of two processes the one that was stopped long ago does not win; it says up to which record
//     it covers its counter, so that who takes it over adds nothing twice.
//   - A window is what single records have added to its buckets, each with the record's offset in its key: written
//     once more it is the same row.
//   - Windows are published before the rows of their counters, rows before Published moves.
//   - Take begins a partition with what is published, unless what is on this machine reaches far enough back.
//   - Cassandra's absence holds only what is published: adds and reads go on, and the log is kept.
//
// # What it does not
//
// Events stay on this machine: a recount begins with the value that the partition was taken over with. Take reads every
// row of the partition. The parts of a bucket that many late adds fell into are not put together.
package cassandracounter
