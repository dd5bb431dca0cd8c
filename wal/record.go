package wal

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Kind says what a record's payload is and so which applier reads it. The
// numbers are part of the data format: never reuse one.
type Kind uint16

// The registry of kinds.
const (
	KindBarrier    Kind = 1  // no payload; see Log.Barrier
	KindControl    Kind = 2  // redrive or drop of parked records; see package consumers
	KindNamespace  Kind = 3  // a change of the namespace registry
	KindDeadLetter Kind = 4  // an entry of a dead-letter topic; see package consumers
	KindClaim      Kind = 5  // a process says that it holds a partition; see package consumers/decisions
	KindMark       Kind = 6  // up to where a partition is decided, and how; see package consumers/decisions
	KindConsumer   Kind = 7  // how far a named consumer is; see package wal/durable
	KindKV         Kind = 16 // key-value mutations; payload in package kv
	KindCounter    Kind = 17 // counter calls; payload in package counter
	KindTimeSeries Kind = 18 // events of time series; payload in package timeseries
	KindMessage    Kind = 32 // a message of a log namespace; the payload is the caller's
	KindEnvelope   Kind = 33 // the same with more than a payload; see package wal/delivery
	KindDelivery   Kind = 34 // what becomes of messages that wait to be delivered; see package wal/delivery
)

// kindNames are the kinds of the registry, by their names. To readers a message is one, whatever it is written with.
var kindNames = map[Kind]string{
	KindBarrier: "barrier", KindControl: "control", KindNamespace: "namespace", KindDeadLetter: "dead-letter", KindClaim: "claim", KindMark: "mark", KindConsumer: "consumer",
	KindCounter: "counter", KindKV: "kv", KindTimeSeries: "timeseries", KindMessage: "message", KindEnvelope: "message",
	KindDelivery: "delivery",
}

func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind-%d", uint16(k))
}

// KnownKind reports whether a kind has a name, as String gives it.
func KnownKind(name string) bool {
	for _, n := range kindNames {
		if n == name {
			return true
		}
	}
	return false
}

// Record is one entry of the log, decoded. Slices of a decoded record point into
// the bytes that it was decoded from.
type Record struct {
	RoutingKey       []byte
	Kind             Kind
	Token            Token
	RequestHash      Hash
	NamespaceVersion uint64
	AcceptedAt       int64  // microseconds since 1970
	Origin           string // see Source; "": it was written here
	ExpiresAt        int64  // microseconds since 1970; 0 = never
	TraceContext     string
	Payload          []byte
}

// recordVersion is the first byte of every record; see the package comment.
const recordVersion = 1

const (
	fieldRoutingKey = 1 + iota
	fieldKind
	fieldGenerationTime
	fieldNonce
	fieldRequestHash
	fieldNamespaceVersion
	fieldAcceptedAt
	fieldOrigin
	fieldExpiresAt
	fieldTraceContext
	fieldPayload = 15
)

// AppendRecord appends the encoding of r to dst. Equal records have equal bytes.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, recordVersion)
	dst = appendBytes(dst, fieldRoutingKey, r.RoutingKey)
	dst = appendVarint(dst, fieldKind, uint64(r.Kind))
	dst = appendFixed(dst, fieldGenerationTime, r.Token.GenerationTime)
	if !r.Token.IsZero() {
		dst = appendBytes(dst, fieldNonce, r.Token.Nonce[:])
	}
	if r.RequestHash != (Hash{}) {
		dst = appendBytes(dst, fieldRequestHash, r.RequestHash[:])
	}
	dst = appendVarint(dst, fieldNamespaceVersion, r.NamespaceVersion)
	dst = appendFixed(dst, fieldAcceptedAt, r.AcceptedAt)
	dst = appendString(dst, fieldOrigin, r.Origin)
	dst = appendFixed(dst, fieldExpiresAt, r.ExpiresAt)
	dst = appendString(dst, fieldTraceContext, r.TraceContext)
	return appendBytes(dst, fieldPayload, r.Payload)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func appendVarint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendFixed(dst []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), uint64(v))
}

// DecodeRecord reads a record into r, which it overwrites. r's slices point into
// b. Errors: ErrUnknownVersion, ErrMalformed.
func DecodeRecord(b []byte, r *Record) error {
	*r = Record{}
	if len(b) == 0 {
		return fmt.Errorf("%w record: empty", ErrMalformed)
	}
	if b[0] != recordVersion {
		return fmt.Errorf("%w: 0x%02x", ErrUnknownVersion, b[0])
	}
	b = b[1:]
	last := 0
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 > fieldPayload {
			return fmt.Errorf("%w record: bad tag", ErrMalformed)
		}
		field, wire := int(tag>>3), protowire.Type(tag&7)
		if field <= last {
			return fmt.Errorf("%w record: field %d out of order", ErrMalformed, field)
		}
		last = field
		b = b[n:]
		var err error
		switch wire {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("%w record: field %d is cut short", ErrMalformed, field)
			}
			b = b[n:]
			err = r.setBytes(field, v)
		case protowire.Fixed64Type:
			v, n := protowire.ConsumeFixed64(b)
			if n < 0 || int64(v) < 0 {
				return fmt.Errorf("%w record: field %d", ErrMalformed, field)
			}
			b = b[n:]
			err = r.setTime(field, int64(v))
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%w record: field %d is cut short", ErrMalformed, field)
			}
			b = b[n:]
			err = r.setNumber(field, v)
		default:
			err = fmt.Errorf("%w record: field %d has wire type %d", ErrMalformed, field, wire)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) setBytes(field int, v []byte) error {
	switch field {
	case fieldRoutingKey:
		r.RoutingKey = v
	case fieldNonce:
		if len(v) != len(r.Token.Nonce) {
			return fmt.Errorf("%w record: nonce of %d bytes", ErrMalformed, len(v))
		}
		copy(r.Token.Nonce[:], v)
	case fieldRequestHash:
		if len(v) != len(r.RequestHash) {
			return fmt.Errorf("%w record: request hash of %d bytes", ErrMalformed, len(v))
		}
		copy(r.RequestHash[:], v)
	case fieldOrigin:
		r.Origin = string(v)
	case fieldTraceContext:
		r.TraceContext = string(v)
	case fieldPayload:
		r.Payload = v
	default:
		return fmt.Errorf("%w record: unexpected field %d", ErrMalformed, field)
	}
	return nil
}

func (r *Record) setTime(field int, v int64) error {
	switch field {
	case fieldGenerationTime:
		r.Token.GenerationTime = v
	case fieldAcceptedAt:
		r.AcceptedAt = v
	case fieldExpiresAt:
		r.ExpiresAt = v
	default:
		return fmt.Errorf("%w record: unexpected field %d", ErrMalformed, field)
	}
	return nil
}

func (r *Record) setNumber(field int, v uint64) error {
	switch field {
	case fieldKind:
		if v > 1<<16-1 {
			return fmt.Errorf("%w record: kind %d", ErrMalformed, v)
		}
		r.Kind = Kind(v)
	case fieldNamespaceVersion:
		r.NamespaceVersion = v
	default:
		return fmt.Errorf("%w record: unexpected field %d", ErrMalformed, field)
	}
	return nil
}

// RoutingKeyOf reads the routing key and nothing else. It is nil for a record
// without one. Errors: ErrUnknownVersion, ErrMalformed.
func RoutingKeyOf(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w record: empty", ErrMalformed)
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("%w: 0x%02x", ErrUnknownVersion, b[0])
	}
	b = b[1:]
	if len(b) == 0 || b[0] != fieldRoutingKey<<3|byte(protowire.BytesType) {
		return nil, nil
	}
	v, n := protowire.ConsumeBytes(b[1:])
	if n < 0 {
		return nil, fmt.Errorf("%w record: routing key is cut short", ErrMalformed)
	}
	return v, nil
}
