package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// SaveParked puts a parked queue into w; one without Refs is gone.
func (d *DB) SaveParked(w *pebble.Batch, p wal.Partition, q *consumers.ParkedQueue) error {
	k := append(AppendTable(make([]byte, 0, TableLen+len(q.Key)), TableParked, p), q.Key...)
	if len(q.Refs) == 0 {
		return w.Delete(k, nil)
	}
	return w.Set(k, appendParked(nil, q), nil)
}

// Parked returns the parked queues of a partition, in the order of their keys.
func (d *DB) Parked(p wal.Partition) (queues []consumers.ParkedQueue, err error) {
	err = d.Each(TableParked, p, func(it *pebble.Iterator) error {
		b, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		q, err := decodeParked(it.Key()[TableLen:], b)
		queues = append(queues, q)
		return err
	})
	if err != nil {
		return nil, d.ReadError("read parked queues", p, err)
	}
	return queues, nil
}

func appendParked(dst []byte, q *consumers.ParkedQueue) []byte {
	dst = AppendVersion(dst)
	dst = binary.AppendVarint(dst, int64(q.Attempts))
	dst = binary.AppendUvarint(dst, uint64(len(q.Refs)))
	for _, ref := range q.Refs {
		dst = binary.AppendUvarint(dst, uint64(ref.Partition))
		dst = binary.AppendVarint(dst, int64(ref.Offset))
		dst = binary.AppendVarint(dst, int64(ref.Index))
	}
	return append(dst, q.Reason...)
}

// decodeParked keeps nothing of key and b.
func decodeParked(key, b []byte) (q consumers.ParkedQueue, err error) {
	r, err := ReadValue("parked queue", b)
	if err != nil {
		return q, err
	}
	q.Key = append(make([]byte, 0, len(key)), key...)
	q.Attempts = int(r.Int())
	n := r.Uint()
	if n > uint64(len(r.b))/3 { // a ref is three bytes at least
		return consumers.ParkedQueue{}, fmt.Errorf("parked queue: %w", ErrBadValue)
	}
	q.Refs = make([]wal.Ref, n)
	for i := range q.Refs {
		p := r.Uint()
		if p > uint64(^wal.Partition(0)) {
			r.Fail()
		}
		q.Refs[i] = wal.Ref{Partition: wal.Partition(p), Offset: wal.Offset(r.Int()), Index: int(r.Int())}
	}
	q.Reason = string(r.b)
	if r.bad {
		return consumers.ParkedQueue{}, fmt.Errorf("parked queue: %w", ErrBadValue)
	}
	return q, nil
}
