package delivery

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// Limits of the headers of a message.
const (
	MaxHeaders     = 64
	MaxHeaderName  = 128
	MaxHeaderValue = 4 << 10
	MaxHeaderBytes = 16 << 10 // names and values of all
)

// Header is what a message tells beside its payload.
type Header struct{ Name, Value string }

// Body is what the record of a message holds. Its Payload may point into the record.
type Body struct {
	Payload []byte
	Headers []Header // by name
	// Targets are where it goes; none: to those that the namespace's document calls default.
	Targets []string
	// Delay is how long after the log has it, DeliverAt when, in microseconds since 1970.
	// One of them at most is set; none: at once.
	Delay     time.Duration
	DeliverAt int64
	// Replace: it comes in place of those of its key that wait for their time.
	Replace bool
}

// plain reports whether there is nothing but a payload.
func (b *Body) plain() bool { return len(b.Headers) == 0 && !b.asks() }

// asks reports whether the message says itself how it is delivered.
func (b *Body) asks() bool {
	return len(b.Targets) > 0 || b.Delay != 0 || b.DeliverAt != 0 || b.Replace
}

// Due is when a message is to be delivered whose record the log appended at logTime, both in
// microseconds since 1970.
func (b *Body) Due(logTime int64) int64 {
	if b.DeliverAt != 0 {
		return max(b.DeliverAt, logTime)
	}
	return logTime + b.Delay.Microseconds()
}

// HeaderError says which header of a message cannot be taken.
type HeaderError struct{ Name, Why string }

func (e *HeaderError) Error() string { return fmt.Sprintf("header %.140q %s", e.Name, e.Why) }

// HeadersOf checks headers and puts them in order. *HeaderError.
func HeadersOf(m map[string]string) ([]Header, error) {
	if len(m) == 0 {
		return nil, nil
	}
	hs, size := make([]Header, 0, len(m)), 0
	for name, value := range m {
		size += len(name) + len(value)
		hs = append(hs, Header{name, value})
	}
	slices.SortFunc(hs, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
	folded := make(map[string]bool, len(hs))
	for _, h := range hs {
		switch {
		case len(h.Name) == 0 || len(h.Name) > MaxHeaderName:
			return nil, &HeaderError{h.Name, fmt.Sprintf("has a name of %d bytes; it may have 1 to %d", len(h.Name), MaxHeaderName)}
		case strings.IndexFunc(h.Name, NotInName) >= 0:
			return nil, &HeaderError{h.Name, `has a name with other characters than letters, digits, "-", "_" and "."`}
		case len(h.Value) > MaxHeaderValue:
			return nil, &HeaderError{h.Name, fmt.Sprintf("has %d bytes; it may have %d", len(h.Value), MaxHeaderValue)}
		case !utf8.ValidString(h.Value) || strings.IndexFunc(h.Value, control) >= 0:
			return nil, &HeaderError{h.Name, "has a line break, another control character, or bytes that are not UTF-8"}
		case folded[strings.ToLower(h.Name)]:
			return nil, &HeaderError{h.Name, "differs from another one in case alone"}
		}
		folded[strings.ToLower(h.Name)] = true
	}
	switch {
	case len(hs) > MaxHeaders:
		return nil, &HeaderError{hs[MaxHeaders].Name, fmt.Sprintf("is one of %d; a message may have %d", len(hs), MaxHeaders)}
	case size > MaxHeaderBytes:
		return nil, &HeaderError{hs[0].Name, fmt.Sprintf("and the others have %d bytes; they may have %d", size, MaxHeaderBytes)}
	}
	return hs, nil
}

// NotInName tells what names of headers, and of consumers, do not have.
func NotInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

const (
	bodyPayload = 1
	bodyHeader  = 2 // repeated: name, value
	bodyTarget  = 3 // repeated: its name
	bodyDelay   = 4 // microseconds, 8 bytes, big-endian
	bodyAt      = 5 // the same, since 1970
	bodyReplace = 6 // empty: it replaces others

	headerName  = 1
	headerValue = 2
)

// bodyVersion is the first byte of the payload of a wal.KindEnvelope record.
const bodyVersion = 1

// encode returns the kind and the payload of the record of b.
func (b *Body) encode() (wal.Kind, []byte) {
	if b.plain() {
		return wal.KindMessage, b.Payload
	}
	dst := make([]byte, 0, len(b.Payload)+64*len(b.Headers)+16)
	dst = append(dst, bodyVersion)
	dst = appendField(dst, bodyPayload, b.Payload)
	var one []byte
	for _, h := range b.Headers {
		one = appendField(one[:0], headerName, h.Name)
		one = appendField(one, headerValue, h.Value)
		dst = appendField(dst, bodyHeader, one)
	}
	for _, t := range b.Targets {
		dst = appendField(dst, bodyTarget, t)
	}
	if b.Delay != 0 {
		dst = appendField(dst, bodyDelay, binary.BigEndian.AppendUint64(nil, uint64(b.Delay.Microseconds())))
	}
	if b.DeliverAt != 0 {
		dst = appendField(dst, bodyAt, binary.BigEndian.AppendUint64(nil, uint64(b.DeliverAt)))
	}
	if b.Replace {
		dst = appendField(dst, bodyReplace, "")
	}
	return wal.KindEnvelope, dst
}

func appendField[T string | []byte](dst []byte, num protowire.Number, v T) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return append(protowire.AppendVarint(dst, uint64(len(v))), v...)
}

// DecodeBody reads what the record of a message holds. wal.ErrUnknownVersion of what a newer build wrote, wal.ErrMalformed.
func DecodeBody(rec *wal.Record) (b Body, err error) {
	if rec.Kind == wal.KindMessage {
		return Body{Payload: rec.Payload}, nil
	}
	p := rec.Payload
	if len(p) == 0 || p[0] != bodyVersion {
		return b, fmt.Errorf("%w: the envelope of a message", wal.ErrUnknownVersion)
	}
	err = eachField(p[1:], func(num protowire.Number, v []byte) error {
		switch num {
		case bodyPayload:
			b.Payload = v
		case bodyHeader:
			var h Header
			if err := eachField(v, func(num protowire.Number, v []byte) error {
				switch num {
				case headerName:
					h.Name = string(v)
				case headerValue:
					h.Value = string(v)
				default:
					return fmt.Errorf("%w: field %d of a header", wal.ErrUnknownVersion, num)
				}
				return nil
			}); err != nil {
				return err
			}
			b.Headers = append(b.Headers, h)
		case bodyTarget:
			b.Targets = append(b.Targets, string(v))
		case bodyReplace:
			b.Replace = true
		case bodyDelay, bodyAt:
			if len(v) != 8 {
				return fmt.Errorf("%w time in the envelope of a message: %d bytes", wal.ErrMalformed, len(v))
			}
			at := int64(binary.BigEndian.Uint64(v))
			if num == bodyAt {
				b.DeliverAt = at
			} else {
				b.Delay = time.Duration(at) * time.Microsecond
			}
		default: // it may change what is to be done with the message
			return fmt.Errorf("%w: field %d of the envelope of a message", wal.ErrUnknownVersion, num)
		}
		return nil
	})
	return b, err
}

// eachField calls f with each field of b, all of which are bytes.
func eachField(b []byte, f func(num protowire.Number, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.BytesType {
			return fmt.Errorf("%w envelope of a message", wal.ErrMalformed)
		}
		v, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return fmt.Errorf("%w envelope of a message: %w", wal.ErrMalformed, protowire.ParseError(m))
		}
		if err := f(num, v); err != nil {
			return err
		}
		b = b[n+m:]
	}
	return nil
}
