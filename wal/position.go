package wal

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// Position is a place in a namespace: for some of its partitions, the highest
// offset that is meant, NoOffset for the place in front of the first record. It
// names the namespace and the incarnation of its topic, so that it is never taken
// for a place in another one.
type Position struct {
	Namespace   string
	Incarnation Incarnation
	Offsets     map[Partition]Offset
}

// NewPosition is the position of one record.
func NewPosition(namespace string, inc Incarnation, p Partition, o Offset) Position {
	return Position{Namespace: namespace, Incarnation: inc, Offsets: map[Partition]Offset{p: o}}
}

const positionVersion = 1

// maxPositionPartitions bounds what a parsed position can make us allocate. No
// topic has more partitions than that.
const maxPositionPartitions = 4096

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// String is the position as callers see it: opaque, URL-safe base64 of
//
//	version 1 | uvarint length, namespace | 16 bytes incarnation |
//	uvarint n | n times (uvarint partition, uvarint offset + 1), by partition | CRC32C
//
// The checksum is there to tell a damaged position from a place that does not
// exist; it keeps nobody from making one up, which is harmless.
func (p Position) String() string {
	b := make([]byte, 0, 48+len(p.Namespace)+12*len(p.Offsets))
	b = append(b, positionVersion)
	b = binary.AppendUvarint(b, uint64(len(p.Namespace)))
	b = append(b, p.Namespace...)
	b = append(b, p.Incarnation[:]...)
	b = binary.AppendUvarint(b, uint64(len(p.Offsets)))
	if len(p.Offsets) == 1 {
		for part, off := range p.Offsets {
			b = binary.AppendUvarint(b, uint64(part))
			b = binary.AppendUvarint(b, uint64(off+1))
		}
	} else {
		for _, part := range slices.Sorted(maps.Keys(p.Offsets)) {
			b = binary.AppendUvarint(b, uint64(part))
			b = binary.AppendUvarint(b, uint64(p.Offsets[part]+1))
		}
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParsePosition reads what String wrote. Any other string is ErrMalformed.
func ParsePosition(s string) (Position, error) {
	bad := func(why string) (Position, error) {
		return Position{}, fmt.Errorf("%w position: %s", ErrMalformed, why)
	}
	if len(s) > 128<<10 {
		return bad("too long")
	}
	b, err := decodeText(s)
	if err != nil || len(b) < 4 {
		return bad("not one that Headwater gave")
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return bad("checksum")
	}
	if len(body) == 0 || body[0] != positionVersion {
		return bad("unknown version")
	}
	body = body[1:]
	l, n := canonicalUvarint(body)
	if n <= 0 || l > 255 || uint64(len(body)-n) < l+uint64(len(Incarnation{})) {
		return bad("cut short")
	}
	body = body[n:]
	p := Position{Namespace: string(body[:l])}
	body = body[l:]
	copy(p.Incarnation[:], body)
	body = body[len(p.Incarnation):]
	count, n := canonicalUvarint(body)
	if n <= 0 || count > maxPositionPartitions || count > uint64(len(body)) {
		return bad("partitions")
	}
	body = body[n:]
	p.Offsets = make(map[Partition]Offset, count)
	last := int64(-1)
	for range count {
		part, n := canonicalUvarint(body)
		if n <= 0 || part >= maxPositionPartitions || int64(part) <= last {
			return bad("partition")
		}
		last = int64(part)
		body = body[n:]
		off, n := canonicalUvarint(body)
		if n <= 0 || off > 1<<63 {
			return bad("offset")
		}
		body = body[n:]
		p.Offsets[Partition(part)] = Offset(off) - 1
	}
	if len(body) != 0 {
		return bad("trailing bytes")
	}
	return p, nil
}

// decodeText reads unpadded URL-safe base64 of which there is one spelling only:
// encoding/base64 skips line ends even when it is strict.
func decodeText(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrMalformed
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// canonicalUvarint refuses the longer spellings of a number, so that a position
// has one string only.
func canonicalUvarint(b []byte) (uint64, int) {
	v, n := binary.Uvarint(b)
	if n > 1 && b[n-1] == 0 {
		return 0, -1
	}
	return v, n
}

// Merge raises p to cover q as well. Both must be of one namespace and
// incarnation; the caller has checked that.
func (p *Position) Merge(q Position) {
	if p.Offsets == nil {
		p.Offsets = make(map[Partition]Offset, len(q.Offsets))
	}
	for part, off := range q.Offsets {
		if cur, ok := p.Offsets[part]; !ok || off > cur {
			p.Offsets[part] = off
		}
	}
}
