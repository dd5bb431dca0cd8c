package wal

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// PositionCursor is a position of every partition of a topic that moves a step at
// a time, and whose text is wanted after each. A step costs a copy of the text and
// not the making of it: most change one number by one. Used by one goroutine.
type PositionCursor struct {
	body []byte // as Position.String describes it, without the checksum
	at   []span
}

// span is where the number of a partition lies in the body.
type span struct{ start, end int }

// NewPositionCursor begins with one offset for each partition.
func NewPositionCursor(namespace string, inc Incarnation, offsets []Offset) *PositionCursor {
	c := &PositionCursor{at: make([]span, len(offsets))}
	c.body = append(c.body, positionVersion)
	c.body = binary.AppendUvarint(c.body, uint64(len(namespace)))
	c.body = append(c.body, namespace...)
	c.body = append(c.body, inc[:]...)
	c.body = binary.AppendUvarint(c.body, uint64(len(offsets)))
	for p, o := range offsets {
		c.body = binary.AppendUvarint(c.body, uint64(p))
		start := len(c.body)
		c.body = binary.AppendUvarint(c.body, uint64(o+1))
		c.at[p] = span{start, len(c.body)}
	}
	return c
}

// Move sets the offset of a partition.
func (c *PositionCursor) Move(p Partition, o Offset) {
	var b [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(b[:], uint64(o+1))
	at := c.at[p]
	grown := n - (at.end - at.start)
	if grown == 0 {
		copy(c.body[at.start:at.end], b[:n])
		return
	}
	c.body = slices.Replace(c.body, at.start, at.end, b[:n]...)
	c.at[p].end += grown
	for i := int(p) + 1; i < len(c.at); i++ {
		c.at[i].start += grown
		c.at[i].end += grown
	}
}

// String is the position, as that of a Position.
func (c *PositionCursor) String() string {
	n := len(c.body)
	c.body = binary.BigEndian.AppendUint32(c.body, crc32.Checksum(c.body, castagnoli))
	text := base64.RawURLEncoding.EncodeToString(c.body)
	c.body = c.body[:n]
	return text
}
