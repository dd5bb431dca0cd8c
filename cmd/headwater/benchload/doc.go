// Package benchload is the load side of the benchmarks: it drives a running
// server through the Go client with a number of callers for a while, and says how
// fast, how late, what failed and what was durable.
//
// It is closed-loop: a caller sends its next call when it has the answer to the
// last. A server that stalls is then sent less, so latencies here are those of
// callers that wait, not of traffic that arrives regardless. Every error is
// counted; a run with errors still reports, and says so. It measures nothing that
// is not answered: calls cut off by the end of the run are left out.
//
// The harness in bench/ and `headwater bench` share it.
package benchload
