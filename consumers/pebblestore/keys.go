package pebblestore

import "github.com/headwater-db/headwater/wal"

// The tables that every store has. The numbers are part of the data format.
const (
	TableFormat    = 'f'
	TableState     = 's'
	TableToken     = 't'
	TableParked    = 'q' // queues
	TableParkedRef = 'Q' // what waits in them
	TableException = 'x'
)

// TableLen is the length of what begins every key but that of the format: table,
// partition.
const TableLen = 3

// AppendTable appends what the keys of a partition in a table begin with.
func AppendTable(dst []byte, table byte, p wal.Partition) []byte {
	return append(dst, table, byte(p>>8), byte(p))
}

// Span returns the bounds of a partition's keys in a table: lo is one that may
// be a key, hi is above all.
func Span(table byte, p wal.Partition) (lo, hi []byte) {
	lo = AppendTable(make([]byte, 0, TableLen), table, p)
	return lo, Successor(lo)
}

// Successor returns the smallest key that is above every key with prefix k. k
// has a byte below 0xff, as every prefix has that begins with a table.
func Successor(k []byte) []byte {
	s := append([]byte(nil), k...)
	for i := len(s) - 1; ; i-- {
		if s[i] != 0xff {
			s[i]++
			return s[:i+1]
		}
	}
}

// StateKey is the key of a partition's state.
func StateKey(p wal.Partition) []byte { return AppendTable(nil, TableState, p) }
