package pebblecounter

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// valueVersion is the first byte of every value but an event row, whose form is
// its writer's.
const valueVersion = 1

var (
	errBadKey   = fmt.Errorf("%w: key of no known form", wal.ErrCorrupt)
	errBadValue = fmt.Errorf("%w: value of no known form", wal.ErrCorrupt)
)

func badVersion(what string, v byte) error {
	return fmt.Errorf("%w: %s of version %d: %w", wal.ErrCorrupt, what, v, wal.ErrUnknownVersion)
}

// reader takes a value apart. After the first thing that does not fit, it
// returns zeros, and bad is true.
type reader struct {
	b   []byte
	bad bool
}

// open starts with the version byte.
func open(what string, b []byte) (reader, error) {
	if len(b) == 0 {
		return reader{}, errBadValue
	}
	if b[0] != valueVersion {
		return reader{}, badVersion(what, b[0])
	}
	return reader{b: b[1:]}, nil
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) bytes(n int) []byte {
	if len(r.b) < n {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uint() uint64 {
	// Most are small.
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	u := r.uint()
	return int64(u>>1) ^ -int64(u&1)
}

// done says whether the value was read to its end and no further.
func (r *reader) done(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%s: %w", what, errBadValue)
	}
	return nil
}

// appendWide writes a number of 128 bits: zigzag, then seven bits to a byte.
func appendWide(dst []byte, lo uint64, hi int64) []byte {
	sign := uint64(hi >> 63)
	uhi, ulo := uint64(hi)<<1|lo>>63, lo<<1
	uhi, ulo = uhi^sign, ulo^sign
	for uhi != 0 || ulo >= 0x80 {
		dst = append(dst, byte(ulo)|0x80)
		ulo = ulo>>7 | uhi<<57
		uhi >>= 7
	}
	return append(dst, byte(ulo))
}

func (r *reader) wide() (lo uint64, hi int64) {
	var ulo, uhi uint64
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		v := uint64(c & 0x7f)
		switch {
		case shift == 126 && c > 3: // two bits are left of 128
			r.fail()
		case shift < 64:
			ulo |= v << shift
			if shift > 57 {
				uhi |= v >> (64 - shift)
			}
		default:
			uhi |= v << (shift - 64)
		}
		if r.bad || c < 0x80 {
			break
		}
	}
	sign := -(ulo & 1)
	lo = (ulo>>1 | uhi<<63) ^ sign
	return lo, int64(uhi>>1 ^ sign)
}

// A bucket is: adds, sum.

func appendBucket(dst []byte, b *counter.Bucket) []byte {
	dst = binary.AppendVarint(dst, b.Adds)
	return appendWide(dst, b.Lo, b.Hi)
}

func (r *reader) bucket() (b counter.Bucket) {
	b.Adds = r.int()
	b.Lo, b.Hi = r.wide()
	return b
}

func appendWindow(dst []byte, b *counter.Bucket) []byte {
	return appendBucket(append(dst, valueVersion), b)
}

func decodeWindow(v []byte) (b counter.Bucket, err error) {
	r, err := open("window", v)
	if err != nil {
		return b, err
	}
	b = r.bucket()
	return b, r.done("window")
}

const baseCleared = 1

func appendBase(dst []byte, b *counter.Base) []byte {
	flags := byte(0)
	if b.Cleared {
		flags = baseCleared
	}
	dst = append(dst, valueVersion, flags)
	dst = binary.AppendVarint(dst, b.Sum)
	return binary.AppendVarint(dst, b.Events)
}

func decodeBase(v []byte) (b counter.Base, err error) {
	r, err := open("base", v)
	if err != nil {
		return b, err
	}
	flags := r.byte()
	if flags > baseCleared {
		r.fail()
	}
	b.Cleared = flags == baseCleared
	b.Sum, b.Events = r.int(), r.int()
	return b, r.done("base")
}

// decodeRetired returns the offset of the record that an id was retired by.
func decodeRetired(v []byte) (wal.Offset, error) {
	r, err := open("retired id", v)
	if err != nil {
		return 0, err
	}
	o := wal.Offset(r.int())
	return o, r.done("retired id")
}

const (
	rowFixed  = 1
	rowMicros = 2 // a bucket starts at a fraction of a second; else starts are in seconds
)

const micros = 1_000_000

func appendRow(dst []byte, row *counter.Row) []byte {
	flags, unit := byte(0), int64(micros)
	if row.Fixed {
		flags = rowFixed
	}
	for i := range row.Open {
		if o := &row.Open[i]; o.Adds != 0 && o.Start%micros != 0 {
			flags, unit = flags|rowMicros, 1
			break
		}
	}
	dst = append(dst, valueVersion, flags)
	dst = binary.AppendUvarint(dst, row.ID)
	dst = binary.AppendVarint(dst, row.Value)
	dst = binary.AppendVarint(dst, row.Held)
	dst = binary.AppendVarint(dst, row.ExpiresAt)
	dst = binary.AppendVarint(dst, int64(row.LastOffset))
	dst = binary.AppendVarint(dst, int64(row.LastEvent))
	dst = binary.AppendUvarint(dst, uint64(len(row.Open)))
	last := int64(0)
	for i := range row.Open {
		o := &row.Open[i]
		if o.Adds == 0 {
			dst = append(dst, 0)
			continue
		}
		dst = appendBucket(dst, &o.Bucket)
		start := o.Start / unit
		dst = binary.AppendVarint(dst, start-last)
		last = start
	}
	return dst
}

// decodeRow keeps nothing of v.
func decodeRow(v []byte, row *counter.Row) error {
	r, err := open("counter", v)
	if err != nil {
		return err
	}
	flags := r.byte()
	if flags > rowFixed|rowMicros {
		r.fail()
	}
	unit := int64(micros)
	if flags&rowMicros != 0 {
		unit = 1
	}
	*row = counter.Row{
		Fixed: flags&rowFixed != 0, ID: r.uint(), Value: r.int(), Held: r.int(), ExpiresAt: r.int(),
		LastOffset: wal.Offset(r.int()), LastEvent: wal.Offset(r.int()),
	}
	n := r.uint()
	if n > uint64(len(r.b)) { // each is a byte at least
		r.fail()
		n = 0
	}
	if n > 0 {
		row.Open = make([]counter.OpenBucket, n)
	}
	last := int64(0)
	for i := range row.Open {
		o := &row.Open[i]
		if len(r.b) > 0 && r.b[0] == 0 {
			r.b = r.b[1:]
			continue
		}
		if o.Bucket = r.bucket(); o.Adds == 0 {
			r.fail()
		}
		if last += r.int(); last*unit/unit != last {
			r.fail()
		}
		o.Start = last * unit
	}
	return r.done("counter")
}

func appendReservation(dst []byte, v *counter.Reservation) []byte {
	dst = append(dst, valueVersion, byte(v.State))
	dst = binary.AppendVarint(dst, v.Amount)
	dst = binary.AppendVarint(dst, v.ExpiresAt)
	dst = binary.AppendVarint(dst, v.EndedAt)
	return append(dst, v.Counter...)
}

// decodeReservation keeps nothing of b.
func decodeReservation(id wal.Nonce, b []byte) (v counter.Reservation, err error) {
	r, err := open("reservation", b)
	if err != nil {
		return v, err
	}
	v = counter.Reservation{ID: id, State: counter.ReservationState(r.byte()), Amount: r.int(), ExpiresAt: r.int(), EndedAt: r.int()}
	v.Counter = append(make([]byte, 0, len(r.b)), r.b...)
	if r.bad || v.State < counter.Held || v.State > counter.Expired {
		return counter.Reservation{}, fmt.Errorf("reservation: %w", errBadValue)
	}
	return v, nil
}
