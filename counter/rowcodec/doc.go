// Package rowcodec is how rows of counters, windows and reservations are encoded, the same in every store.
// The format is written down in package pebblecounter.
//
// # What it guarantees
//
// What was appended is decoded to the same values, and bytes of another form are wal.ErrCorrupt or, of a newer
// build, wal.ErrUnknownVersion; none of them panics.
//
// # What it does not
//
// A row has no checksum: that is the store's.
package rowcodec
