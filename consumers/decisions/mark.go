package decisions

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Mark says what was decided of the records From to To of a partition: those without a row did what they
// say. Example: {From: 10, To: 19, Rows: {12: its condition failed}}.
type Mark struct {
	// Epoch is that of the claim by which its owner decided.
	Epoch wal.Offset
	// From and To are the first and the last record; a mark of nothing has a To below From.
	From, To wal.Offset
	// LogTime and MaxTime are as in consumers.State at To; Gone is the largest time of a delete, or of a
	// write that ends, of the records before From. All in microseconds since 1970.
	LogTime, MaxTime, Gone int64
	// Step is that of the last promotion up to To.
	Step uint64
	// Applied is up to where the store of a life (see clusterstore.Place) had everything when the mark was made.
	Applied wal.Offset
	Life    string
	// Letters is from where on the letters of what was decided may be needed still.
	Letters wal.Offset
	// Parked is as in consumers.Decisions.
	Parked  wal.Offset
	Sources consumers.Sources // as in consumers.State at To
	Rows    []consumers.ExceptionRow
}

// markVersion is the first byte of a payload.
const markVersion = 1

// The fields of a mark. Offsets are written one higher, so that NoOffset is 0.
const (
	markEpoch   = 1
	markFrom    = 2
	markTo      = 3
	markLogTime = 4
	markMaxTime = 5
	markGone    = 6
	markStep    = 7
	markApplied = 8
	markLetters = 9
	markRow     = 10 // message, repeated: offsets behind From (varint), the row
	markLife    = 11 // bytes
	markParked  = 12 // offset
	markSources = 13 // bytes
)

const (
	rowBehind = 1
	rowBytes  = 2
)

// numbers are the fields that are one number each.
func (m *Mark) numbers() [9]int64 {
	return [9]int64{
		int64(m.Epoch) + 1, int64(m.From) + 1, int64(m.To) + 1, m.LogTime, m.MaxTime, m.Gone, int64(m.Step), int64(m.Applied) + 1, int64(m.Letters) + 1,
	}
}

func (m *Mark) setNumbers(n *[9]int64) {
	m.Epoch, m.From, m.To = wal.Offset(n[0]-1), wal.Offset(n[1]-1), wal.Offset(n[2]-1)
	m.LogTime, m.MaxTime, m.Gone, m.Step = n[3], n[4], n[5], uint64(n[6])
	m.Applied, m.Letters = wal.Offset(n[7]-1), wal.Offset(n[8]-1)
}

// encode returns the payload of m.
func (m *Mark) encode() []byte {
	b := []byte{markVersion}
	for i, v := range m.numbers() {
		if v != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(markEpoch+i), protowire.VarintType), uint64(v))
		}
	}
	if m.Life != "" {
		b = protowire.AppendString(protowire.AppendTag(b, markLife, protowire.BytesType), m.Life)
	}
	if m.Parked != wal.NoOffset {
		b = protowire.AppendVarint(protowire.AppendTag(b, markParked, protowire.VarintType), uint64(m.Parked)+1)
	}
	if m.Sources != "" {
		b = protowire.AppendString(protowire.AppendTag(b, markSources, protowire.BytesType), string(m.Sources))
	}
	var row []byte
	for i := range m.Rows {
		row = protowire.AppendVarint(protowire.AppendTag(row[:0], rowBehind, protowire.VarintType), uint64(m.Rows[i].Offset-m.From))
		row = protowire.AppendBytes(protowire.AppendTag(row, rowBytes, protowire.BytesType), m.Rows[i].Row)
		b = protowire.AppendBytes(protowire.AppendTag(b, markRow, protowire.BytesType), row)
	}
	return b
}

// decodeMark reads what encode wrote; its rows point into b. It passes over fields of newer builds.
// wal.ErrMalformed, wal.ErrUnknownVersion.
func decodeMark(b []byte) (m Mark, err error) {
	if len(b) == 0 {
		return m, fmt.Errorf("%w mark: empty", wal.ErrMalformed)
	}
	if b[0] != markVersion {
		return m, fmt.Errorf("%w: mark of version %d", wal.ErrUnknownVersion, b[0])
	}
	m.Parked = wal.NoOffset
	var numbers [9]int64
	var rows [][]byte
	err = fields(b[1:], func(num protowire.Number, number uint64, bytes []byte) {
		switch {
		case num >= markEpoch && num <= markLetters && bytes == nil:
			numbers[num-markEpoch] = int64(number)
		case num == markParked && bytes == nil:
			m.Parked = wal.Offset(number) - 1
		case num == markRow && bytes != nil:
			rows = append(rows, bytes)
		case num == markLife && bytes != nil:
			m.Life = string(bytes)
		case num == markSources && bytes != nil:
			m.Sources = consumers.Sources(bytes)
		}
	})
	if err != nil {
		return m, fmt.Errorf("%w mark: %w", wal.ErrMalformed, err)
	}
	m.setNumbers(&numbers)
	if !m.Sources.Valid() {
		return m, fmt.Errorf("%w mark: sources of %d bytes", wal.ErrMalformed, len(m.Sources))
	}
	if m.Epoch < 0 || m.From < 0 || m.To < m.From-1 {
		return m, fmt.Errorf("%w mark: epoch %d, records %d to %d", wal.ErrMalformed, m.Epoch, m.From, m.To)
	}
	for _, raw := range rows {
		row := consumers.ExceptionRow{Offset: m.From}
		err := fields(raw, func(num protowire.Number, number uint64, bytes []byte) {
			switch {
			case num == rowBehind && bytes == nil:
				row.Offset = m.From + wal.Offset(number)
			case num == rowBytes && bytes != nil:
				row.Row = bytes
			}
		})
		// One above To is of a record that is being redriven; see consumers.Ahead.
		if err != nil || row.Offset < m.From || row.Offset > m.To+1 {
			return m, fmt.Errorf("%w mark: row of record %d in %d to %d", wal.ErrMalformed, row.Offset, m.From, m.To)
		}
		m.Rows = append(m.Rows, row)
	}
	return m, nil
}

// fields calls f with each field of a message: bytes is nil of a number. It passes over other kinds.
func fields(b []byte, f func(num protowire.Number, number uint64, bytes []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, k := protowire.ConsumeVarint(b)
			if n = k; n >= 0 {
				f(num, v, nil)
			}
		case protowire.BytesType:
			v, k := protowire.ConsumeBytes(b)
			if n = k; n >= 0 {
				f(num, 0, v)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}
