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
