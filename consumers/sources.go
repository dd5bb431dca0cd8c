package consumers

import (
	"encoding/binary"

	"github.com/headwater-db/headwater/wal"
)

// Sources are how far the messages of log namespaces have come into a partition: of each partition of a log, the
// highest place. Example: the message at 12:00, offset 7, of partition 2 of log L was applied here; a copy of it, and
// whatever L had before it, changes nothing, if it comes a year later. The value is not changed and can be compared;
// "" is none.
//
// Entries are in order, of 36 bytes each: topic (16), partition (4), time (8), offset (8), big-endian.
type Sources string

const (
	sourceName = 16 + 4
	sourceSize = sourceName + 8 + 8
)

// Valid reports whether s is one.
func (s Sources) Valid() bool {
	for i := sourceSize; i < len(s); i += sourceSize {
		if s[i-sourceSize:i-sourceSize+sourceName] >= s[i:i+min(sourceName, len(s)-i)] {
			return false
		}
	}
	return len(s)%sourceSize == 0
}

// find returns where the entry of a partition of a log is, or would be.
func (s Sources) find(topic wal.Incarnation, p wal.Partition) (at int, there bool) {
	name := string(binary.BigEndian.AppendUint32(topic[:len(topic):len(topic)], uint32(p)))
	lo, hi := 0, len(s)/sourceSize
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s[mid*sourceSize:mid*sourceSize+sourceName] < Sources(name) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	at = lo * sourceSize
	return at, at < len(s) && s[at:at+sourceName] == Sources(name)
}

// Place is the highest place that has come of a partition of a log; zero: nothing has.
func (s Sources) Place(topic wal.Incarnation, p wal.Partition) (at wal.SourcePlace) {
	if i, there := s.find(topic, p); there {
		b := []byte(s[i+sourceName : i+sourceSize])
		at.At, at.Offset = int64(binary.BigEndian.Uint64(b)), wal.Offset(binary.BigEndian.Uint64(b[8:]))
	}
	return at
}

// With is s where at has come of a partition of a log, unless more had.
func (s Sources) With(topic wal.Incarnation, p wal.Partition, at wal.SourcePlace) Sources {
	i, there := s.find(topic, p)
	rest := s[i:]
	if there {
		if s.Place(topic, p).Compare(at) >= 0 {
			return s
		}
		rest = s[i+sourceSize:]
	}
	b := make([]byte, 0, len(s)+sourceSize)
	b = append(append(b, s[:i]...), topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p))
	b = binary.BigEndian.AppendUint64(b, uint64(at.At))
	b = binary.BigEndian.AppendUint64(b, uint64(at.Offset))
	return Sources(append(b, rest...))
}

// Merge is s with what t has.
func (s Sources) Merge(t Sources) Sources {
	for i := 0; i+sourceSize <= len(t); i += sourceSize {
		var topic wal.Incarnation
		copy(topic[:], t[i:])
		p := wal.Partition(binary.BigEndian.Uint32([]byte(t[i+16 : i+sourceName])))
		s = s.With(topic, p, t.Place(topic, p))
	}
	return s
}

// fromSource judges a record that was made of a message of a log namespace, and reports whether it counts. No token
// window judges it: see Run.Judge.
func (q *Part) fromSource(r *Run) (counts bool, err error) {
	src, err := wal.ParseSource(r.Record.Origin)
	if err != nil {
		return false, PoisonUnlessNewer(err)
	}
	last := q.st.Sources.Place(src.Topic, src.Partition)
	switch {
	case r.Follows() && r.Decision(wal.WholeRecord, WasOutOfTurn) != nil:
		return false, nil
	case r.Follows(): // a copy has the exception of one, and its place has come
		counts = r.Decision(wal.WholeRecord, WasDuplicate) == nil
	case src.Place.Compare(last) <= 0:
		r.Refused(wal.WholeRecord, r.Record.RoutingKey, Duplicate)
		return false, nil
	case src.After.Compare(last) > 0:
		r.Except(wal.WholeRecord, WasOutOfTurn, nil)
		return false, nil
	default:
		counts = true
	}
	r.came, r.source = true, src
	return counts, nil
}

// noteSource remembers the place of the record in hand.
func (q *Part) noteSource(r *Run) {
	if r.came {
		q.st.Sources = q.st.Sources.With(r.source.Topic, r.source.Partition, r.source.Place)
	}
}
