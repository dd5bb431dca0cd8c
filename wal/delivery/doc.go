// Package delivery is the log offered as a product: callers' own messages, written
// through the API and read back in order. It holds what a log namespace adds to its
// topic: DB, which the gateway calls, the applier that decides once which messages
// count, the contract of the store that remembers it, and what brings messages to targets.
//
// # What it guarantees
//
// A message that was acknowledged is in the log, in order with those of its key.
// Its token puts it there once: of two copies, also through two gateways, only the
// first counts, and Refused tells the other, for as long as the log holds it. What
// is decided about tokens lies in the store, on disk, with the position that it is
// as of.
//
// A message that goes to targets stays in the Outbox of the store until each has it, or is given up with a dead
// letter, or is cancelled. Sender brings it there, at least once: an attempt of which nothing was written down is made
// again. It does not begin before the message is due by the log's clock. Of an ordered target the messages of a key
// come one after the other, by their time and then by their place in the log. What becomes of a message against its
// course, a cancel and a death, is decided by a record of its partition (Event): of a cancel and an attempt one is
// first, since an attempt at a delayed message is written down, and synced, before it is made.
//
// Another namespace of this installation has each message once, in the order of the places of its partition, however
// often it is sent: see wal.Source.
//
// # What it does not
//
// It does not look into payloads. Tokens are remembered for the namespace's window and no longer. What was delivered
// is known in the store alone: a store that is made again from the log delivers what the log has once more, under the
// same ids and tokens.
//
// # Format of the payload of a record
//
// That of a wal.KindMessage is the caller's bytes and nothing else. A message with more than that is a
// wal.KindEnvelope: one version byte, 1, and a protobuf of
//
//	1  bytes     the caller's payload
//	2  repeated  a header: 1 its name, 2 its value
//	3  repeated  the name of a target
//	4  bytes     the delay in microseconds, 8 bytes, big-endian
//	5  bytes     when it is delivered, microseconds since 1970, the same
//	6  bytes     empty: it comes in place of those of its key that wait for their time
//
// A field that a build does not know stops the partition, since it may change what is to be done with the message.
//
// The payload of a message to GroupTarget is a Group: one version byte, 1, and a protobuf of
//
//	1  repeated  a part: 1 the name of its namespace, 2 the incarnation of that one's topic, 3 its record
//	2  bytes     how many mutations the caller sent, 4 bytes, big-endian
//
// That of a wal.KindDelivery is the JSON of an Event.
package delivery
