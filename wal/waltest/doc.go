// Package waltest is the contract of wal.Broker, wal.Log and wal.Reader as a test
// suite. Every log runs it: the embedded one, Kafka's stand-in, and real brokers.
//
// It holds what all logs promise and nothing that only one can do. What a backend
// lacks is named in Harness.Lacks with the reason, and shows up as a skip.
//
// Topic names begin with "headwater.test." and are drawn at random, so that a
// suite can run against a broker that others use too.
package waltest
