package pebblekv

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const refLen = 4 + 8 + 4

// parkedForm is older than that of pebblestore: attempts, number of refs, refs,
// reason.
var parkedForm = pebblestore.ParkedForm{Append: appendParked, Decode: decodeParked}

func appendParked(b []byte, q *kv.ParkedQueue) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(q.Attempts))
	b = binary.BigEndian.AppendUint32(b, uint32(len(q.Refs)))
	for _, r := range q.Refs {
		b = binary.BigEndian.AppendUint32(b, uint32(r.Partition))
		b = binary.BigEndian.AppendUint64(b, uint64(r.Offset))
		b = binary.BigEndian.AppendUint32(b, uint32(r.Index))
	}
	return append(b, q.Reason...)
}

func decodeParked(key, b []byte) (q kv.ParkedQueue, err error) {
	if len(b) < 8 {
		return q, fmt.Errorf("%w: parked queue of %d bytes", wal.ErrCorrupt, len(b))
	}
	q.Key = append(make([]byte, 0, len(key)), key...)
	q.Attempts = int(binary.BigEndian.Uint32(b))
	n := uint64(binary.BigEndian.Uint32(b[4:]))
	b = b[8:]
	if uint64(len(b)) < n*refLen {
		return q, fmt.Errorf("%w: parked queue with %d records", wal.ErrCorrupt, n)
	}
	q.Refs = make([]wal.Ref, n)
	for i := range q.Refs {
		q.Refs[i] = wal.Ref{
			Partition: wal.Partition(binary.BigEndian.Uint32(b)),
			Offset:    wal.Offset(binary.BigEndian.Uint64(b[4:])),
			Index:     int(int32(binary.BigEndian.Uint32(b[12:]))), // wal.WholeRecord is below zero
		}
		b = b[refLen:]
	}
	q.Reason = string(b)
	return q, nil
}

// Parked implements kv.Store.
func (s *Store) Parked(ctx context.Context, p wal.Partition) ([]kv.ParkedQueue, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if _, err := s.partition(p); err != nil {
		return nil, err
	}
	return s.db.Parked(p)
}
