package consumers

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// What says how a call was decided, where that is not what its record says. The
// numbers are part of the data format.
type What uint8

// The decisions that every abstraction has. Those of an abstraction's own begin
// at FirstOwn, and say in Data what follows from them.
const (
	WasDuplicate What = 1
	WasConflict  What = 2
	WasTooOld    What = 3
	// WasParked: the call waits under its key. Data is uvarint attempts, key length
	// and key, then the reason, of one that is the first of its queue; empty of one
	// that waits behind others.
	WasParked What = 4
	// WasDropped: the call was given up by the control record in hand.
	WasDropped What = 5
	// WasRedriven: the call was applied by the control record in hand. What was
	// decided of it otherwise follows, under the same Ref.
	WasRedriven What = 6
	// WasTurned: the control record in hand made another store decide.
	WasTurned What = 7
	// WasOutOfTurn: the record was made of a message of a log namespace, and the one before it had not come: it has no
	// effect, and comes again. See wal.Source.
	WasOutOfTurn What = 8

	FirstOwn What = 16
)

// Decision is one exception. Example: a put whose condition failed has the
// decision {offset 7, index 0, the abstraction's own, token entry}; a put that
// did what it says has none.
type Decision struct {
	// Offset is that of the record in hand, but for a call that the record in hand,
	// a control record, redrove or dropped.
	Offset wal.Offset
	Index  int // of the call in its record, or wal.WholeRecord
	What   What
	Data   []byte
}

// Refusal says in a word why a call had no effect, of the decisions that every abstraction has; "": it is none of them,
// or it had its effect.
func (d *Decision) Refusal() string {
	switch d.What {
	case WasDuplicate:
		return "duplicate"
	case WasConflict:
		return "token_conflict"
	case WasTooOld:
		return "too_old"
	case WasParked:
		return "parked"
	case WasDropped:
		return "dropped"
	case WasOutOfTurn:
		return "out_of_turn"
	}
	return ""
}

// The exceptions of one record are one row:
//
//	version 1, then for each: what (1), offset of the record in hand less Offset (uvarint),
//	index less the index before it (zigzag varint), length of data (uvarint), data
const decisionsVersion = 1

// AppendDecision appends d to the row of the record at o. A row begins empty.
func AppendDecision(row []byte, o wal.Offset, last *int, d *Decision) []byte {
	if len(row) == 0 {
		row = append(row, decisionsVersion)
		*last = 0
	}
	row = append(row, byte(d.What))
	row = binary.AppendUvarint(row, uint64(o-d.Offset))
	row = binary.AppendVarint(row, int64(d.Index-*last))
	*last = d.Index
	row = binary.AppendUvarint(row, uint64(len(d.Data)))
	return append(row, d.Data...)
}

// DecodeDecisions appends the exceptions of the record at o to dst. Their Data
// points into row. wal.ErrCorrupt, wal.ErrUnknownVersion.
func DecodeDecisions(dst []Decision, o wal.Offset, row []byte) ([]Decision, error) {
	bad := fmt.Errorf("%w: exceptions of offset %d in %d bytes", wal.ErrCorrupt, o, len(row))
	if len(row) == 0 {
		return dst, bad
	}
	if row[0] != decisionsVersion {
		return dst, fmt.Errorf("%w of exceptions: 0x%02x", wal.ErrUnknownVersion, row[0])
	}
	last := 0
	for b := row[1:]; len(b) > 0; {
		d := Decision{What: What(b[0])}
		b = b[1:]
		back, n := binary.Uvarint(b)
		if n <= 0 || back > uint64(o) {
			return dst, bad
		}
		b = b[n:]
		step, n := binary.Varint(b)
		if n <= 0 {
			return dst, bad
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return dst, bad
		}
		d.Offset, d.Index = o-wal.Offset(back), last+int(step)
		if d.Index < wal.WholeRecord {
			return dst, bad
		}
		last = d.Index
		d.Data, b = b[n:n+int(size):n+int(size)], b[n+int(size):]
		dst = append(dst, d)
	}
	return dst, nil
}

// parkedData is the Data of a WasParked that begins a queue.
func parkedData(dst, key []byte, attempts int, reason string) []byte {
	dst = binary.AppendUvarint(dst, uint64(attempts))
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = append(dst, key...)
	return append(dst, reason...)
}

func decodeParkedData(b []byte) (key []byte, attempts int, reason string, err error) {
	a, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, 0, "", fmt.Errorf("%w: exception of a parked call", wal.ErrCorrupt)
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, 0, "", fmt.Errorf("%w: exception of a parked call", wal.ErrCorrupt)
	}
	b = b[n:]
	return append([]byte(nil), b[:size]...), int(a), string(b[size:]), nil
}
