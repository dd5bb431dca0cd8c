package delivery

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// GroupTarget is the target of the messages that are groups. No document can name it.
const GroupTarget = "group:namespaces"

// MaxGroupParts bounds the parts of a group.
const MaxGroupParts = 1000

// Group is writes of several partitions, namespaces and abstractions that take place all or not at all. It is the
// payload of one message, so the log has it whole or does not have it.
type Group struct {
	Parts []GroupPart // in the order in which they are appended
	// Mutations is how many the caller sent.
	Mutations int

	hashes []wal.Hash // of the requests of the parts that were added
}

// Add adds the record of a write to a namespace.
func (g *Group) Add(namespace string, life wal.Incarnation, rec *wal.Record) {
	g.Parts = append(g.Parts, GroupPart{Namespace: namespace, Life: life, Record: wal.AppendRecord(nil, rec)})
	g.hashes = append(g.hashes, rec.RequestHash)
}

// Hash is that of the request of the group, of what Add has added. Its form is versioned as that of a message, and is
// for each part the name of its namespace and the hash of its request, each with its length before it.
func (g *Group) Hash() wal.Hash {
	return wal.HashOf(messageForm, func(x *wal.Hasher) {
		for i := range g.Parts {
			x.Blob([]byte(g.Parts[i].Namespace))
			x.Blob(g.hashes[i][:])
		}
	})
}

// GroupPart is one record of a group.
type GroupPart struct {
	Namespace string
	// Life is that of the namespace when the group was written: a later one of the name has no part in it.
	Life wal.Incarnation
	// Record is what wal.AppendRecord made, without an Origin.
	Record []byte
}

// Place is that of part i of a group at a place of its log, in the log of the part's namespace: a group may have
// several parts in one partition.
func (g *Group) Place(at wal.SourcePlace, i int) wal.SourcePlace {
	return wal.SourcePlace{At: at.At, Offset: at.Offset*(MaxGroupParts+1) + wal.Offset(i)}
}

const (
	groupPart      = 1 // repeated: namespace, life, record
	groupMutations = 2 // 4 bytes, big-endian

	partNamespace = 1
	partLife      = 2 // 16 bytes
	partRecord    = 3
)

// groupVersion is the first byte of an encoded group.
const groupVersion = 1

// Encode returns the payload of the message of a group: see the package comment.
func (g *Group) Encode() []byte {
	size := 16
	for i := range g.Parts {
		size += len(g.Parts[i].Record) + len(g.Parts[i].Namespace) + 48
	}
	dst := append(make([]byte, 0, size), groupVersion)
	var one []byte
	for i := range g.Parts {
		p := &g.Parts[i]
		one = appendField(one[:0], partNamespace, p.Namespace)
		one = appendField(one, partLife, p.Life[:])
		one = appendField(one, partRecord, p.Record)
		dst = appendField(dst, groupPart, one)
	}
	return appendField(dst, groupMutations, binary.BigEndian.AppendUint32(nil, uint32(g.Mutations)))
}

// DecodeGroup reads what Encode wrote; records point into b. wal.ErrUnknownVersion of what a newer build wrote,
// wal.ErrMalformed.
func DecodeGroup(b []byte) (*Group, error) {
	if len(b) == 0 || b[0] != groupVersion {
		return nil, fmt.Errorf("%w: a group of writes", wal.ErrUnknownVersion)
	}
	g := &Group{}
	err := eachField(b[1:], func(num protowire.Number, v []byte) error {
		switch {
		case num == groupPart:
			p, err := decodeGroupPart(v)
			g.Parts = append(g.Parts, p)
			return err
		case num == groupMutations && len(v) == 4:
			g.Mutations = int(binary.BigEndian.Uint32(v))
			return nil
		}
		return fmt.Errorf("%w: field %d of a group of writes", wal.ErrUnknownVersion, num)
	})
	if err == nil && (len(g.Parts) == 0 || len(g.Parts) > MaxGroupParts) {
		err = fmt.Errorf("%w group of writes: %d parts", wal.ErrMalformed, len(g.Parts))
	}
	return g, err
}

func decodeGroupPart(b []byte) (p GroupPart, err error) {
	err = eachField(b, func(num protowire.Number, v []byte) error {
		switch {
		case num == partNamespace:
			p.Namespace = string(v)
		case num == partLife && len(v) == len(p.Life):
			copy(p.Life[:], v)
		case num == partRecord:
			p.Record = v
		default:
			return fmt.Errorf("%w: field %d of a part of a group of writes", wal.ErrUnknownVersion, num)
		}
		return nil
	})
	return p, err
}
