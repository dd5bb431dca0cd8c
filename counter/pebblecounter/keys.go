package pebblecounter

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
)

// The tables beside those that every store has; see the package comment for the
// layout. The numbers are part of the data format.
const (
	tableCounter = 'c'
	tableWindow  = 'w'
	tableBase    = 'b'
	tableRetired = 'd' // ids whose windows are to be freed
	tableGone    = 'g' // ids whose bases are to be freed, by the offset they were retired at
	tableEvents  = 'e'
	tableHeld    = 'h' // reservations that are held
	tableEnded   = 'r' // reservations that are not
	// Of a shared store.
	tableUnpublished = 'u'
	tableShares      = 'k'

	tableLen   = pebblestore.TableLen
	idLen      = tableLen + 8
	goneLen    = tableLen + 8 + 8
	windowLen  = idLen + 4 + 8
	offsetLen  = tableLen + 8
	tokenIDLen = tableLen + len(wal.TokenID{})
)

func appendCounterKey(dst []byte, p wal.Partition, name []byte) []byte {
	return append(pebblestore.AppendTable(dst, tableCounter, p), name...)
}

// appendIDKey is the key of a base or of a retired id.
func appendIDKey(dst []byte, table byte, p wal.Partition, id uint64) []byte {
	return binary.BigEndian.AppendUint64(pebblestore.AppendTable(dst, table, p), id)
}

// appendGoneKey is for offsets from 0.
func appendGoneKey(dst []byte, p wal.Partition, o wal.Offset, id uint64) []byte {
	dst = binary.BigEndian.AppendUint64(pebblestore.AppendTable(dst, tableGone, p), uint64(o))
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
	return binary.BigEndian.AppendUint64(pebblestore.AppendTable(dst, tableEvents, p), uint64(o))
}

func eventsOffset(key []byte) wal.Offset {
	return wal.Offset(binary.BigEndian.Uint64(key[tableLen:]))
}

func appendTokenKey(dst []byte, table byte, p wal.Partition, n *wal.TokenID) []byte {
	return append(pebblestore.AppendTable(dst, table, p), n[:]...)
}
