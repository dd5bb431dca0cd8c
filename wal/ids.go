package wal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Partition numbers one ordered part of a topic, from 0.
type Partition uint32

// Offset is the place of a record in its partition. The first record's is 0.
type Offset int64

// NoOffset is the offset before the first record: nothing appended, nothing
// applied.
const NoOffset Offset = -1

func (p Partition) String() string { return strconv.FormatUint(uint64(p), 10) }
func (o Offset) String() string    { return strconv.FormatInt(int64(o), 10) }

// PartitionOf returns the partition of a routing key in a topic of n
// partitions: xxhash64 (seed 0) of the key, modulo n. It is part of the data
// format: changing it moves keys. n must be above 0.
func PartitionOf(routingKey []byte, n int) Partition {
	return Partition(xxhash.Sum64(routingKey) % uint64(n))
}

// PartitionOfString is PartitionOf without a copy of the key.
func PartitionOfString(routingKey string, n int) Partition {
	return Partition(xxhash.Sum64String(routingKey) % uint64(n))
}

// Incarnation identifies one life of a topic. A topic that was deleted and made
// again has another one, so that an offset of the old life is never taken for
// one of the new.
type Incarnation [16]byte

// NewIncarnation draws a random incarnation.
func NewIncarnation() Incarnation {
	var i Incarnation
	if _, err := rand.Read(i[:]); err != nil {
		panic(fmt.Sprintf("wal: no randomness: %v", err)) // crypto/rand does not return errors on supported systems
	}
	return i
}

func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// IsZero reports whether i is the zero value, which no topic has.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }
