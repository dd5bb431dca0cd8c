package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const uploadCommitted = 1 << 0

// encodeUpload: flags, expiry, ttl, version and chunks when committed, then record
// id, compression and content type, each behind its length, and the key.
func encodeUpload(u *kv.StoredUpload) []byte {
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

// decodeUpload reads what encodeUpload wrote, into memory of its own.
func decodeUpload(id kv.UploadID, v []byte) (u kv.StoredUpload, err error) {
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

// Upload implements kv.Store.
func (s *Store) Upload(ctx context.Context, p wal.Partition, id kv.UploadID) (kv.StoredUpload, bool, error) {
	if err := s.Enter(ctx, p); err != nil {
		return kv.StoredUpload{}, false, err
	}
	defer s.Leave()
	v, err := s.DB.Value(uploadKey(p, id))
	if err == nil && v == nil {
		return kv.StoredUpload{}, false, nil
	}
	if err == nil {
		var u kv.StoredUpload
		if u, err = decodeUpload(id, v); err == nil {
			return u, true, nil
		}
	}
	return kv.StoredUpload{}, false, s.DB.ReadError("read upload", p, err)
}

// ReadChunk implements kv.Store.
func (s *Store) ReadChunk(ctx context.Context, p wal.Partition, id kv.UploadID, index int) ([]byte, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	if index < 0 || int64(index) > 1<<32-1 {
		return nil, kv.ErrNoChunk
	}
	k := chunkKey(p, id, index)
	v, err := s.DB.Value(k)
	if err != nil {
		return nil, s.DB.ReadError("read chunk", p, err)
	}
	if v == nil {
		return nil, kv.ErrNoChunk
	}
	data, err := checkChunk(k, v)
	if err != nil {
		return nil, s.DB.ReadError("read chunk", p, err)
	}
	return data, nil
}

func checkChunk(key, v []byte) ([]byte, error) {
	if len(v) < 4 || binary.BigEndian.Uint32(v) != chunkSum(key, v[4:]) {
		return nil, fmt.Errorf("%w: checksum of chunk %d differs", wal.ErrCorrupt, binary.BigEndian.Uint32(key[len(key)-4:]))
	}
	return v[4:], nil
}

// assemble puts the value of an upload together, from the same moment of the
// store that view is of.
func assemble(view *pebble.Iterator, p wal.Partition, it *kv.StoredItem) (err error) {
	lo, hi := chunkSpan(p, it.Upload)
	chunks, err := view.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: lo, UpperBound: hi}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, chunks.Close()) }()
	value := make([]byte, 0, it.Size)
	n := 0
	for ok := chunks.First(); ok; ok = chunks.Next() {
		k := chunks.Key()
		if len(k) != len(lo)+4 || binary.BigEndian.Uint32(k[len(lo):]) != uint32(n) {
			break
		}
		data, err := checkChunk(k, chunks.Value())
		if err != nil {
			return err
		}
		if n++; n > it.Chunks || int64(len(value)+len(data)) > it.Size {
			break
		}
		value = append(value, data...)
	}
	if err := chunks.Error(); err != nil {
		return err
	}
	if n != it.Chunks || int64(len(value)) != it.Size {
		return fmt.Errorf("%w: upload %s has %d of %d chunks, %d of %d bytes", wal.ErrCorrupt, it.Upload, n, it.Chunks, len(value), it.Size)
	}
	it.Value = value
	return nil
}
