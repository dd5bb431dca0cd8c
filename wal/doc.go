// Package wal is the log that every mutation of Headwater begins in: the
// record and its encoding, positions, versions, tokens, watermarks, and the
// contract (Log, Broker) that the embedded log and Kafka both implement.
//
// # What it guarantees
//
// A record acknowledged by Log.Append with Sync durability is readable by every
// later Reader at the offset that was returned, until Trim passes it: after
// kill -9, and on the embedded log after power loss. A Reader returns records in
// offset order, never one above the durable end, and never skips one: what it
// cannot deliver (trimmed, corrupt, another incarnation) is an error.
//
// # What it does not
//
// It does not deduplicate: the same record appended twice is two entries, and
// it is the applier that gives a token one effect. It does not order records of
// different partitions. It does not interpret payloads.
//
// # Record format, version 1
//
//	byte 0        0x01, the version of the envelope
//	bytes 1...    a protobuf message with these fields, in this order
//
//	 1  bytes    routing_key         decides the partition; readable without the rest
//	 2  varint   kind                see Kind
//	 3  fixed64  generation_time     of the token, microseconds since 1970, 0 = no token
//	 4  bytes    nonce               16 bytes; with the routing key the identity of the write, see TokenID
//	 5  bytes    request_hash        16 bytes; what the token was first used for, see Hash
//	 6  varint   namespace_version   the configuration that accepted the record
//	 7  fixed64  accepted_at         microseconds since 1970, the gateway's clock
//	 8  bytes    origin              of a record made of a message of a log namespace: which one, see Source
//	 9  fixed64  expires_at          microseconds since 1970, 0 = never
//	10  bytes    trace_context       W3C traceparent
//	15  bytes    payload             always last
//
// Fields that are empty or zero are left out. A decoder refuses fields that it
// does not know: a new field is a new version byte, because skipping what one
// does not understand is guessing. An unknown version byte is
// ErrUnknownVersion and stops the partition that it is read from.
//
// Golden bytes are in testdata/record_v1.hex.
package wal
