package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// A cell is how every store writes an item behind its version:
//
//	flags (1), with flag 1 compression and content type (length, a uvarint, and bytes each), then the
//	value, or with flag 2 instead of it: upload (16), chunks (4), size (8), SHA-256 (32)

const (
	cellHasMeta   = 1 << 0
	cellHasUpload = 1 << 1

	uploadMetaLen = len(UploadID{}) + 4 + 8 + 32
)

// ErrBadCell means that what a store holds of an item was not written by this build.
var ErrBadCell = fmt.Errorf("%w: cell of no known form", wal.ErrCorrupt)

// CellLen is the length of the cell of an item, bytes.
func CellLen(it *StoredItem) int {
	n := 1
	if it.Compression != "" || it.ContentType != "" {
		n += uvarintLen(uint64(len(it.Compression))) + len(it.Compression)
		n += uvarintLen(uint64(len(it.ContentType))) + len(it.ContentType)
	}
	if it.Upload != (UploadID{}) {
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

// PutCell writes the cell of an item into dst, which is CellLen long.
func PutCell(dst []byte, it *StoredItem) {
	var flags byte
	b := dst[1:]
	if it.Compression != "" || it.ContentType != "" {
		flags |= cellHasMeta
		n := binary.PutUvarint(b, uint64(len(it.Compression)))
		n += copy(b[n:], it.Compression)
		b = b[n:]
		n = binary.PutUvarint(b, uint64(len(it.ContentType)))
		n += copy(b[n:], it.ContentType)
		b = b[n:]
	}
	if it.Upload != (UploadID{}) {
		flags |= cellHasUpload
		copy(b, it.Upload[:])
		binary.BigEndian.PutUint32(b[16:], uint32(it.Chunks))
		binary.BigEndian.PutUint64(b[20:], uint64(it.Size))
		copy(b[28:], it.SHA256[:])
	} else {
		copy(b, it.Value)
	}
	dst[0] = flags
}

// Cell is an encoded cell, split. Its slices point into the encoding.
type Cell struct {
	meta   []byte // compression and content type, encoded
	upload []byte
	Value  []byte // empty of an upload
}

// ParseCell splits a cell. Its errors wrap wal.ErrCorrupt.
func ParseCell(b []byte) (c Cell, err error) {
	if len(b) == 0 || b[0]&^(cellHasMeta|cellHasUpload) != 0 {
		return c, ErrBadCell
	}
	flags := b[0]
	b = b[1:]
	if flags&cellHasMeta != 0 {
		n := 0
		for range 2 {
			l, m := binary.Uvarint(b[n:])
			if m <= 0 || l > uint64(len(b)-n-m) {
				return c, ErrBadCell
			}
			n += m + int(l)
		}
		c.meta, b = b[:n], b[n:]
	}
	if flags&cellHasUpload == 0 {
		c.Value = b
		return c, nil
	}
	if len(b) != uploadMetaLen {
		return c, ErrBadCell
	}
	c.upload = b
	return c, nil
}

// Plain reports whether the cell has nothing but a value.
func (c *Cell) Plain() bool { return c.meta == nil && c.upload == nil }

// IsUpload reports whether the value is an upload, which is elsewhere.
func (c *Cell) IsUpload() bool { return c.upload != nil }

// UploadID names the upload, zero where there is none.
func (c *Cell) UploadID() (id UploadID) {
	copy(id[:], c.upload)
	return id
}

// Size is the length of the item's value, in bytes.
func (c *Cell) Size() int64 {
	if c.upload != nil {
		return int64(binary.BigEndian.Uint64(c.upload[20:]))
	}
	return int64(len(c.Value))
}

// Lend fills it with the cell of a key, whose memory it shares. What it has of a content type
// stays where it is the same. The value of an upload is not part of a cell.
func (c *Cell) Lend(it *StoredItem, key []byte, v wal.Version, omitValue bool) {
	contentType := it.ContentType
	*it = StoredItem{Key: key, Version: v, Size: c.Size()}
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
		it.Upload = c.UploadID()
		it.Chunks = int(binary.BigEndian.Uint32(c.upload[16:]))
		copy(it.SHA256[:], c.upload[28:])
	} else if !omitValue {
		it.Value = c.Value
	}
}

// Copy is the item of a key in memory of its own; see Lend.
func (c *Cell) Copy(key []byte, v wal.Version, omitValue bool) (it StoredItem) {
	c.Lend(&it, key, v, omitValue)
	it.Key = append(make([]byte, 0, len(key)), key...)
	if it.Value != nil {
		it.Value = append(make([]byte, 0, len(c.Value)), c.Value...)
	}
	return it
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
