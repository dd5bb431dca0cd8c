// Package ledger is what every store of key-value items keeps on this machine, whatever holds the
// items: on Pebble, the position, tokens, parked records and exceptions of each partition
// (pebblestore), and its uploads, without their chunks.
//
// # What it guarantees
//
// Uploads change with the commit of the batch that says so, and with the sweep that frees them.
// Its directory may be a copy of that of a store that has its items here too, and the other way
// round: the kinds of rows, their merger and their format are named here.
//
// # What it does not
//
// It knows no items. Where they lie in another database, the store writes them before it commits
// here: what is committed here has happened there.
package ledger
