package gateway

import (
	"encoding/binary"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// pagesSeen is what the pages of a read have seen together, partition by
// partition: of each the lowest offset, since an earlier page may lack what a
// later one has. It travels in the page token, so that the as_of of the last page
// is true of all of them. The zero pagesSeen is that of a first page.
type pagesSeen []wal.Seen

// add notes that a page has seen s.
func (ps *pagesSeen) add(s wal.Seen) {
	for i := range *ps {
		if e := &(*ps)[i]; e.Partition == s.Partition {
			e.Offset, e.Time = min(e.Offset, s.Offset), min(e.Time, s.Time)
			return
		}
	}
	*ps = append(*ps, s)
}

func (ps pagesSeen) asOf(s *wal.Stream) *headwaterv1.AsOf { return asOfMessage(s.AsOf(ps...)) }

func asOfMessage(a wal.AsOf) *headwaterv1.AsOf {
	return &headwaterv1.AsOf{Position: a.Position, Time: timeMessage(a.Time)}
}

// append encodes ps:
//
//	uvarint n | n times (uvarint partition, uvarint offset + 1) | varint time, the lowest
func (ps pagesSeen) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(ps)))
	var lowest int64
	for i, s := range ps {
		b = binary.AppendUvarint(b, uint64(s.Partition))
		b = binary.AppendUvarint(b, uint64(s.Offset+1))
		if i == 0 || s.Time < lowest {
			lowest = s.Time
		}
	}
	return binary.AppendVarint(b, lowest)
}

// take decodes what append wrote and returns what follows it; false when b does
// not begin with that.
func (ps *pagesSeen) take(b []byte) (rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, false
	}
	b = b[k:]
	*ps = nil
	for range n {
		part, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, false
		}
		b = b[k:]
		next, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, false
		}
		b = b[k:]
		*ps = append(*ps, wal.Seen{Partition: wal.Partition(part), Offset: wal.Offset(next) - 1})
	}
	lowest, k := binary.Varint(b)
	if k <= 0 {
		return nil, false
	}
	for i := range *ps {
		(*ps)[i].Time = lowest
	}
	return b[k:], true
}
