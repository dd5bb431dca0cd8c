// Package pebblefail stops a store on Pebble at its first failed write, for
// every store that is one Pebble instance of its own: the embedded log is one.
//
// Pebble panics on some failed writes, with a lock in a state that ends the
// process before anything can be said, and tries others again, at once and for
// ever; where the data of a failed sync is gone from the page cache. So once it is
// open Pebble never hears of a failure: the goroutine that met it stays where it is
// for good, every call that could wait for it returns the reason, and the store's
// owner is told once. A store with a failed write cannot be opened again in the
// same process.
//
// While Pebble opens, errors are its to return, so that a directory that cannot be
// written leaves nothing behind. Two it does not return: a failed sync, of which it
// dies, and a failed flush of what it replays, for which it waits as often as it
// fails. A sync ends the store at any time, and a store that has failed, also by
// work in the background, begins no new file: there the second attempt ends. Work
// in the background that fails without a new file waits, after some attempts, until
// Pebble is closed.
//
// CheckManifest finds damage that Pebble does not.
//
// To use it: open Pebble with Open of a Failure, on its FS, run every write in
// Guard, and close Pebble in Close or GiveUp.
package pebblefail
