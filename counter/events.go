package counter

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// EventKind is what an event did to a counter. The numbers are part of the data
// format.
type EventKind uint8

// The kinds of events.
const (
	EventAdd    EventKind = 0
	EventClear  EventKind = 1 // the value became 0
	EventSettle EventKind = 2 // a settled reservation; Delta is what it took, negated
)

// Event is one decided delta.
type Event struct {
	ID   uint64 // of the counter
	Kind EventKind
	// Prev is the offset of the event row before this one that names ID, the row's
	// own when an earlier event of this row does; wal.NoOffset for none.
	Prev  wal.Offset
	Delta int64
	Time  int64 // event time, microseconds since 1970
}

// EventRow is the head of an event row: one log record and what it decided.
type EventRow struct {
	Offset     wal.Offset
	LogTime    int64     // of the record, microseconds since 1970
	AcceptedAt int64     // of the record, microseconds since 1970
	Nonce      wal.Nonce // of the call's token; zero for none
}

const (
	eventVersion   = 1
	eventHeadBytes = 1 + 8 + 8 + wal.NonceSize
)

func appendEventHead(dst []byte, r *EventRow) []byte {
	dst = append(dst, eventVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.LogTime))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.AcceptedAt))
	return append(dst, r.Nonce[:]...)
}

// appendEvent appends an event to the row of r. The event's time is left out
// where it is the record's.
func appendEvent(dst []byte, r *EventRow, e *Event) []byte {
	tag := e.ID<<3 | uint64(e.Kind)<<1
	if e.Time != r.AcceptedAt {
		tag |= 1
	}
	dst = binary.AppendUvarint(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(r.Offset-e.Prev))
	dst = binary.AppendVarint(dst, e.Delta)
	if tag&1 != 0 {
		dst = binary.AppendVarint(dst, e.Time)
	}
	return dst
}

// EventReader reads the events of a row in the order of their decision.
type EventReader struct {
	Row EventRow
	d   decoder
}

// NewEventReader reads the head of the event row of the record at o. wal.ErrCorrupt.
func NewEventReader(o wal.Offset, row []byte) (*EventReader, error) {
	if len(row) < eventHeadBytes || row[0] != eventVersion {
		return nil, fmt.Errorf("%w: event row %d of %d bytes", wal.ErrCorrupt, o, len(row))
	}
	r := &EventReader{Row: EventRow{Offset: o}}
	r.Row.LogTime = int64(binary.BigEndian.Uint64(row[1:]))
	r.Row.AcceptedAt = int64(binary.BigEndian.Uint64(row[9:]))
	copy(r.Row.Nonce[:], row[17:])
	r.d.b = row[eventHeadBytes:]
	return r, nil
}

// Next reads the next event. ok is false at the end. wal.ErrCorrupt.
func (r *EventReader) Next(e *Event) (ok bool, err error) {
	if len(r.d.b) == 0 {
		return false, nil
	}
	tag := r.d.uvarint()
	e.ID, e.Kind = tag>>3, EventKind(tag>>1&3)
	e.Prev = r.Row.Offset - wal.Offset(r.d.uvarint())
	e.Delta = r.d.varint()
	e.Time = r.Row.AcceptedAt
	if tag&1 != 0 {
		e.Time = r.d.varint()
	}
	if r.d.bad || e.Kind > EventSettle || e.Prev < wal.NoOffset || e.Prev > r.Row.Offset {
		return false, fmt.Errorf("%w: event row %d", wal.ErrCorrupt, r.Row.Offset)
	}
	return true, nil
}
