package pebblekv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const (
	cellHasMeta   = 1 << 0
	cellHasUpload = 1 << 1

	uploadMetaLen = len(wal.TokenID{}) + 4 + 8 + 32
)

// cellLen is the length of the encoding of it.
func cellLen(v *wal.Version, it *kv.StoredItem) int {
	n := wal.VersionSize + 1
	if v.Class == wal.Deleted {
		return n
	}
	if it.Compression != "" || it.ContentType != "" {
		n += uvarintLen(uint64(len(it.Compression))) + len(it.Compression)
		n += uvarintLen(uint64(len(it.ContentType))) + len(it.ContentType)
	}
	if it.Upload != (kv.UploadID{}) {
		return n + uploadMetaLen
	}
	return n + len(it.Value)
}

func uvarintLen(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}

// putCell writes the cell into dst, which is cellLen long: version, flags,
// metadata, then the value or where the upload is.
func putCell(dst []byte, v *wal.Version, it *kv.StoredItem) {
	putVersion(dst, v)
	if v.Class == wal.Deleted {
		dst[wal.VersionSize] = 0
		return
	}
	var flags byte
	b := dst[wal.VersionSize+1:]
	if it.Compression != "" || it.ContentType != "" {
		flags |= cellHasMeta
		n := binary.PutUvarint(b, uint64(len(it.Compression)))
		n += copy(b[n:], it.Compression)
		b = b[n:]
		n = binary.PutUvarint(b, uint64(len(it.ContentType)))
		n += copy(b[n:], it.ContentType)
		b = b[n:]
	}
	if it.Upload != (kv.UploadID{}) {
		flags |= cellHasUpload
		copy(b, it.Upload[:])
		binary.BigEndian.PutUint32(b[16:], uint32(it.Chunks))
		binary.BigEndian.PutUint64(b[20:], uint64(it.Size))
		copy(b[28:], it.SHA256[:])
	} else {
		copy(b, it.Value)
	}
	dst[wal.VersionSize] = flags
}

func putVersion(dst []byte, v *wal.Version) {
	binary.BigEndian.PutUint64(dst[0:], uint64(v.Time))
	dst[8] = byte(v.Class)
	binary.BigEndian.PutUint64(dst[9:], uint64(v.Expiry))
	copy(dst[17:], v.Nonce[:])
}

// cell is an encoded cell, split. Its slices point into the encoding.
type cell struct {
	version wal.Version
	flags   byte
	meta    []byte // compression and content type, encoded
	upload  []byte
	value   []byte
}

var errBadCell = fmt.Errorf("%w: cell of no known form", wal.ErrCorrupt)

func parseCell(b []byte) (c cell, err error) {
	v, err := wal.DecodeVersion(b)
	if err != nil || len(b) < wal.VersionSize+1 {
		return c, errBadCell
	}
	c.version = v
	c.flags = b[wal.VersionSize]
	b = b[wal.VersionSize+1:]
	if c.flags&^(cellHasMeta|cellHasUpload) != 0 || (v.Class == wal.Deleted && (c.flags != 0 || len(b) != 0)) {
		return c, errBadCell
	}
	if c.flags&cellHasMeta != 0 {
		n := 0
		for range 2 {
			l, m := binary.Uvarint(b[n:])
			if m <= 0 || l > uint64(len(b)-n-m) {
				return c, errBadCell
			}
			n += m + int(l)
		}
		c.meta, b = b[:n], b[n:]
	}
	if c.flags&cellHasUpload != 0 {
		if len(b) != uploadMetaLen {
			return c, errBadCell
		}
		c.upload = b
		return c, nil
	}
	c.value = b
	return c, nil
}

// visible reports whether the cell is an item that a reader at now sees, given
// that no tombstone covers it.
func (c *cell) visible(now int64) bool {
	return c.version.Class != wal.Deleted && (c.version.Expiry == 0 || c.version.Expiry > now)
}

func (c *cell) uploadID() (id kv.UploadID) {
	copy(id[:], c.upload)
	return id
}

// size is the length of the item's value, in bytes.
func (c *cell) size() int64 {
	if c.upload != nil {
		return int64(binary.BigEndian.Uint64(c.upload[20:]))
	}
	return int64(len(c.value))
}

// item copies the cell out. The value of an upload is not part of a cell.
func (c *cell) item(key []byte, omitValue bool) kv.StoredItem {
	var it kv.StoredItem
	c.lend(&it, key, omitValue)
	it.Key = append(make([]byte, 0, len(key)), key...)
	if it.Value != nil {
		it.Value = append(make([]byte, 0, len(c.value)), c.value...)
	}
	return it
}

// lend fills it with the cell, whose memory and key it shares. What it has of a
// content type stays where it is the same.
func (c *cell) lend(it *kv.StoredItem, key []byte, omitValue bool) {
	contentType := it.ContentType
	*it = kv.StoredItem{Key: key, Version: c.version, Size: c.size()}
	if c.meta != nil {
		l, m := binary.Uvarint(c.meta)
		it.Compression = internCompression(c.meta[m : m+int(l)])
		b := c.meta[m+int(l):]
		_, m = binary.Uvarint(b)
		if string(b[m:]) != contentType {
			contentType = string(b[m:])
		}
		it.ContentType = contentType
	}
	if c.upload != nil {
		it.Upload = c.uploadID()
		it.Chunks = int(binary.BigEndian.Uint32(c.upload[16:]))
		copy(it.SHA256[:], c.upload[28:])
	} else if !omitValue {
		it.Value = c.value
	}
}

// internCompression saves an allocation for the names that are common.
func internCompression(b []byte) string {
	switch string(b) {
	case "zstd":
		return "zstd"
	case "s2":
		return "s2"
	}
	return string(b)
}

// summary is what point reads need to know of a record's tombstones: the newest
// record tombstone, and the newest that any range tombstone ever was. Both are
// encoded versions; all zero is none.
type summary struct {
	record [wal.VersionSize]byte
	ranges [wal.VersionSize]byte
}

const summaryLen = 2 * wal.VersionSize

var noVersion [wal.VersionSize]byte

func parseSummary(b []byte) (s summary, err error) {
	if len(b) != summaryLen {
		return s, fmt.Errorf("%w: tombstone summary of %d bytes", wal.ErrCorrupt, len(b))
	}
	copy(s.record[:], b)
	copy(s.ranges[:], b[wal.VersionSize:])
	return s, nil
}

func (s *summary) bytes() []byte {
	return append(append(make([]byte, 0, summaryLen), s.record[:]...), s.ranges[:]...)
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
