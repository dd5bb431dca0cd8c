// Package kv is the key-value abstraction: records of sorted items, written
// through the log and read from a store. It holds the mutations and their
// encoding, the applier that decides what each call did, the contract of a
// store, and DB, which the gateway calls.
//
// # What it guarantees
//
// A call is applied whole or not at all, once for its token, and the newest
// write of an item wins by wal.Version, whatever order writes arrive in. A call
// with a condition is acknowledged only when it holds and is then what readers
// see. What has expired or was deleted is invisible at once. A read that asks
// for a position, for its own writes, or for the latest sees at least that, or
// fails in time. A key with a record that cannot be applied is parked: what came
// before it can be read with EVENTUAL, what follows it waits in order.
//
// # What it does not
//
// A group of calls is one only within a partition. Plain puts are not told
// whether a newer write had already won. It deletes nothing from disk: sweeping
// is asked for by package retention.
//
// # Payload format, version 1
//
// The payload of a wal.KindKV record. Numbers are uvarints unless a size is
// given; a blob is its length and its bytes; times are 8 bytes big-endian,
// microseconds since 1970.
//
//	payload   0x01 | n | n calls
//	call      flags | [1: generation time, 16 bytes nonce, 16 bytes request hash] | n | n mutations
//	mutation  op (1 byte) | flags | id blob | [2: condition] | by op:
//	  1 put            n | n items with values
//	  2 delete keys    n | n key blobs
//	  3 delete range   flags (1: no upper end) | start blob | end blob
//	  4 delete record
//	  5 begin upload   16 bytes id | expiry | ttl (8 bytes, microseconds) | items (one) without value
//	  6 chunk          16 bytes id | index | data blob
//	  7 commit upload  16 bytes id | chunks | size | 32 bytes SHA-256 | items (one) without value
//	  8 abort upload   16 bytes id
//	condition kind (1 byte: 1 if absent, 2 if version) | 33 bytes version
//	item      flags | key blob | [1: expiry] | [2: compression blob, content type blob] | [value blob]
//
// Flag 1 of a mutation stamps it one microsecond before its token's time. A call
// without a token of its own has the record's. Anything else is malformed.
// Golden bytes are in testdata/payload_v1.hex.
package kv
