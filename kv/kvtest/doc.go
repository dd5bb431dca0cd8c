// Package kvtest is the contract of kv.Store as tests, and a plain model of a
// store to compare with. Every implementation runs Run; a case that it cannot
// meet is named in Harness.Lacks with the reason.
//
// What a store keeps beside the items is consumers/ledgertest's, but for tokens,
// which must be as new as the items after a crash too. The suite proves what can be seen through the interface. What survives a crash is
// tested by each implementation, with Model as the measure.
package kvtest
