// Package countertest is the contract of counter.Store: what a store must do for
// the applier and its readers to be right. Every implementation runs it.
//
// What a store keeps beside the counters is consumers/ledgertest's, but for tokens,
// which must be as new as the counters after a crash too.
//
// Model is the contract as plain maps, and Program writes random batches to a
// store and a model, for tests of what only one implementation has, such as its
// ways to fail.
package countertest
