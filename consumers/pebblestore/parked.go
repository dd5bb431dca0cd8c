package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// ParkedForm is how a parked queue stands in its row, whose key has the queue's.
type ParkedForm struct {
	Append func(dst []byte, q *consumers.ParkedQueue) []byte
	// Decode keeps nothing of key and value. Its errors wrap wal.ErrCorrupt.
	Decode func(key, value []byte) (consumers.ParkedQueue, error)
}

// SaveParked puts a parked queue into w; one without Refs is gone.
func (d *DB) SaveParked(w *pebble.Batch, p wal.Partition, q *consumers.ParkedQueue) error {
	k := append(AppendTable(make([]byte, 0, TableLen+len(q.Key)), TableParked, p), q.Key...)
	if len(q.Refs) == 0 {
		return w.Delete(k, nil)
	}
	return w.Set(k, d.parked.Append(nil, q), nil)
}

// Parked returns the parked queues of a partition, in the order of their keys.
func (d *DB) Parked(p wal.Partition) (queues []consumers.ParkedQueue, err error) {
	err = d.Each(TableParked, p, func(it *pebble.Iterator) error {
		b, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		q, err := d.parked.Decode(it.Key()[TableLen:], b)
		queues = append(queues, q)
		return err
	})
	if err != nil {
		return nil, d.ReadError("read parked queues", p, err)
	}
	return queues, nil
}

const parkedVersion = 1

// AppendParked writes a queue; see the package comment for its form.
func AppendParked(dst []byte, q *consumers.ParkedQueue) []byte {
	dst = append(dst, parkedVersion)
	dst = binary.AppendVarint(dst, int64(q.Attempts))
	dst = binary.AppendUvarint(dst, uint64(len(q.Refs)))
	for _, ref := range q.Refs {
		dst = binary.AppendUvarint(dst, uint64(ref.Partition))
		dst = binary.AppendVarint(dst, int64(ref.Offset))
		dst = binary.AppendVarint(dst, int64(ref.Index))
	}
	return append(dst, q.Reason...)
}

// DecodeParked reads what AppendParked wrote; see ParkedForm.
func DecodeParked(key, b []byte) (q consumers.ParkedQueue, err error) {
	bad := fmt.Errorf("%w: parked queue of %d bytes", wal.ErrCorrupt, len(b))
	if len(b) == 0 {
		return q, bad
	}
	if b[0] != parkedVersion {
		return q, fmt.Errorf("%w: parked queue of version %d: %w", wal.ErrCorrupt, b[0], wal.ErrUnknownVersion)
	}
	b = b[1:]
	failed := false
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			failed = true
			return 0
		}
		b = b[n:]
		return v
	}
	signed := func() int64 {
		v := number()
		return int64(v>>1) ^ -int64(v&1)
	}
	q.Key = append(make([]byte, 0, len(key)), key...)
	q.Attempts = int(signed())
	n := number()
	if failed || n > uint64(len(b))/3 { // a ref is three bytes at least
		return consumers.ParkedQueue{}, bad
	}
	q.Refs = make([]wal.Ref, n)
	for i := range q.Refs {
		p := number()
		failed = failed || p > uint64(^wal.Partition(0))
		q.Refs[i] = wal.Ref{Partition: wal.Partition(p), Offset: wal.Offset(signed()), Index: int(signed())}
	}
	q.Reason = string(b)
	if failed {
		return consumers.ParkedQueue{}, bad
	}
	return q, nil
}
