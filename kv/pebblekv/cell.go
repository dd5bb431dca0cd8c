package pebblekv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// cellLen is the length of the encoding of it.
func cellLen(v *wal.Version, it *kv.StoredItem) int {
	if v.Class == wal.Deleted {
		return wal.VersionSize + 1
	}
	return wal.VersionSize + kv.CellLen(it)
}

// putCell writes the version and the cell into dst, which is cellLen long. Of a delete the cell is
// a zero byte.
func putCell(dst []byte, v *wal.Version, it *kv.StoredItem) {
	putVersion(dst, v)
	if v.Class == wal.Deleted {
		dst[wal.VersionSize] = 0
		return
	}
	kv.PutCell(dst[wal.VersionSize:], it)
}

func putVersion(dst []byte, v *wal.Version) {
	binary.BigEndian.PutUint64(dst[0:], uint64(v.Time))
	dst[8] = byte(v.Class)
	binary.BigEndian.PutUint64(dst[9:], uint64(v.Expiry))
	copy(dst[17:], v.Nonce[:])
}

// cell is a cell with its version, split. Its slices point into the encoding.
type cell struct {
	kv.Cell
	version wal.Version
}

func parseCell(b []byte) (c cell, err error) {
	if c.version, err = wal.DecodeVersion(b); err != nil || len(b) < wal.VersionSize+1 {
		return cell{}, kv.ErrBadCell
	}
	c.Cell, err = kv.ParseCell(b[wal.VersionSize:])
	if err == nil && c.version.Class == wal.Deleted && (!c.Plain() || len(c.Value) > 0) {
		return cell{}, kv.ErrBadCell
	}
	return c, err
}

// visible reports whether the cell is an item that a reader at now sees, given
// that no tombstone covers it.
func (c *cell) visible(now int64) bool {
	return c.version.Class != wal.Deleted && (c.version.Expiry == 0 || c.version.Expiry > now)
}

// summary is what point reads need to know of a record's tombstones: the newest
// record tombstone, and the newest that any range tombstone ever was. Both are
// encoded versions; all zero is none.
type summary struct {
	record [wal.VersionSize]byte
	ranges [wal.VersionSize]byte
}

var noVersion [wal.VersionSize]byte

func parseSummary(b []byte) (s summary, err error) {
	if len(b) != ledger.SummaryLen {
		return s, fmt.Errorf("%w: tombstone summary of %d bytes", wal.ErrCorrupt, len(b))
	}
	copy(s.record[:], b)
	copy(s.ranges[:], b[wal.VersionSize:])
	return s, nil
}

func (s *summary) bytes() []byte {
	return append(append(make([]byte, 0, ledger.SummaryLen), s.record[:]...), s.ranges[:]...)
}

// hasRanges reports whether a range tombstone may decide something that the
// record tombstone does not decide already.
func (s *summary) hasRanges() bool { return bytes.Compare(s.ranges[:], s.record[:]) > 0 }

// version decodes one half of a summary, or a covering version; the zero
// Version for none.
func version(b [wal.VersionSize]byte) (wal.Version, error) {
	v, err := wal.DecodeVersion(b[:])
	if err != nil {
		return v, fmt.Errorf("%w: version of a tombstone", wal.ErrCorrupt)
	}
	return v, nil
}
