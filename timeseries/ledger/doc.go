// Package ledger is what every store of events keeps on this machine, whatever holds the
// events: on Pebble, the position, tokens, parked records and exceptions of each partition
// (pebblestore), and its time slices.
//
// # What it guarantees
//
// Slices change with the commit of the batch that makes them and with the sweep that drops
// them, and are read without a look at the disk.
//
// # What it does not
//
// It knows no events. Where they lie in another database, the store writes them before it
// commits here: what is committed here has happened there.
package ledger
