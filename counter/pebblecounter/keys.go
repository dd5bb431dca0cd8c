package pebblecounter

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// The first byte of a key says which table it belongs to; see the package
// comment for the layout. The numbers are part of the data format.
const (
	tableFormat  = 'f'
	tableState   = 's'
	tableCounter = 'c'
	tableWindow  = 'w'
	tableBase    = 'b'
	tableRetired = 'd' // ids whose windows are to be freed
	tableGone    = 'g' // ids whose bases are to be freed, by the offset they were retired at
	tableEvents  = 'e'
	tableToken   = 't'
	tableHeld    = 'h' // reservations that are held
	tableEnded   = 'r' // reservations that are not
	tableParked  = 'q'

	tableLen  = 3 // table, partition
	idLen     = tableLen + 8
	goneLen   = tableLen + 8 + 8
	windowLen = idLen + 4 + 8
	offsetLen = tableLen + 8
	nonceLen  = tableLen + wal.NonceSize
)

func appendTable(dst []byte, table byte, p wal.Partition) []byte {
	return append(dst, table, byte(p>>8), byte(p))
}

// tableSpan returns the bounds of a partition's keys in a table.
func tableSpan(table byte, p wal.Partition) (lo, hi []byte) {
	lo = appendTable(make([]byte, 0, tableLen), table, p)
	return lo, successor(lo)
}

// successor returns the smallest key that is above every key with prefix k. k
// has a byte below 0xff, as every prefix here has.
func successor(k []byte) []byte {
	s := append([]byte(nil), k...)
	for i := len(s) - 1; ; i-- {
		if s[i] != 0xff {
			s[i]++
			return s[:i+1]
		}
	}
}

func stateKey(p wal.Partition) []byte { return appendTable(nil, tableState, p) }

func appendCounterKey(dst []byte, p wal.Partition, name []byte) []byte {
	return append(appendTable(dst, tableCounter, p), name...)
}

// appendIDKey is the key of a base or of a retired id.
func appendIDKey(dst []byte, table byte, p wal.Partition, id uint64) []byte {
	return binary.BigEndian.AppendUint64(appendTable(dst, table, p), id)
}

// appendGoneKey is for offsets from 0.
func appendGoneKey(dst []byte, p wal.Partition, o wal.Offset, id uint64) []byte {
	dst = binary.BigEndian.AppendUint64(appendTable(dst, tableGone, p), uint64(o))
	return binary.BigEndian.AppendUint64(dst, id)
}

// appendWindowKey turns the sign of start over, so that times before 1970 come
// first.
func appendWindowKey(dst []byte, p wal.Partition, id uint64, seconds uint32, start int64) []byte {
	dst = appendIDKey(dst, tableWindow, p, id)
	dst = binary.BigEndian.AppendUint32(dst, seconds)
	return binary.BigEndian.AppendUint64(dst, uint64(start)^1<<63)
}

// windowStart is of a key of the window table, whose length is windowLen.
func windowStart(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[windowLen-8:]) ^ 1<<63)
}

// windowSeconds is the size of a window as it stands in keys.
func windowSeconds(size time.Duration) (uint32, error) {
	if size < time.Second || size%time.Second != 0 || size/time.Second > math.MaxUint32 {
		return 0, fmt.Errorf("a window of %v: not a whole number of seconds above 0", size)
	}
	return uint32(size / time.Second), nil
}

func appendEventsKey(dst []byte, p wal.Partition, o wal.Offset) []byte {
	return binary.BigEndian.AppendUint64(appendTable(dst, tableEvents, p), uint64(o))
}

func eventsOffset(key []byte) wal.Offset {
	return wal.Offset(binary.BigEndian.Uint64(key[tableLen:]))
}

func appendNonceKey(dst []byte, table byte, p wal.Partition, n *wal.Nonce) []byte {
	return append(appendTable(dst, table, p), n[:]...)
}

func parkedKey(p wal.Partition, key []byte) []byte {
	return append(appendTable(make([]byte, 0, tableLen+len(key)), tableParked, p), key...)
}
