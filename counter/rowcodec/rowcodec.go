package rowcodec

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// reader takes the value of a row apart.
type reader struct{ pebblestore.Reader }

// open starts behind the version byte.
func open(what string, b []byte) (reader, error) {
	r, err := pebblestore.ReadValue(what, b)
	return reader{r}, err
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
		c := r.Byte()
		v := uint64(c & 0x7f)
		switch {
		case shift == 126 && c > 3: // two bits are left of 128
			r.Fail()
		case shift < 64:
			ulo |= v << shift
			if shift > 57 {
				uhi |= v >> (64 - shift)
			}
		default:
			uhi |= v << (shift - 64)
		}
		if r.Bad() || c < 0x80 {
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
	b.Adds = r.Int()
	b.Lo, b.Hi = r.wide()
	return b
}

// AppendWindow appends the row of a window.
func AppendWindow(dst []byte, b *counter.Bucket) []byte {
	return appendBucket(pebblestore.AppendVersion(dst), b)
}

// DecodeWindow reads what AppendWindow wrote. wal.ErrCorrupt.
func DecodeWindow(v []byte) (b counter.Bucket, err error) {
	r, err := open("window", v)
	if err != nil {
		return b, err
	}
	b = r.bucket()
	return b, r.Done("window")
}

const (
	rowFixed  = 1
	rowMicros = 2 // a bucket starts at a fraction of a second; else starts are in seconds
)

const micros = 1_000_000

// AppendRow appends the row of a counter.
func AppendRow(dst []byte, row *counter.Row) []byte {
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
	dst = append(pebblestore.AppendVersion(dst), flags)
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

// DecodeRow reads what AppendRow wrote, and keeps nothing of v. wal.ErrCorrupt.
func DecodeRow(v []byte, row *counter.Row) error {
	r, err := open("counter", v)
	if err != nil {
		return err
	}
	flags := r.Byte()
	if flags > rowFixed|rowMicros {
		r.Fail()
	}
	unit := int64(micros)
	if flags&rowMicros != 0 {
		unit = 1
	}
	*row = counter.Row{
		Fixed: flags&rowFixed != 0, ID: r.Uint(), Value: r.Int(), Held: r.Int(), ExpiresAt: r.Int(),
		LastOffset: wal.Offset(r.Int()), LastEvent: wal.Offset(r.Int()),
	}
	n := r.Uint()
	if n > uint64(len(r.Rest())) { // each is a byte at least
		r.Fail()
		n = 0
	}
	if n > 0 {
		row.Open = make([]counter.OpenBucket, n)
	}
	last := int64(0)
	for i := range row.Open {
		o := &row.Open[i]
		if len(r.Rest()) > 0 && r.Rest()[0] == 0 {
			r.Byte()
			continue
		}
		if o.Bucket = r.bucket(); o.Adds == 0 {
			r.Fail()
		}
		if last += r.Int(); last*unit/unit != last {
			r.Fail()
		}
		o.Start = last * unit
	}
	return r.Done("counter")
}

// AppendReservation appends the row of a reservation; its id is the key.
func AppendReservation(dst []byte, v *counter.Reservation) []byte {
	dst = append(pebblestore.AppendVersion(dst), byte(v.State))
	dst = binary.AppendVarint(dst, v.Amount)
	dst = binary.AppendVarint(dst, v.ExpiresAt)
	dst = binary.AppendVarint(dst, v.EndedAt)
	return append(dst, v.Counter...)
}

// DecodeReservation reads what AppendReservation wrote, and keeps nothing of b. wal.ErrCorrupt.
func DecodeReservation(id wal.TokenID, b []byte) (v counter.Reservation, err error) {
	r, err := open("reservation", b)
	if err != nil {
		return v, err
	}
	v = counter.Reservation{ID: id, State: counter.ReservationState(r.Byte()), Amount: r.Int(), ExpiresAt: r.Int(), EndedAt: r.Int()}
	v.Counter = append(make([]byte, 0, len(r.Rest())), r.Rest()...)
	if r.Bad() || v.State < counter.Held || v.State > counter.Expired {
		return counter.Reservation{}, fmt.Errorf("reservation: %w", pebblestore.ErrBadValue)
	}
	return v, nil
}
