package consumers

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// The payload of a KindDeadLetter record is a protobuf message: letters, or a tally
// of what came before it. Fields that are zero are left out.
const (
	fieldLetter = 1 // message, repeated
	fieldTally  = 2 // message
	// fieldBehind is how many entries back the last tally is, as far as the writer
	// knew: varint, behind the letters.
	fieldBehind = 3
)

// The fields of a letter.
const (
	letterPartition   = 1  // varint
	letterOffset      = 2  // varint
	letterIndex       = 3  // varint, of the index + 1
	letterKey         = 4  // bytes
	letterReason      = 5  // bytes
	letterDisposition = 6  // varint, of dispositions
	letterDetail      = 7  // bytes
	letterAttempts    = 8  // varint
	letterLogTime     = 9  // fixed64
	letterAt          = 10 // varint, of the offsets behind letterOffset
	letterTarget      = 11 // bytes
	letterRecord      = 12 // bytes
	letterBy          = 13 // bytes
)

// dispositions is how they are numbered in letters.
var dispositions = [...]Disposition{1: Refused, 2: Parked, 3: Redriven, 4: Dropped}

// appendLetter appends the field of a letter to a payload.
func appendLetter(dst []byte, l *DeadLetter) []byte {
	dst = protowire.AppendTag(dst, fieldLetter, protowire.BytesType)
	// The length comes first and takes up to four bytes, which a record's size
	// bounds; it is written as four always.
	start := len(dst)
	dst = append(dst, 0x80, 0x80, 0x80, 0)
	dst = appendNumber(dst, letterPartition, uint64(l.Ref.Partition))
	dst = appendNumber(dst, letterOffset, uint64(l.Ref.Offset))
	dst = appendNumber(dst, letterIndex, uint64(l.Ref.Index+1))
	dst = appendField(dst, letterKey, l.Key)
	dst = appendField(dst, letterReason, l.Reason)
	for i, d := range dispositions {
		if d == l.Disposition {
			dst = appendNumber(dst, letterDisposition, uint64(i))
		}
	}
	dst = appendField(dst, letterDetail, l.Detail)
	dst = appendNumber(dst, letterAttempts, uint64(l.Attempts))
	dst = protowire.AppendFixed64(protowire.AppendTag(dst, letterLogTime, protowire.Fixed64Type), uint64(l.LogTime))
	dst = appendNumber(dst, letterAt, uint64(l.At-l.Ref.Offset))
	dst = appendField(dst, letterTarget, l.Target)
	dst = appendField(dst, letterRecord, l.Record)
	dst = appendField(dst, letterBy, l.By)
	for i, n := start, len(dst)-start-4; i < start+4; i, n = i+1, n>>7 {
		dst[i] |= byte(n & 0x7f)
	}
	return dst
}

func appendNumber(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendField[T string | []byte](dst []byte, field protowire.Number, v T) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(len(v)))
	return append(dst, v...)
}

// decodeFields calls f with each field of a message: number is its value, or
// bytes are.
func decodeFields(b []byte, f func(field protowire.Number, number uint64, bytes []byte) error) error {
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w dead letter: bad tag", wal.ErrMalformed)
		}
		b = b[n:]
		var number uint64
		var bytes []byte
		switch wire {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("%w dead letter: field %d has wire type %d", wal.ErrMalformed, field, wire)
		}
		if n < 0 {
			return fmt.Errorf("%w dead letter: field %d is cut short", wal.ErrMalformed, field)
		}
		b = b[n:]
		if err := f(field, number, bytes); err != nil {
			return err
		}
	}
	return nil
}

// decodeLetter reads a letter into l, which it overwrites. Key and Record point
// into b.
func decodeLetter(b []byte, l *DeadLetter) error {
	*l = DeadLetter{Ref: wal.Ref{Index: wal.WholeRecord}}
	err := decodeFields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case letterPartition:
			l.Ref.Partition = wal.Partition(number)
		case letterOffset:
			l.Ref.Offset = wal.Offset(number)
		case letterIndex:
			l.Ref.Index = int(int32(number)) - 1
		case letterKey:
			l.Key = bytes
		case letterReason:
			l.Reason = string(bytes)
		case letterDisposition:
			if number < uint64(len(dispositions)) {
				l.Disposition = dispositions[number]
			}
		case letterDetail:
			l.Detail = string(bytes)
		case letterAttempts:
			l.Attempts = int(int32(number))
		case letterLogTime:
			l.LogTime = int64(number)
		case letterAt:
			l.At = wal.Offset(number)
		case letterTarget:
			l.Target = string(bytes)
		case letterRecord:
			l.Record = bytes
		case letterBy:
			l.By = string(bytes)
		default:
			return fmt.Errorf("%w dead letter: unexpected field %d", wal.ErrMalformed, field)
		}
		return nil
	})
	l.At += l.Ref.Offset
	if err == nil && (l.Disposition == "" || l.Ref.Offset < 0 || l.At < l.Ref.Offset || l.Ref.Index < wal.WholeRecord) {
		err = fmt.Errorf("%w dead letter %s: disposition %q, decided at %d", wal.ErrMalformed, l.Ref, l.Disposition, l.At)
	}
	return err
}
