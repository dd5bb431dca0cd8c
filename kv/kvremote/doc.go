// Package kvremote is kv.Owner of partitions that another process holds, and that
// process's answers.
//
// What is guaranteed of an answer is said in package remote; a page is that of
// kv.Store.Get and kv.Store.Scan of the owner. A deadline of a page is kept by the owner's
// own clock, from the time at which the question arrives.
package kvremote
