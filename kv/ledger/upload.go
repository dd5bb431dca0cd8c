package ledger

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const uploadCommitted = 1 << 0

// EncodeUpload writes: flags, expiry, ttl, version and chunks when committed, then record
// id, compression and content type, each behind its length, and the key.
func EncodeUpload(u *kv.StoredUpload) []byte {
	b := make([]byte, 0, 1+8+8+wal.VersionSize+4+6+len(u.Record)+len(u.Compression)+len(u.ContentType)+len(u.Key))
	var flags byte
	if u.Committed {
		flags |= uploadCommitted
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(u.Expiry))
	b = binary.BigEndian.AppendUint64(b, uint64(u.TTL))
	if u.Committed {
		b = wal.AppendVersion(b, u.Version)
		b = binary.BigEndian.AppendUint32(b, uint32(u.Chunks))
	}
	for _, field := range [][]byte{u.Record, []byte(u.Compression), []byte(u.ContentType)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return append(b, u.Key...)
}

// DecodeUpload reads what EncodeUpload wrote, into memory of its own.
func DecodeUpload(id kv.UploadID, v []byte) (u kv.StoredUpload, err error) {
	bad := fmt.Errorf("%w: upload of %d bytes", wal.ErrCorrupt, len(v))
	b := append(make([]byte, 0, len(v)), v...)
	if len(b) < 17 || b[0]&^uploadCommitted != 0 {
		return u, bad
	}
	u.ID = id
	u.Committed = b[0]&uploadCommitted != 0
	u.Expiry = int64(binary.BigEndian.Uint64(b[1:]))
	u.TTL = int64(binary.BigEndian.Uint64(b[9:]))
	b = b[17:]
	if u.Committed {
		if len(b) < wal.VersionSize+4 {
			return u, bad
		}
		if u.Version, err = wal.DecodeVersion(b); err != nil {
			return u, bad
		}
		u.Chunks = int(binary.BigEndian.Uint32(b[wal.VersionSize:]))
		b = b[wal.VersionSize+4:]
	}
	var fields [3][]byte
	for i := range fields {
		if len(b) < 2 {
			return u, bad
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return u, bad
		}
		fields[i], b = b[:n:n], b[n:]
	}
	u.Record, u.Compression, u.ContentType, u.Key = fields[0], string(fields[1]), string(fields[2]), b
	return u, nil
}
