// Package pebblefail stops a store on Pebble at its first failed write, for
// every store that is one Pebble instance of its own: the embedded log is one.
//
// Pebble panics on some failed writes, with a lock in a state that ends the
// process before anything can be said, and tries others again, where the data of
// a failed sync is gone from the page cache. So Pebble never hears of a failure:
// the goroutine that met it stays where it is for good, every call that could
// wait for it returns the reason, and the store's owner is told once. A store
// with a failed write cannot be opened again in the same process.
//
// CheckManifest finds damage that Pebble does not.
//
// To use it: open Pebble with Open of a Failure, on its FS, Arm the FS when the
// store is open, run every write in Guard and Close in WhileNotStuck.
package pebblefail
