// Package pebbledelivery is the store of a log namespace on Pebble: a
// pebblestore.Store and nothing beside it.
//
// It guarantees what delivery.Store asks for, and after a crash is as of some
// commit, with everything before it. It does not hold messages.
package pebbledelivery
