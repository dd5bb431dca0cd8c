package gateway

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// The scanners read an AddCountsRequest without building it. They take what the
// generated code takes, in the same way: fields in any order, the last of several
// scalars, messages that stand twice merged, fields that are unknown or of
// another wire type passed over, text that is not UTF-8 refused. FuzzAddsScanner
// compares the two.

// The numbers of the fields.
const (
	requestNamespace = 1
	requestAdds      = 2
	requestToken     = 3

	addCounter   = 1
	addDelta     = 2
	addEventTime = 3
	addTTL       = 4
	addToken     = 5

	timeSeconds = 1
	timeNanos   = 2
)

var (
	errWire     = errors.New("broken protobuf")
	errWireUTF8 = errors.New("text that is not UTF-8")
)

// wireField is one field of a message: bytes when typ is BytesType, else value
// when it is VarintType; of others only the length matters.
type wireField struct {
	num   protowire.Number
	typ   protowire.Type
	bytes []byte
	value uint64
}

// take reads the field that b begins with and returns what follows it.
func (f *wireField) take(b []byte) (rest []byte, err error) {
	tag, n := uvarint(b)
	if n <= 0 {
		return nil, errWire
	}
	b = b[n:]
	if num := tag >> 3; num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return nil, errWire
	}
	f.num, f.typ = protowire.Number(tag>>3), protowire.Type(tag&7)
	switch f.typ {
	case protowire.VarintType:
		if f.value, n = uvarint(b); n <= 0 {
			return nil, errWire
		}
	case protowire.BytesType:
		size, m := uvarint(b)
		if m <= 0 || size > uint64(len(b)-m) {
			return nil, errWire
		}
		n = m + int(size)
		f.bytes = b[m:n]
	case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
		if n = protowire.ConsumeFieldValue(f.num, f.typ, b); n < 0 {
			return nil, errWire
		}
	default:
		return nil, errWire
	}
	return b[n:], nil
}

func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// is reports whether a field is number num of type typ.
func (f *wireField) is(num protowire.Number, typ protowire.Type) bool {
	return f.num == num && f.typ == typ
}

// addsHead is a request without its adds.
type addsHead struct {
	namespace []byte // of the request's bytes
	token     *headwaterv1.IdempotencyToken
	adds      int
}

func (h *addsHead) scan(b []byte) (err error) {
	var f wireField
	for len(b) > 0 {
		if b, err = f.take(b); err != nil {
			return err
		}
		switch {
		case f.is(requestNamespace, protowire.BytesType):
			if !utf8.Valid(f.bytes) {
				return errWireUTF8
			}
			h.namespace = f.bytes
		case f.is(requestAdds, protowire.BytesType):
			h.adds++
		case f.is(requestToken, protowire.BytesType):
			if err := mergeToken(&h.token, f.bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

func mergeToken(t **headwaterv1.IdempotencyToken, b []byte) error {
	if *t == nil {
		*t = &headwaterv1.IdempotencyToken{}
	}
	return proto.UnmarshalOptions{Merge: true, DiscardUnknown: true}.Unmarshal(b, *t)
}

// addsScanner reads one add after the other. What next has read is valid until it
// is called again.
type addsScanner struct {
	rest []byte

	counter []byte // of the request's bytes, UTF-8
	delta   int64
	token   *headwaterv1.IdempotencyToken

	hasTime, hasTTL bool
	seconds         [2]int64 // of event time and of ttl
	nanos           [2]int32
	at              timestamppb.Timestamp
	ttl             durationpb.Duration
}

// next reads the next add; false after the last.
func (s *addsScanner) next() (bool, error) {
	var f wireField
	for len(s.rest) > 0 {
		var err error
		if s.rest, err = f.take(s.rest); err != nil {
			return false, err
		}
		if f.is(requestAdds, protowire.BytesType) {
			return true, s.add(f.bytes)
		}
	}
	return false, nil
}

func (s *addsScanner) add(b []byte) (err error) {
	s.counter, s.delta, s.token, s.hasTime, s.hasTTL = nil, 0, nil, false, false
	var f wireField
	for len(b) > 0 {
		if b, err = f.take(b); err != nil {
			return err
		}
		switch {
		case f.is(addCounter, protowire.BytesType):
			if !utf8.Valid(f.bytes) {
				return errWireUTF8
			}
			s.counter = f.bytes
		case f.is(addDelta, protowire.VarintType):
			s.delta = protowire.DecodeZigZag(f.value)
		case f.is(addEventTime, protowire.BytesType):
			err = s.time(0, &s.hasTime, f.bytes)
		case f.is(addTTL, protowire.BytesType):
			err = s.time(1, &s.hasTTL, f.bytes)
		case f.is(addToken, protowire.BytesType):
			err = mergeToken(&s.token, f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// time merges a Timestamp or Duration, which look alike, into slot i.
func (s *addsScanner) time(i int, has *bool, b []byte) (err error) {
	if !*has {
		*has, s.seconds[i], s.nanos[i] = true, 0, 0
	}
	var f wireField
	for len(b) > 0 {
		if b, err = f.take(b); err != nil {
			return err
		}
		switch {
		case f.is(timeSeconds, protowire.VarintType):
			s.seconds[i] = int64(f.value)
		case f.is(timeNanos, protowire.VarintType):
			s.nanos[i] = int32(f.value)
		}
	}
	return nil
}

// event is the add's event time, nil for none.
func (s *addsScanner) event() *timestamppb.Timestamp {
	if !s.hasTime {
		return nil
	}
	s.at.Seconds, s.at.Nanos = s.seconds[0], s.nanos[0]
	return &s.at
}

// lifetime is the add's time to live, nil for none.
func (s *addsScanner) lifetime() *durationpb.Duration {
	if !s.hasTTL {
		return nil
	}
	s.ttl.Seconds, s.ttl.Nanos = s.seconds[1], s.nanos[1]
	return &s.ttl
}
