package timeseries

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// payloadVersion is the first byte of a payload; see the package comment.
const payloadVersion = 1

// Op is what a record asks for.
type Op byte

// The operations.
const (
	OpWrite  Op = 1
	OpDelete Op = 2 // of a series, all that precedes it
)

// Refusal is an event that was left out before the log: its index in the call and why.
type Refusal struct {
	Index int
	Why   Why
}

// Why says why an event was left out. The numbers are part of the data format.
type Why byte

// The reasons.
const (
	TooOld      Why = 1 // older than accept_limit
	TooNew      Why = 2 // ahead by more than accept_future
	Blocked     Why = 3 // the series is in timeseries.blocked
	SliceClosed Why = 4 // its slice is closed
)

// AppendRefusals appends the encoding of what was left out: for each its index and
// reason (uvarint, 1 byte).
func AppendRefusals(dst []byte, rs []Refusal) []byte {
	for _, r := range rs {
		dst = binary.AppendUvarint(dst, uint64(r.Index))
		dst = append(dst, byte(r.Why))
	}
	return dst
}

// DecodeRefusals reads what AppendRefusals wrote. wal.ErrMalformed.
func DecodeRefusals(b []byte) (rs []Refusal, err error) {
	for len(b) > 0 {
		i, n := binary.Uvarint(b)
		if n <= 0 || n >= len(b) || i > maxIndex {
			return nil, fmt.Errorf("%w refusals of a call of events", wal.ErrMalformed)
		}
		rs = append(rs, Refusal{int(i), Why(b[n])})
		b = b[n+1:]
	}
	return rs, nil
}

const maxIndex = 1 << 20

// appendWrite begins the payload of a write; appendEvent adds each event to it.
func appendWrite(dst []byte, refused []byte) []byte {
	return appendBlob(append(dst, payloadVersion, byte(OpWrite)), refused)
}

func appendEvent(dst []byte, e *Event) []byte {
	dst = appendBlob(dst, e.Series)
	dst = binary.AppendVarint(dst, e.Time)
	dst = appendBlob(dst, e.ID)
	items := AppendItems(nil, e.Items)
	return appendBlob(dst, items)
}

// appendDelete is the payload of the deletion of a series.
func appendDelete(dst, series []byte) []byte {
	return appendBlob(append(dst, payloadVersion, byte(OpDelete)), series)
}

// encoded is an event as a record has it. It points into the record.
type encoded struct {
	series []byte
	time   int64
	id     []byte
	items  []byte // see AppendItems
}

// Call is the payload of a record.
type Call struct {
	Op      Op
	Refused []byte // see AppendRefusals
	Series  []byte // of OpDelete
	events  []encoded
}

// RefusedBy says why an event had no effect by a decision that is this abstraction's own; "": it had.
func RefusedBy(d *consumers.Decision) string {
	if d.What == refusedEvent {
		return "not_accepted"
	}
	return ""
}

// Events calls do with each event of OpWrite, which is valid during the call. wal.ErrMalformed.
func (c *Call) Events(do func(e *Event)) error {
	for i := range c.events {
		x := &c.events[i]
		e := Event{Series: x.series, Time: x.time, ID: x.id}
		var err error
		if e.Items, err = DecodeItems(nil, x.items); err != nil {
			return err
		}
		do(&e)
	}
	return nil
}

// Len is how many events there are.
func (c *Call) Len() int { return len(c.events) }

// DecodePayload reads a payload into c, whose memory it uses again. What c holds then
// points into b. wal.ErrUnknownVersion, wal.ErrMalformed.
func DecodePayload(b []byte, c *Call) error {
	*c = Call{events: c.events[:0]}
	bad := fmt.Errorf("%w payload of events", wal.ErrMalformed)
	switch {
	case len(b) < 2:
		return bad
	case b[0] != payloadVersion:
		return fmt.Errorf("%w: payload of events 0x%02x", wal.ErrUnknownVersion, b[0])
	}
	c.Op, b = Op(b[1]), b[2:]
	var ok bool
	switch c.Op {
	case OpDelete:
		if c.Series, b, ok = blob(b); !ok || len(b) > 0 {
			return bad
		}
		return nil
	case OpWrite:
	default:
		return bad
	}
	if c.Refused, b, ok = blob(b); !ok {
		return bad
	}
	for len(b) > 0 {
		var e encoded
		if e.series, b, ok = blob(b); !ok {
			return bad
		}
		t, n := binary.Varint(b)
		if n <= 0 {
			return bad
		}
		e.time, b = t, b[n:]
		if e.id, b, ok = blob(b); !ok {
			return bad
		}
		if e.items, b, ok = blob(b); !ok {
			return bad
		}
		c.events = append(c.events, e)
	}
	return nil
}
