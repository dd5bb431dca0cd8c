package client

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
)

// session is what a client remembers of its writes to one namespace: one place
// for each partition. It is as small as the namespace has partitions, whatever
// is written. The zero session is empty.
type session struct {
	mu  sync.Mutex
	at  place
	all string // at as a position; "" when it has to be made
	// blind: a position came that this client cannot read, so that reads ask for
	// the latest state instead, which covers it.
	blind bool
}

// place is a position, taken apart.
type place struct {
	// life names the namespace and the incarnation of its topic: the bytes of the
	// position that precede its partitions.
	life string
	// offsets are one above those of the position's records: what a partition is
	// read from.
	offsets map[uint64]uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// positionVersion is the one form of positions that this client can merge:
//
//	version 1 | uvarint length, namespace | 16 bytes incarnation |
//	uvarint n | n times (uvarint partition, uvarint offset + 1), by partition | CRC32C
//
// in URL-safe base64.
const positionVersion = 1

// add remembers a position.
func (s *session) add(position string) {
	if position == "" {
		return
	}
	p, ok := parsePlace(position)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !ok:
		s.blind = true
	case s.at.life != p.life:
		// The first one, or of a namespace that was made again. A late answer from
		// its former life would make reads fail once; see forget.
		s.at, s.all = p, position
	default:
		for part, off := range p.offsets {
			if cur, ok := s.at.offsets[part]; !ok || off > cur {
				s.at.offsets[part] = off
				s.all = ""
			}
		}
	}
}

// after is what reads wait for, "" for nothing, and whether they have to ask for
// the latest state.
func (s *session) after() (position string, latest bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == "" && len(s.at.offsets) > 0 {
		s.all = s.at.String()
	}
	return s.all, s.blind
}

// forget drops a position that the server says is of a former life.
func (s *session) forget(position string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == position {
		s.at, s.all = place{}, ""
		return
	}
	if p, ok := parsePlace(position); ok && p.life == s.at.life {
		s.at, s.all = place{}, ""
	}
}

func (p place) String() string {
	b := append(make([]byte, 0, len(p.life)+8+12*len(p.offsets)), p.life...)
	b = binary.AppendUvarint(b, uint64(len(p.offsets)))
	for _, part := range slices.Sorted(maps.Keys(p.offsets)) {
		b = binary.AppendUvarint(b, part)
		b = binary.AppendUvarint(b, p.offsets[part])
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePlace(s string) (place, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < 6 || b[0] != positionVersion {
		return place{}, false
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return place{}, false
	}
	const incarnation = 16
	l, n := binary.Uvarint(body[1:])
	if n <= 0 || l > 255 || len(body) < 1+n+int(l)+incarnation {
		return place{}, false
	}
	head := 1 + n + int(l) + incarnation
	p := place{life: string(body[:head])}
	rest := body[head:]
	count, n := binary.Uvarint(rest)
	if n <= 0 || count > uint64(len(rest)) {
		return place{}, false
	}
	rest = rest[n:]
	p.offsets = make(map[uint64]uint64, count)
	for range count {
		part, n := binary.Uvarint(rest)
		if n <= 0 {
			return place{}, false
		}
		rest = rest[n:]
		off, n := binary.Uvarint(rest)
		if n <= 0 {
			return place{}, false
		}
		rest = rest[n:]
		p.offsets[part] = off
	}
	return p, len(rest) == 0
}

// maxSessions bounds of how many namespaces a client remembers its writes.
const maxSessions = 4096

// session returns that of a namespace, nil when there is none and it must not be
// made.
func (c *Client) session(namespace string) *session {
	if s, ok := c.sessions.Load(namespace); ok {
		return s.(*session)
	}
	return nil
}

// wrote remembers the position of a write.
func (c *Client) wrote(namespace, position string) {
	if c.cfg.NoSession || position == "" {
		return
	}
	s := c.session(namespace)
	if s == nil {
		if c.sessionCount.Add(1) > maxSessions {
			c.sessionCount.Add(-1)
			c.sessionsFull.Store(true)
			return
		}
		x, loaded := c.sessions.LoadOrStore(namespace, &session{})
		if loaded {
			c.sessionCount.Add(-1)
		}
		s = x.(*session)
	}
	s.add(position)
}
