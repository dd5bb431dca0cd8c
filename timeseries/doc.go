// Package timeseries is the time-series abstraction: immutable events in series, written
// through the log and read from a store, newest first. It holds the events and their
// encoding, the time slices, the applier that decides what each call did, the contract of
// a store, and DB, which the gateway calls.
//
// # What it guarantees
//
// An event is series, time, id and items. The first item of an identity (series, time,
// id, item key) in the log holds, in every store; a later one with other bytes changes
// nothing, and one with a new key is added to the event. A call is applied once for its
// token. An event that is outside what the namespace accepts is left out and named in the
// answer; the others are written. A slice that is closed is neither read nor written, and
// is dropped whole. The deletion of a series is of everything that precedes it in the log.
//
// # What it does not
//
// A call over several partitions is not atomic to readers; resending it completes it.
// Copies of events under other tokens are not told apart from new ones in the answer: they
// change nothing.
//
// # Payload format, version 1
//
// The payload of a wal.KindTimeSeries record. A blob is its length as a uvarint and its
// bytes.
//
//	payload  0x01 | op (1 byte) | by op:
//	  1 write   refused blob | events
//	  2 delete  series blob
//	event    series blob | time (zigzag varint, microseconds since 1970) | id blob | items blob
//	items    by key, each: key blob | type (1) | value: 1 string and 4 bytes a blob, 2 int a
//	         zigzag varint, 3 double 8 bytes big-endian
//	refused  what the gateway left out of the call, each: index (uvarint) | reason (1)
//
// Golden bytes are in testdata/payload_v1.hex.
package timeseries
