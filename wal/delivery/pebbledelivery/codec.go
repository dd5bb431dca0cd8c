package pebbledelivery

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// The fields of a message, the payload last: who does not need it stops there.
const (
	messageLogTime   = 1  // varint
	messageDue       = 2  // varint
	messageKey       = 3  // bytes
	messageKeyless   = 4  // varint, 1
	messageNonce     = 5  // bytes
	messageGenerated = 6  // varint
	messageAim       = 7  // repeated: see below
	messageHeader    = 8  // repeated
	messagePayload   = 9  // bytes
	messageHops      = 10 // varint; before the headers
)

// The fields of what a message or its status has several of.
const (
	aimTarget  = 1 // bytes
	aimOrdered = 2 // varint, 1
	aimParks   = 3 // varint, 1

	headerName  = 1 // bytes
	headerValue = 2 // bytes

	statusLogTime = 1 // varint
	statusDue     = 2 // varint
	statusTarget  = 3 // repeated
	statusNonce   = 4 // bytes

	targetName     = 1 // bytes
	targetState    = 2 // varint
	targetAttempts = 3 // varint
	targetError    = 4 // bytes
	targetAt       = 5 // varint
	targetBegun    = 6 // varint, 1
	targetBy       = 7 // bytes
)

func appendVarint(dst []byte, num protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), uint64(v))
}

func appendBytes[T string | []byte](dst []byte, num protowire.Number, v T) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return append(protowire.AppendVarint(dst, uint64(len(v))), v...)
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// each calls f with each field of b.
func each(b []byte, f func(num protowire.Number, n int64, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", wal.ErrCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
		var number uint64
		var v []byte
		switch typ {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("%w: field %d of type %d", wal.ErrCorrupt, num, typ)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", wal.ErrCorrupt, protowire.ParseError(n))
		}
		if err := f(num, int64(number), v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func appendMessage(dst []byte, m *delivery.Pending) []byte {
	dst = appendVarint(dst, messageLogTime, m.LogTime)
	dst = appendVarint(dst, messageDue, m.Due)
	dst = appendBytes(dst, messageKey, m.Key)
	dst = appendVarint(dst, messageKeyless, flag(m.Keyless))
	dst = appendBytes(dst, messageNonce, m.Token.Nonce[:])
	dst = appendVarint(dst, messageGenerated, m.Token.GenerationTime)
	var one []byte
	for _, a := range m.Aims {
		one = appendBytes(one[:0], aimTarget, a.Target)
		one = appendVarint(one, aimOrdered, flag(a.Ordered))
		one = appendVarint(one, aimParks, flag(a.Parks))
		dst = appendBytes(dst, messageAim, one)
	}
	dst = appendVarint(dst, messageHops, int64(m.Hops))
	for _, h := range m.Headers {
		one = appendBytes(one[:0], headerName, h.Name)
		one = appendBytes(one, headerValue, h.Value)
		dst = appendBytes(dst, messageHeader, one)
	}
	return appendBytes(dst, messagePayload, m.Payload)
}

// decodeMessage keeps nothing of b. Without whole it leaves headers and payload out.
func decodeMessage(o wal.Offset, b []byte, whole bool) (*delivery.Pending, error) {
	m := &delivery.Pending{Offset: o}
	err := each(b, func(num protowire.Number, n int64, v []byte) error {
		switch num {
		case messageLogTime:
			m.LogTime = n
		case messageDue:
			m.Due = n
		case messageKey:
			m.Key = append([]byte{}, v...)
		case messageKeyless:
			m.Keyless = n != 0
		case messageNonce:
			copy(m.Token.Nonce[:], v)
		case messageHops:
			m.Hops = int(n)
		case messageGenerated:
			m.Token.GenerationTime = n
		case messageAim:
			var a delivery.Aim
			if err := each(v, func(num protowire.Number, n int64, v []byte) error {
				switch num {
				case aimTarget:
					a.Target = string(v)
				case aimOrdered:
					a.Ordered = n != 0
				case aimParks:
					a.Parks = n != 0
				default:
					return fmt.Errorf("%w: field %d of a target", wal.ErrCorrupt, num)
				}
				return nil
			}); err != nil {
				return err
			}
			m.Aims = append(m.Aims, a)
		case messageHeader, messagePayload:
			if !whole {
				return errEnough
			}
			if num == messagePayload {
				m.Payload = append([]byte{}, v...)
				return nil
			}
			var h delivery.Header
			if err := each(v, func(num protowire.Number, _ int64, v []byte) error {
				if num == headerName {
					h.Name = string(v)
				} else {
					h.Value = string(v)
				}
				return nil
			}); err != nil {
				return err
			}
			m.Headers = append(m.Headers, h)
		default:
			return fmt.Errorf("%w: field %d of a message", wal.ErrCorrupt, num)
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return m, err
}

func appendStatus(dst []byte, s *delivery.Status) []byte {
	dst = appendVarint(dst, statusLogTime, s.LogTime)
	dst = appendVarint(dst, statusDue, s.Due)
	dst = appendBytes(dst, statusNonce, s.Nonce[:])
	var one []byte
	for i := range s.Targets {
		t := &s.Targets[i]
		one = appendBytes(one[:0], targetName, t.Target)
		one = appendVarint(one, targetState, int64(t.State))
		one = appendVarint(one, targetAttempts, int64(t.Attempts))
		if t.Error != "" {
			one = appendBytes(one, targetError, t.Error)
		}
		one = appendVarint(one, targetAt, t.At)
		one = appendVarint(one, targetBegun, flag(t.Begun))
		if t.By != "" {
			one = appendBytes(one, targetBy, t.By)
		}
		dst = appendBytes(dst, statusTarget, one)
	}
	return dst
}

func decodeStatus(o wal.Offset, b []byte) (*delivery.Status, error) {
	s := &delivery.Status{Offset: o}
	err := each(b, func(num protowire.Number, n int64, v []byte) error {
		switch num {
		case statusLogTime:
			s.LogTime = n
		case statusDue:
			s.Due = n
		case statusNonce:
			copy(s.Nonce[:], v)
		case statusTarget:
			var t delivery.TargetStatus
			if err := each(v, func(num protowire.Number, n int64, v []byte) error {
				switch num {
				case targetName:
					t.Target = string(v)
				case targetState:
					t.State = delivery.TargetState(n)
				case targetAttempts:
					t.Attempts = int(n)
				case targetError:
					t.Error = string(v)
				case targetAt:
					t.At = n
				case targetBegun:
					t.Begun = n != 0
				case targetBy:
					t.By = string(v)
				default:
					return fmt.Errorf("%w: field %d of a target", wal.ErrCorrupt, num)
				}
				return nil
			}); err != nil {
				return err
			}
			s.Targets = append(s.Targets, t)
		default:
			return fmt.Errorf("%w: field %d of a status", wal.ErrCorrupt, num)
		}
		return nil
	})
	return s, err
}

// statusFrom is that of a message of which nothing came yet.
func statusFrom(m *delivery.Pending) *delivery.Status {
	s := &delivery.Status{
		Offset: m.Offset, LogTime: m.LogTime, Due: m.Due, Nonce: m.Token.Nonce, Targets: make([]delivery.TargetStatus, len(m.Aims)),
	}
	for i, a := range m.Aims {
		s.Targets[i].Target = a.Target
	}
	return s
}
