package cassandrakv

import (
	"encoding/binary"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const nonceLen = len(wal.Nonce{})

// appendCell writes the cell of an item: what of its version the timestamp does not say, then the item. Of two cells
// of one timestamp Cassandra takes one that ends over one that does not, then the one that ends in the later
// second, then the larger bytes: the expiry and the nonce come first.
func appendCell(v *wal.Version, it *kv.StoredItem) []byte {
	head := 1 + nonceLen
	if v.Class == wal.Expiring {
		head += 8
	}
	b := append(make([]byte, 0, head+kv.CellLen(it)), byte(v.Class))
	if v.Class == wal.Expiring {
		b = binary.BigEndian.AppendUint64(b, uint64(v.Expiry))
	}
	b = append(b, v.Nonce[:]...)
	b = b[:cap(b)]
	kv.PutCell(b[head:], it)
	return b
}

// parseCell splits a cell whose write timestamp is time. Its parts point into b.
func parseCell(b []byte, time int64) (c kv.Cell, v wal.Version, err error) {
	if len(b) < 1 {
		return c, v, kv.ErrBadCell
	}
	v.Time, v.Class = time, wal.Class(b[0])
	b = b[1:]
	switch v.Class {
	case wal.Live:
	case wal.Expiring:
		if len(b) < 8 {
			return c, v, kv.ErrBadCell
		}
		v.Expiry = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	default:
		return c, v, kv.ErrBadCell
	}
	if len(b) < nonceLen {
		return c, v, kv.ErrBadCell
	}
	copy(v.Nonce[:], b)
	c, err = kv.ParseCell(b[nonceLen:])
	return c, v, err
}

// visible reports whether a reader at now sees an item of a version. The zero version is none.
func visible(v *wal.Version, now int64) bool {
	return (v.Expiry == 0 || v.Expiry > now) && *v != (wal.Version{})
}

// Cassandra frees an item a day after its end, so that the clock of no node takes it from a reader. What
// ends in more than its largest time to live, 20 years, it keeps.
const (
	second     = 1_000_000
	ttlMargin  = 24 * 60 * 60
	largestTTL = 20 * 365 * 24 * 60 * 60
)

// ttl is Cassandra's time to live of an item, in seconds from logTime on; 0 for ever. One that has ended by
// then has one too, and is as invisible: as a delete it would win over a write of the same microsecond that
// ends later.
func ttl(v *wal.Version, logTime int64) int {
	if v.Class != wal.Expiring {
		return 0
	}
	left := v.Expiry - logTime
	s := left/second + ttlMargin
	if left%second > 0 {
		s++
	}
	if s > largestTTL {
		return 0
	}
	return int(max(s, 1))
}
