// Package pebbledelivery is the store of a log namespace on Pebble: a pebblestore.Store, and the outbox of messages
// that targets are to get.
//
// It guarantees what delivery.Store asks for, and after a crash is as of some
// commit, with everything before it. Of messages without a target it holds nothing but their tokens.
package pebbledelivery
