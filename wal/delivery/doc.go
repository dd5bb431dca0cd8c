// Package delivery is the log offered as a product: callers' own messages, written
// through the API and read back in order. It holds what a log namespace adds to its
// topic: DB, which the gateway calls, the applier that decides once which messages
// count, and the contract of the store that remembers it.
//
// # What it guarantees
//
// A message that was acknowledged is in the log, in order with those of its key.
// Its token puts it there once: of two copies, also through two gateways, only the
// first counts, and Refused tells the other, for as long as the log holds it. What
// is decided about tokens lies in the store, on disk, with the position that it is
// as of.
//
// # What it does not
//
// It does not deliver: readers follow the log with ReadLog. It does not look into
// payloads. Tokens are remembered for the namespace's window and no longer.
//
// # Format of the payload of a record
//
// That of a wal.KindMessage is the caller's bytes and nothing else. A message with more than that is a
// wal.KindEnvelope: one version byte, 1, and a protobuf of
//
//	1  bytes     the caller's payload
//	2  repeated  a header: 1 its name, 2 its value
//
// A field that a build does not know stops the partition, since it may change what is to be done with the message.
package delivery
