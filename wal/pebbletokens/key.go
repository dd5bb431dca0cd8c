package pebbletokens

import (
	"encoding/binary"

	"github.com/headwater-db/headwater/wal"
)

const (
	tableLen  = 3 // table, partition
	bucketLen = 9 // start of a bucket, exponent of its width
	keyLen    = tableLen + bucketLen + len(wal.TokenID{})
)

// bucketID names a bucket: entries with a log time of start <= t < start + 2^exp
// microseconds.
type bucketID struct {
	start int64
	exp   uint8
}

func bucketOf(logTime int64, exp uint8) bucketID {
	return bucketID{start: logTime &^ (1<<exp - 1), exp: exp}
}

func (b bucketID) end() int64 { return b.start + 1<<b.exp }

func (b bucketID) has(logTime int64) bool { return bucketOf(logTime, b.exp).start == b.start }

// appendBucket appends the prefix of a bucket's keys.
func appendBucket(dst []byte, table byte, p wal.Partition, b bucketID) []byte {
	dst = append(dst, table, byte(p>>8), byte(p))
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.start))
	return append(dst, b.exp)
}

func appendKey(dst []byte, table byte, p wal.Partition, b bucketID, n *wal.TokenID) []byte {
	return append(appendBucket(dst, table, p, b), n[:]...)
}

// bucketSpan returns the bounds of the entries of a bucket. An exponent is below
// 0xff, so adding one to it is the end.
func bucketSpan(table byte, p wal.Partition, b bucketID) (lo, hi []byte) {
	lo = appendBucket(make([]byte, 0, keyLen+1), table, p, b)
	hi = appendBucket(make([]byte, 0, tableLen+bucketLen), table, p, bucketID{b.start, b.exp + 1})
	return lo, hi
}
