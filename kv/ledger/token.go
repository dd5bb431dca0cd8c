package ledger

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const tokenLen = 16 + 8 + 8 + 8 + 8 + 1

// AppendToken writes: hash (16), offset, log time, accepted at and time (8 each), outcome (1), the version
// found if any, and the default time to live if known.
func AppendToken(dst []byte, e *kv.TokenEntry) []byte {
	dst = append(dst, e.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.LogTime))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.AcceptedAt))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Time))
	dst = append(dst, byte(e.Outcome))
	if e.Current != (wal.Version{}) {
		dst = wal.AppendVersion(dst, e.Current)
	}
	if e.DefaultTTL != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.DefaultTTL))
	}
	return dst
}

// DecodeToken reads what AppendToken wrote; it keeps nothing of b.
func DecodeToken(n wal.TokenID, b []byte) (e kv.TokenEntry, err error) {
	if len(b) < tokenLen {
		return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
	}
	e.ID = n
	copy(e.Hash[:], b)
	e.Offset = wal.Offset(binary.BigEndian.Uint64(b[16:]))
	e.LogTime = int64(binary.BigEndian.Uint64(b[24:]))
	e.AcceptedAt = int64(binary.BigEndian.Uint64(b[32:]))
	e.Time = int64(binary.BigEndian.Uint64(b[40:]))
	e.Outcome = kv.Outcome(b[48])
	// What follows is told apart by its length: a number is shorter than a version.
	rest := b[tokenLen:]
	if len(rest) >= wal.VersionSize {
		if e.Current, err = wal.DecodeVersion(rest[:wal.VersionSize]); err != nil {
			return e, fmt.Errorf("%w: version in a token entry", wal.ErrCorrupt)
		}
		rest = rest[wal.VersionSize:]
	}
	if len(rest) > 0 {
		ttl, n := binary.Uvarint(rest)
		if n != len(rest) || ttl > math.MaxInt64 {
			return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
		}
		e.DefaultTTL = int64(ttl)
	}
	return e, nil
}
