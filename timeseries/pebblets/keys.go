package pebblets

import (
	"encoding/binary"
	"math"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/timeseries/ledger"
	"github.com/headwater-db/headwater/wal"
)

// The tables. The numbers are part of the data format.
const (
	tableEvent = ledger.TableEvent
	tableName  = ledger.TableName
	tableIndex = ledger.TableIndex
	tableStale = ledger.TableStale
)

// ordered is a time in an order that bytes have.
func ordered(t int64) uint64 { return uint64(t) ^ 1<<63 }

// newestFirst is a time in the opposite order.
func newestFirst(t int64) uint64 { return ^ordered(t) }

func timeOf(v uint64) int64 { return int64(^v ^ 1<<63) }

func appendSlice(dst []byte, table byte, p wal.Partition, start int64) []byte {
	dst = pebblestore.AppendTable(dst, table, p)
	return binary.BigEndian.AppendUint64(dst, ordered(start))
}

// seriesPrefix is what the keys of the events of a series in a slice begin with.
func appendSeries(dst []byte, p wal.Partition, start int64, series []byte) []byte {
	dst = appendSlice(dst, tableEvent, p, start)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(series)))
	return append(dst, series...)
}

// eventAt is the key of an event; prefix is that of its series.
func eventAt(prefix []byte, t int64, id []byte) []byte {
	k := append(make([]byte, 0, len(prefix)+8+len(id)+1), prefix...)
	k = binary.BigEndian.AppendUint64(k, newestFirst(t))
	return append(k, id...)
}

// spanOf are the bounds of the keys of a series with start <= t < end. prefix is that of
// the series.
func spanOf(prefix []byte, start, end int64) (lo, hi []byte) {
	if end == math.MinInt64 {
		return prefix, prefix
	}
	lo = eventAt(prefix, end-1, nil)
	if newestFirst(start) == math.MaxUint64 {
		return lo, pebblestore.Successor(prefix)
	}
	hi = append(make([]byte, 0, len(prefix)+8), prefix...)
	return lo, binary.BigEndian.AppendUint64(hi, newestFirst(start)+1)
}

// splitEvent takes the key of an event apart. It keeps parts of k.
func splitEvent(k []byte) (slice int64, series []byte, t int64, id []byte, ok bool) {
	if len(k) < pebblestore.TableLen+8+2 {
		return 0, nil, 0, nil, false
	}
	k = k[pebblestore.TableLen:]
	slice = int64(binary.BigEndian.Uint64(k) ^ 1<<63)
	n := int(binary.BigEndian.Uint16(k[8:]))
	if k = k[10:]; len(k) < n+8 {
		return 0, nil, 0, nil, false
	}
	return slice, k[:n], timeOf(binary.BigEndian.Uint64(k[n:])), k[n+8:], true
}

func nameKey(p wal.Partition, series []byte) []byte {
	return append(pebblestore.AppendTable(make([]byte, 0, pebblestore.TableLen+len(series)), tableName, p), series...)
}
