package consumers

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// lane is whose letters stand in one order: those of a partition, or of one of its
// targets.
type lane struct {
	partition wal.Partition
	target    string
}

// place is where a letter stands in its lane. No two letters of a lane have the
// same: a record decides once about each of its mutations, and a control record
// about each that it redrives.
type place struct {
	at  wal.Offset
	ref wal.Ref
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.at, o.at), p.ref.Compare(o.ref))
}

func laneOf(l *DeadLetter) lane   { return lane{l.Ref.Partition, l.Target} }
func placeOf(l *DeadLetter) place { return place{l.At, l.Ref} }

// tally is what the entries of a topic before an offset come to. From time to time
// one is written into the topic, so that nobody has to read it from its start.
type tally struct {
	offset wal.Offset
	lanes  map[lane]place // of the last letter of each
	total  letterCount    // ever
	// left, of total, is below start: the topic has it no longer, or is about to lose
	// it.
	left  letterCount
	start wal.Offset
	// reset: lanes go back to these; see DeadLetterLog.Rewind.
	reset bool
}

// letterCount counts the letters of mutations that had none before, and the bytes
// of all entries.
type letterCount struct{ first, bytes int64 }

func (t *tally) clone() tally {
	c := *t
	if c.lanes = maps.Clone(t.lanes); c.lanes == nil {
		c.lanes = make(map[lane]place)
	}
	return c
}

// has reports whether a letter is a copy of one that came before.
func (t *tally) has(l *DeadLetter) bool {
	last, ok := t.lanes[laneOf(l)]
	return ok && placeOf(l).compare(last) <= 0
}

// add counts a letter, and reports whether it is a copy.
func (t *tally) add(l *DeadLetter) (copied bool) {
	if t.has(l) {
		return true
	}
	t.lanes[laneOf(l)] = placeOf(l)
	if isFirst(l) {
		t.total.first++
	}
	return false
}

// isFirst reports whether a letter is the first of its mutation.
func isFirst(l *DeadLetter) bool {
	if l.Target != "" { // whose attempts are those to deliver it
		return l.Disposition == Parked && l.By == ""
	}
	return l.Attempts <= 1 && (l.Disposition == Refused || l.Disposition == Parked)
}

// fold takes an entry into account, and calls f with each of its letters, its
// number in the entry, and whether it is a copy. f may be nil; where it returns
// false the rest of the entry is left out.
func (t *tally) fold(e *letterEntry, f func(l *DeadLetter, n int, copied bool) bool) error {
	n := 0
	err := decodeFields(e.payload, func(field protowire.Number, _ uint64, b []byte) error {
		switch field {
		case fieldTally:
			v, err := decodeTally(b)
			if v.reset {
				t.lanes = v.lanes
			}
			if v.start > t.start {
				t.left, t.start = v.left, v.start
			}
			return err
		case fieldLetter:
			var l DeadLetter
			if err := decodeLetter(b, &l); err != nil {
				return err
			}
			copied := t.add(&l)
			if f != nil && !f(&l, n, copied) {
				return errEnough
			}
			n++
			return nil
		case fieldBehind:
			return nil
		default:
			return fmt.Errorf("%w dead letter: unexpected field %d", wal.ErrMalformed, field)
		}
	})
	if err == nil {
		t.total.bytes += int64(len(e.payload))
		t.offset = e.offset + 1
	}
	return err
}

// errEnough ends a read early.
var errEnough = errors.New("enough")

// The fields of a tally in a topic.
const (
	tallyFirst     = 1 // varint
	tallyBytes     = 2 // varint
	tallyLane      = 3 // message, repeated
	tallyReset     = 4 // varint, 1
	tallyLeft      = 5 // varint, of tallyFirst
	tallyLeftBytes = 6 // varint, of tallyBytes
	tallyStart     = 7 // varint
	tallyAt        = 8 // varint: the offset that it is as of, where another process may have written between
)

// The fields of a lane.
const (
	lanePartition = 1 // varint
	laneTarget    = 2 // bytes
	laneAt        = 3 // varint
	laneOffset    = 4 // varint
	laneIndex     = 5 // varint, of the index + 1
)

// appendTally appends the field of a tally to a payload. Equal marks have equal
// bytes.
func appendTally(dst []byte, t *tally) []byte {
	b := appendNumber(nil, tallyFirst, uint64(t.total.first))
	b = appendNumber(b, tallyBytes, uint64(t.total.bytes))
	b = appendNumber(b, tallyLeft, uint64(t.left.first))
	b = appendNumber(b, tallyLeftBytes, uint64(t.left.bytes))
	b = appendNumber(b, tallyStart, uint64(t.start))
	b = appendNumber(b, tallyAt, uint64(t.offset))
	lanes := slices.SortedFunc(maps.Keys(t.lanes), func(a, b lane) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.target, b.target))
	})
	for _, k := range lanes {
		p := t.lanes[k]
		v := appendNumber(nil, lanePartition, uint64(k.partition))
		v = appendField(v, laneTarget, k.target)
		v = appendNumber(v, laneAt, uint64(p.at))
		v = appendNumber(v, laneOffset, uint64(p.ref.Offset))
		v = appendNumber(v, laneIndex, uint64(p.ref.Index+1))
		b = protowire.AppendBytes(protowire.AppendTag(b, tallyLane, protowire.BytesType), v)
	}
	if t.reset {
		b = appendNumber(b, tallyReset, 1)
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, fieldTally, protowire.BytesType), b)
}

// decodeTally keeps nothing of b.
func decodeTally(b []byte) (t tally, err error) {
	t.lanes = make(map[lane]place)
	err = decodeFields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case tallyFirst:
			t.total.first = int64(number)
		case tallyBytes:
			t.total.bytes = int64(number)
		case tallyLeft:
			t.left.first = int64(number)
		case tallyLeftBytes:
			t.left.bytes = int64(number)
		case tallyStart:
			t.start = wal.Offset(number)
		case tallyAt:
			t.offset = wal.Offset(number)
		case tallyLane:
			k, p, err := decodeLane(bytes)
			t.lanes[k] = p
			return err
		case tallyReset:
			t.reset = number != 0
		default:
			return fmt.Errorf("%w tally of dead letters: unexpected field %d", wal.ErrMalformed, field)
		}
		return nil
	})
	return t, err
}

func decodeLane(b []byte) (k lane, p place, err error) {
	p.ref.Index = wal.WholeRecord
	err = decodeFields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case lanePartition:
			k.partition = wal.Partition(number)
		case laneTarget:
			k.target = string(bytes)
		case laneAt:
			p.at = wal.Offset(number)
		case laneOffset:
			p.ref.Offset = wal.Offset(number)
		case laneIndex:
			p.ref.Index = int(int32(number)) - 1
		default:
			return fmt.Errorf("%w tally of dead letters: unexpected field %d of a lane", wal.ErrMalformed, field)
		}
		return nil
	})
	p.ref.Partition = k.partition
	return k, p, err
}
