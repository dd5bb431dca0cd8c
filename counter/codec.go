package counter

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// payloadVersion is the first byte of a payload; the second is its Op. What
// follows is written down in the package comment.
const payloadVersion = 1

const (
	addEventTime = 1 << iota
	addTTL
	addToken
)

const (
	boundFloor = 1 << iota
	boundCeiling
	boundSaturate
)

// AppendAdd appends the encoding of an add, as it stands in Call.Adds.
func AppendAdd(dst []byte, a *Add) []byte {
	var flags byte
	if a.EventTime != 0 {
		flags |= addEventTime
	}
	if a.TTL != 0 {
		flags |= addTTL
	}
	if !a.Token.IsZero() {
		flags |= addToken
	}
	head := uint64(len(a.Counter)) << 1
	if flags != 0 {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	dst = append(dst, a.Counter...)
	dst = binary.AppendVarint(dst, a.Delta)
	if flags == 0 {
		return dst
	}
	dst = append(dst, flags)
	if flags&addEventTime != 0 {
		dst = binary.AppendVarint(dst, a.EventTime)
	}
	if flags&addTTL != 0 {
		dst = binary.AppendUvarint(dst, uint64(a.TTL))
	}
	if flags&addToken != 0 {
		dst = append(dst, a.Token.Nonce[:]...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.Token.GenerationTime))
		dst = append(dst, a.Hash[:]...)
	}
	return dst
}

// nameAt is where a name stands in the encoding of its add.
func nameAt(name []byte) int {
	n := 1
	for head := uint64(len(name)) << 1; head >= 0x80; head >>= 7 {
		n++
	}
	return n
}

// AddReader reads the adds of a Call one by one.
type AddReader struct{ rest []byte }

// NewAddReader reads adds that AppendAdd wrote.
func NewAddReader(adds []byte) AddReader { return AddReader{adds} }

// Next reads the next add into a, whose Counter points into the bytes read. ok is
// false at the end. wal.ErrMalformed.
func (r *AddReader) Next(a *Add) (ok bool, err error) {
	if len(r.rest) == 0 {
		return false, nil
	}
	ext, err := r.plain(a)
	if err != nil || !ext {
		return err == nil, err
	}
	return true, r.extra(a)
}

// plain reads what every add has, and tells whether there is more.
func (r *AddReader) plain(a *Add) (ext bool, err error) {
	b := r.rest
	head, n := binary.Uvarint(b)
	if n <= 0 || head>>1 > uint64(len(b)-n) {
		return false, fmt.Errorf("%w counter payload: a name is cut short", wal.ErrMalformed)
	}
	name := b[n : n+int(head>>1)]
	b = b[n+len(name):]
	delta, n := binary.Varint(b)
	if n <= 0 {
		return false, fmt.Errorf("%w counter payload: a delta is cut short", wal.ErrMalformed)
	}
	*a = Add{Counter: name, Delta: delta}
	r.rest = b[n:]
	return head&1 != 0, nil
}

func (r *AddReader) extra(a *Add) error {
	cut := fmt.Errorf("%w counter payload: an add is cut short", wal.ErrMalformed)
	b := r.rest
	if len(b) == 0 {
		return cut
	}
	flags := b[0]
	if b = b[1:]; flags == 0 || flags >= addToken<<1 {
		return fmt.Errorf("%w counter payload: add flags 0x%02x", wal.ErrMalformed, flags)
	}
	if flags&addEventTime != 0 {
		v, n := binary.Varint(b)
		if n <= 0 {
			return cut
		}
		a.EventTime, b = v, b[n:]
	}
	if flags&addTTL != 0 {
		v, n := binary.Uvarint(b)
		if n <= 0 || int64(v) <= 0 {
			return cut
		}
		a.TTL, b = int64(v), b[n:]
	}
	if flags&addToken != 0 {
		if len(b) < 16+8+16 {
			return cut
		}
		copy(a.Token.Nonce[:], b)
		a.Token.GenerationTime = int64(binary.BigEndian.Uint64(b[16:]))
		copy(a.Hash[:], b[24:])
		b = b[40:]
	}
	r.rest = b
	return nil
}

// AppendPayload appends the encoding of a call. Equal calls have equal bytes.
func AppendPayload(dst []byte, c *Call) []byte {
	dst = append(dst, payloadVersion, byte(c.Op))
	switch c.Op {
	case OpAdd:
		return append(dst, c.Adds...)
	case OpAddAndGet:
		dst = AppendAdd(dst, &c.Add)
		var flags byte
		if c.Bounds.HasFloor {
			flags |= boundFloor
		}
		if c.Bounds.HasCeiling {
			flags |= boundCeiling
		}
		if c.Bounds.Saturate {
			flags |= boundSaturate
		}
		dst = append(dst, flags)
		if c.Bounds.HasFloor {
			dst = binary.AppendVarint(dst, c.Bounds.Floor)
		}
		if c.Bounds.HasCeiling {
			dst = binary.AppendVarint(dst, c.Bounds.Ceiling)
		}
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Add.Counter)))
	dst = append(dst, c.Add.Counter...)
	switch c.Op {
	case OpReserve:
		dst = binary.AppendVarint(dst, c.Amount)
		dst = binary.AppendVarint(dst, c.Lease.Microseconds())
	case OpSettle:
		dst = append(dst, c.Reservation[:]...)
		if c.All {
			return append(dst, 1)
		}
		dst = append(dst, 0)
		dst = binary.AppendVarint(dst, c.Amount)
	case OpCancel:
		dst = append(dst, c.Reservation[:]...)
	}
	return dst
}

// DecodePayload reads a payload into c, whose slices point into b. The adds of
// OpAdd are not looked at; see AddReader. Errors: wal.ErrUnknownVersion,
// wal.ErrMalformed.
func DecodePayload(b []byte, c *Call) error {
	*c = Call{}
	if len(b) < 2 {
		return fmt.Errorf("%w counter payload: cut short", wal.ErrMalformed)
	}
	if b[0] != payloadVersion {
		return fmt.Errorf("%w: counter payload 0x%02x", wal.ErrUnknownVersion, b[0])
	}
	d := decoder{b: b[2:]}
	switch c.Op = Op(b[1]); c.Op {
	case OpAdd:
		c.Adds, d.b = d.b, nil
	case OpAddAndGet:
		r := NewAddReader(d.b)
		if ok, err := r.Next(&c.Add); err != nil || !ok {
			return fmt.Errorf("%w counter payload: no add", wal.ErrMalformed)
		}
		d.b = r.rest
		flags := d.byte()
		d.bad = d.bad || flags >= boundSaturate<<1
		c.Bounds = Bounds{HasFloor: flags&boundFloor != 0, HasCeiling: flags&boundCeiling != 0, Saturate: flags&boundSaturate != 0}
		if c.Bounds.HasFloor {
			c.Bounds.Floor = d.varint()
		}
		if c.Bounds.HasCeiling {
			c.Bounds.Ceiling = d.varint()
		}
	case OpClear:
		c.Add.Counter = d.name()
	case OpReserve:
		c.Add.Counter = d.name()
		c.Amount = d.varint()
		lease := d.varint()
		d.bad = d.bad || c.Amount <= 0 || lease < 0 || lease > MaxLease.Microseconds()
		c.Lease = time.Duration(lease) * time.Microsecond
	case OpSettle:
		c.Add.Counter = d.name()
		c.Reservation = d.id()
		switch d.byte() {
		case 1:
			c.All = true
		case 0:
			c.Amount = d.varint()
		default:
			d.bad = true
		}
	case OpCancel:
		c.Add.Counter = d.name()
		c.Reservation = d.id()
	default:
		return fmt.Errorf("%w counter payload: operation %d", wal.ErrMalformed, b[1])
	}
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w counter payload of operation %d", wal.ErrMalformed, c.Op)
	}
	return nil
}

// decoder reads fields until one is bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) name() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) id() (id wal.TokenID) {
	copy(id[:], d.take(len(id)))
	return id
}
