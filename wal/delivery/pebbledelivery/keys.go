package pebbledelivery

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// The tables of messages, each begun by the partition. Numbers are big-endian. The letters are part of the data format.
const (
	tableMessage = 'm' // offset -> a message that has not ended
	tableStatus  = 'n' // offset -> what came of it so far; absent: nothing
	tableEnded   = 'e' // time of the end, offset -> nonce: what is to be forgotten
	tableBuried  = 'b' // offset -> a message that has ended with a dead delivery
	tableDead    = 'z' // time of the death, offset, target -> nothing: dead deliveries
	tableDue     = 'd' // target, time of the next attempt, offset -> a delivery that may be made then
	tableQueue   = 'k' // target, key, due, offset -> flags: all deliveries of a key that have an order
	tableHead    = 'h' // target, key -> the one of them that is in tableDue
	tableDelayed = 'w' // due, offset -> nothing: messages that were given a delay and have not ended
	tableByKey   = 'y' // key, due, offset -> nothing: the same, by key
	tableNonce   = 'i' // nonce of the token, offset -> its identity: messages of which something is known
)

func appendNumber[T ~int64](dst []byte, n T) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n))
}

func numberAt(b []byte, at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }

// appendText appends bytes of which none begins with others that are shorter.
func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func offsetKey(table byte, p wal.Partition, o wal.Offset) []byte {
	return appendNumber(pebblestore.AppendTable(nil, table, p), o)
}

func endedKey(p wal.Partition, at int64, o wal.Offset) []byte {
	return appendNumber(appendNumber(pebblestore.AppendTable(nil, tableEnded, p), at), o)
}

func deadKey(p wal.Partition, at int64, o wal.Offset, target string) []byte {
	return append(appendNumber(appendNumber(pebblestore.AppendTable(nil, tableDead, p), at), o), target...)
}

// deadPlaceOf reads what deadKey wrote.
func deadPlaceOf(k []byte) (d delivery.DeadPlace, err error) {
	if len(k) < pebblestore.TableLen+16 {
		return d, fmt.Errorf("%w: key of %d bytes", wal.ErrCorrupt, len(k))
	}
	k = k[pebblestore.TableLen:]
	return delivery.DeadPlace{At: numberAt(k, 0), Offset: wal.Offset(numberAt(k, 8)), Target: string(k[16:])}, nil
}

func noncePrefix(p wal.Partition, n wal.Nonce) []byte {
	return append(pebblestore.AppendTable(nil, tableNonce, p), n[:]...)
}

func nonceKey(p wal.Partition, n wal.Nonce, o wal.Offset) []byte {
	return appendNumber(noncePrefix(p, n), o)
}

func targetKey(table byte, p wal.Partition, target string) []byte {
	return appendText(pebblestore.AppendTable(nil, table, p), target)
}

func dueKey(p wal.Partition, target string, at int64, o wal.Offset) []byte {
	return appendNumber(appendNumber(targetKey(tableDue, p, target), at), o)
}

func queuePrefix(p wal.Partition, target string, key []byte) []byte {
	return appendText(targetKey(tableQueue, p, target), key)
}

func queueKey(p wal.Partition, target string, key []byte, due int64, o wal.Offset) []byte {
	return appendNumber(appendNumber(queuePrefix(p, target, key), due), o)
}

func headKey(p wal.Partition, target string, key []byte) []byte {
	return appendText(targetKey(tableHead, p, target), key)
}

func delayedKey(p wal.Partition, due int64, o wal.Offset) []byte {
	return appendNumber(appendNumber(pebblestore.AppendTable(nil, tableDelayed, p), due), o)
}

func byKeyPrefix(p wal.Partition, key []byte) []byte {
	return appendText(pebblestore.AppendTable(nil, tableByKey, p), key)
}

func byKeyKey(p wal.Partition, key []byte, due int64, o wal.Offset) []byte {
	return appendNumber(appendNumber(byKeyPrefix(p, key), due), o)
}

// placeOf reads the time and the offset that a key ends with.
func placeOf(k []byte) (at int64, o wal.Offset, err error) {
	if len(k) < 16 {
		return 0, 0, fmt.Errorf("%w: key of %d bytes", wal.ErrCorrupt, len(k))
	}
	return numberAt(k, len(k)-16), wal.Offset(numberAt(k, len(k)-8)), nil
}

// The flags of a delivery.
const (
	flagOrdered = 1 << iota
	flagMarked
	flagDelayed
	flagParked
)

func flagsOf(d *delivery.Delivery) (f byte) {
	if d.Ordered {
		f |= flagOrdered
	}
	if d.Marked {
		f |= flagMarked
	}
	if d.Delayed {
		f |= flagDelayed
	}
	if d.Parked {
		f |= flagParked
	}
	return f
}

// appendDelivery writes what its key in tableDue does not say: flags (1), due (8), attempts (4), key.
func appendDelivery(dst []byte, d *delivery.Delivery) []byte {
	dst = append(dst, flagsOf(d))
	dst = appendNumber(dst, d.Due)
	dst = binary.BigEndian.AppendUint32(dst, uint32(d.Attempts))
	if d.Ordered {
		dst = append(dst, d.Key...)
	}
	return dst
}

const deliveryLen = 1 + 8 + 4

func decodeDelivery(target string, at int64, o wal.Offset, v []byte) (delivery.Delivery, error) {
	d := delivery.Delivery{Target: target, At: at, Offset: o}
	if len(v) < deliveryLen {
		return d, fmt.Errorf("%w: delivery of %d bytes", wal.ErrCorrupt, len(v))
	}
	d.Ordered, d.Marked, d.Delayed, d.Parked = v[0]&flagOrdered != 0, v[0]&flagMarked != 0, v[0]&flagDelayed != 0, v[0]&flagParked != 0
	d.Due = numberAt(v, 1)
	d.Attempts = int(binary.BigEndian.Uint32(v[9:]))
	if d.Ordered {
		d.Key = append([]byte(nil), v[deliveryLen:]...)
	}
	return d, nil
}

// appendHead writes a delivery of a known target and key: time and offset of its row in tableDue, and what that has.
func appendHead(dst []byte, d *delivery.Delivery) []byte {
	return appendDelivery(appendNumber(appendNumber(dst, d.At), d.Offset), d)
}

func decodeHead(target string, v []byte) (delivery.Delivery, error) {
	if len(v) < 16 {
		return delivery.Delivery{}, fmt.Errorf("%w: head of a key of %d bytes", wal.ErrCorrupt, len(v))
	}
	return decodeDelivery(target, numberAt(v, 0), wal.Offset(numberAt(v, 8)), v[16:])
}
