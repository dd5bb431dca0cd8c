// Package counter counts: int64 counters by name, added to through the log.
//
// Each log record carries one call, or the part of a call that lies in one
// partition: a batch of adds under one token, an add that wants its result, a
// clear, or a step of a reservation. The Applier decides each in log order, in a
// Rollup: counters that were touched lately and everything decided since the
// last flush, in memory. Readers read the rollup at once; the store gets it about
// once a second, counts, windows, events, tokens and position in one batch. A
// crash costs the reading of the log from the position that was saved.
//
// # What is guaranteed
//
//   - A call has one effect in each partition that it touches, however often it
//     is sent, redelivered or replayed, within the namespace's token window. Every
//     copy gets the first decision's answer, refusals included.
//   - A value never leaves int64: an add that would is refused. So are adds that a
//     bound rejects. A refusal that nobody waits for is a dead letter; it never
//     parks the counter.
//   - A clear takes effect at its place in the log. Reservations that are held
//     survive it.
//   - What is held is never more than what was available: value less held, decided
//     by the one applier of the counter's partition.
//   - Every decided delta is an event row until it is folded into the counter's
//     base; DB.Verify counts them again.
//   - An accurate read is linearizable per counter. Every count says what position
//     and time it is exact as of.
//   - The appliers know no clock but the log's: times to live and leases end at a
//     log time. To readers they end when it is due, whether a record says so yet
//     or not.
//
// # What is not
//
// An AddCounts over several partitions is not atomic to readers; resending it
// completes it. In a BestEffort namespace a crash loses adds that were
// acknowledged within DB.BufferedLoss. Series are the history of a counter's
// adds: they stay when the counter is cleared, and go when its time to live ends.
// Windows are kept as long as the counter.
//
// # Payload of a record
//
// Version 1: byte 0x01, byte Op, then by Op
//
//	Add        adds, to the end
//	AddAndGet  an add, byte of bounds (1 floor, 2 ceiling, 4 saturate), varint floor?, varint ceiling?
//	Clear      name
//	Reserve    name, varint amount, varint lease in microseconds
//	Settle     name, 16 bytes of reservation, byte 1 (all of it) or byte 0 and varint amount
//	Cancel     name, 16 bytes of reservation
//
// where a name is uvarint length, bytes; an add is
//
//	uvarint length of the name << 1 | more, name, varint delta, and with more:
//	byte of flags (1 event time, 2 time to live, 4 token), varint event time?,
//	uvarint time to live?, 16 bytes nonce + 8 bytes generation time + 16 bytes hash?
//
// with times in microseconds since 1970 and varints as in protobuf's sint64.
//
// The routing key of a record of adds is the smallest of its counters: with the
// record's token it is the identity of the call in that partition. An AddCount is
// a record of one add with a token of its own, and has no other.
//
// An event row is byte 0x01, 8 bytes log time, 8 bytes accepted-at, 16 bytes nonce
// of the call's token, then events: uvarint id << 3 | kind << 1 | own time, uvarint
// distance to the counter's event row before, varint delta, varint event time?.
// The distances make the events of one counter a chain, which costs a byte or two
// for each and no index: a recount reads the rows that the counter is in.
package counter
