package pebblekv

import (
	"bytes"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Sizes of a set of marks, in bits, and how many each record gets that the last
// round found: of a set that is not full one record in forty without tombstones
// is taken for one with.
const (
	minMarkBits   = 1 << 14
	maxMarkBits   = 1 << 23
	bitsForRecord = 16
)

// marks are the records of a partition that may have tombstones, in memory: a
// point read of any other record does not look for them. A store that this process made
// has them from its start. A store that was there before has them after one round of
// the sweep, which looks at every record; until then every record may have tombstones.
// mark is called before the commit
// that carries a tombstone, so that a mark is there when its tombstone is; a round
// leaves marks out whose tombstones are gone.
type marks struct {
	known atomic.Pointer[markSet] // nil: every record may have tombstones
	// Of the goroutine that commits and sweeps:
	next   *markSet // of the round under way, nil for none
	cursor []byte   // that the round goes on from
}

// may reports whether the record may have tombstones.
func (m *marks) may(id []byte) bool {
	s := m.known.Load()
	return s == nil || s.has(xxhash.Sum64(id))
}

// start is called before the first commit of a partition that is new.
func (m *marks) start() { m.known.Store(newMarkSet(0)) }

// mark adds a record that gets a tombstone.
func (m *marks) mark(id []byte) {
	h := xxhash.Sum64(id)
	if s := m.known.Load(); s != nil {
		s.add(h)
	}
	if m.next != nil {
		m.next.add(h)
	}
}

// sweepFrom is told where a sweep begins. A round that is not gone on with where
// it ended is given up.
func (m *marks) sweepFrom(cursor []byte) {
	switch {
	case len(cursor) == 0:
		n := 0
		if s := m.known.Load(); s != nil {
			n = s.records
		}
		m.next = newMarkSet(n)
	case !bytes.Equal(cursor, m.cursor):
		m.next = nil
	}
	m.cursor = cursor
}

// found is told of a record with tombstones that the sweep comes by.
func (m *marks) found(id []byte) {
	if m.next != nil {
		m.next.records++
		m.next.add(xxhash.Sum64(id))
	}
}

// sweptTo is told where a sweep ended that has committed; nil is the end of the
// round.
func (m *marks) sweptTo(cursor []byte) {
	m.cursor = cursor
	if cursor == nil && m.next != nil {
		m.known.Store(m.next)
		m.next = nil
	}
}

// markSet is a set of hashes that may also have others.
type markSet struct {
	bits    []atomic.Uint64 // a power of two of them
	records int             // found by the round that made it
}

func newMarkSet(records int) *markSet {
	n := minMarkBits
	for n < min(records*bitsForRecord, maxMarkBits) {
		n *= 2
	}
	return &markSet{bits: make([]atomic.Uint64, n/64)}
}

// places are two bits of the hash's.
func (s *markSet) places(h uint64) (a, b uint64) {
	mask := uint64(len(s.bits))*64 - 1
	return h & mask, h >> 32 & mask
}

func (s *markSet) add(h uint64) {
	a, b := s.places(h)
	s.bits[a/64].Or(1 << (a % 64))
	s.bits[b/64].Or(1 << (b % 64))
}

func (s *markSet) has(h uint64) bool {
	a, b := s.places(h)
	return s.bits[a/64].Load()&(1<<(a%64)) != 0 && s.bits[b/64].Load()&(1<<(b%64)) != 0
}
