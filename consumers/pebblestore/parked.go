package pebblestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// queueIDLen is the length of what stands for the key of a queue in the keys of
// its rows: a prefix of its SHA-256, so that a row is short whatever the key is,
// and no queue's rows lie between another's.
const queueIDLen = 16

const (
	parkedLen    = TableLen + queueIDLen
	parkedRefLen = parkedLen + 8 + 4
)

func parkedKey(table byte, p wal.Partition, key []byte) []byte {
	id := sha256.Sum256(key)
	return append(AppendTable(make([]byte, 0, parkedRefLen), table, p), id[:queueIDLen]...)
}

func parkedRefKey(p wal.Partition, key []byte, r wal.Ref) []byte {
	k := binary.BigEndian.AppendUint64(parkedKey(TableParkedRef, p, key), uint64(r.Offset))
	return binary.BigEndian.AppendUint32(k, uint32(r.Index)) // wal.WholeRecord is above all others
}

// SaveParked puts a change of a parked queue into w: a row or two, however long
// the queue is.
func (d *DB) SaveParked(w *pebble.Batch, p wal.Partition, c *consumers.ParkedChange) error {
	switch c.Op {
	case consumers.ParkedBegin, consumers.ParkedAgain:
		return w.Set(parkedKey(TableParked, p, c.Key), appendParked(nil, c.Key, &c.Head), nil)
	case consumers.ParkedAdd:
		return w.Set(parkedRefKey(p, c.Key, c.Ref), nil, nil)
	case consumers.ParkedBelow:
		return w.DeleteRange(parkedKey(TableParkedRef, p, c.Key), parkedRefKey(p, c.Key, c.Ref), nil)
	case consumers.ParkedGone:
		if err := w.Delete(parkedKey(TableParked, p, c.Key), nil); err != nil {
			return err
		}
		lo := parkedKey(TableParkedRef, p, c.Key)
		return w.DeleteRange(lo, Successor(lo), nil)
	default:
		return fmt.Errorf("change %d of a parked queue", c.Op)
	}
}

// Parked returns the parked queues of a partition, in the order of their keys, all
// as of one moment.
func (d *DB) Parked(p wal.Partition) ([]consumers.ParkedQueue, error) {
	queues, err := d.parkedQueues(p)
	if err != nil {
		return nil, d.ReadError("read parked queues", p, err)
	}
	slices.SortFunc(queues, func(a, b consumers.ParkedQueue) int { return bytes.Compare(a.Key, b.Key) })
	return queues, nil
}

// parkedQueues reads both tables by one iterator, which sees one moment. Both are
// in the order of the ids.
func (d *DB) parkedQueues(p wal.Partition) (queues []consumers.ParkedQueue, err error) {
	lo, hi := Span(TableParked, p)
	refs, refsEnd := Span(TableParkedRef, p)
	it, err := d.NewIter(&pebble.IterOptions{LowerBound: refs, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var ids [][]byte
	for ok := it.SeekGE(lo); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		q, err := decodeParked(v)
		if err != nil {
			return nil, err
		}
		queues, ids = append(queues, q), append(ids, bytes.Clone(it.Key()[TableLen:]))
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	i := 0
	for ok := it.First(); ok && bytes.Compare(it.Key(), refsEnd) < 0; ok = it.Next() {
		k := it.Key()
		if len(k) != parkedRefLen {
			return nil, fmt.Errorf("%w: key of a parked record has %d bytes", wal.ErrCorrupt, len(k))
		}
		id, at := k[TableLen:parkedLen], k[parkedLen:]
		for i < len(ids) && !bytes.Equal(ids[i], id) && len(queues[i].Refs) > 0 {
			i++
		}
		if i == len(ids) || !bytes.Equal(ids[i], id) {
			return nil, fmt.Errorf("%w: a parked record and no queue of it", wal.ErrCorrupt)
		}
		queues[i].Refs = append(queues[i].Refs, wal.Ref{
			Partition: p, Offset: wal.Offset(binary.BigEndian.Uint64(at)), Index: int(int32(binary.BigEndian.Uint32(at[8:]))),
		})
	}
	for i := range queues {
		if len(queues[i].Refs) == 0 {
			return nil, fmt.Errorf("%w: a parked queue without records", wal.ErrCorrupt)
		}
	}
	return queues, it.Error()
}

func appendParked(dst, key []byte, h *consumers.ParkedHead) []byte {
	dst = AppendVersion(dst)
	dst = binary.AppendVarint(dst, int64(h.Attempts))
	dst = binary.AppendVarint(dst, int64(h.At))
	dst = binary.AppendVarint(dst, h.LogTime)
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = append(dst, key...)
	return append(dst, h.Reason...)
}

// decodeParked keeps nothing of b.
func decodeParked(b []byte) (q consumers.ParkedQueue, err error) {
	r, err := ReadValue("parked queue", b)
	if err != nil {
		return q, err
	}
	q.Attempts, q.At, q.LogTime = int(r.Int()), wal.Offset(r.Int()), r.Int()
	n := r.Uint()
	if n > uint64(len(r.b)) {
		r.Fail()
	}
	q.Key = bytes.Clone(r.Bytes(int(n)))
	q.Reason = string(r.Rest())
	if r.Bad() {
		return consumers.ParkedQueue{}, fmt.Errorf("parked queue: %w", ErrBadValue)
	}
	return q, nil
}
