package wal

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// Source says which message of a log namespace a record of another namespace was made of. The messages of one partition
// come in order of their places, so the highest place that has come tells what is a copy, however old it is.
type Source struct {
	Topic     Incarnation // of the log namespace
	Partition Partition
	Place     SourcePlace
	// After is the place of what the same sender has appended before it to the same partition; zero where it had
	// nothing under way. A record that comes while that one has not come is out of turn: its sender appends both again.
	After SourcePlace
	// Hops is through how many log namespaces the message has come, this one included.
	Hops int
}

// SourcePlace is where a message stands among those of its partition: by when it is delivered, then by offset.
type SourcePlace struct {
	At     int64 // microseconds since 1970, above 0
	Offset Offset
}

// Compare is negative where p comes before q, and 0 where they are the same.
func (p SourcePlace) Compare(q SourcePlace) int {
	return cmp.Or(cmp.Compare(p.At, q.At), cmp.Compare(p.Offset, q.Offset))
}

// IsZero reports whether p is no place.
func (p SourcePlace) IsZero() bool { return p == SourcePlace{} }

// sourceVersion is the first byte of an encoded source.
const sourceVersion = 1

// Encode returns a value of Record.Origin: version 1, the topic (16), then partition, hops, time and offset of the
// place and of After as uvarints.
func (s *Source) Encode() string {
	b := make([]byte, 0, 64)
	b = append(b, sourceVersion)
	b = append(b, s.Topic[:]...)
	b = binary.AppendUvarint(b, uint64(s.Partition))
	b = binary.AppendUvarint(b, uint64(s.Hops))
	for _, p := range [...]SourcePlace{s.Place, s.After} {
		b = binary.AppendUvarint(b, uint64(p.At))
		b = binary.AppendUvarint(b, uint64(p.Offset))
	}
	return string(b)
}

// ParseSource reads what Encode wrote. ErrUnknownVersion, ErrMalformed.
func ParseSource(origin string) (s Source, err error) {
	b := []byte(origin)
	bad := fmt.Errorf("%w source of a record: %d bytes", ErrMalformed, len(b))
	if len(b) < 1+len(s.Topic) {
		return s, bad
	}
	if b[0] != sourceVersion {
		return s, fmt.Errorf("%w of the source of a record: 0x%02x", ErrUnknownVersion, b[0])
	}
	b = b[1+copy(s.Topic[:], b[1:]):]
	var n [6]uint64
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 || v > 1<<63-1 {
			return s, bad
		}
		n[i], b = v, b[size:]
	}
	if len(b) > 0 || n[0] > 1<<32-1 || n[1] > 1<<16 || n[2] == 0 {
		return s, bad
	}
	s.Partition, s.Hops = Partition(n[0]), int(n[1])
	s.Place, s.After = SourcePlace{int64(n[2]), Offset(n[3])}, SourcePlace{int64(n[4]), Offset(n[5])}
	return s, nil
}
