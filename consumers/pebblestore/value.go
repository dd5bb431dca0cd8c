package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// valueVersion is the first byte of a value that begins with its version.
const valueVersion = 1

// ErrBadValue says that a value is of no known form.
var ErrBadValue = fmt.Errorf("%w: value of no known form", wal.ErrCorrupt)

// AppendVersion begins a value that ReadValue reads.
func AppendVersion(dst []byte) []byte { return append(dst, valueVersion) }

// Reader takes a row's value apart. After the first thing that does not fit, it
// returns zeros, and Bad is true.
type Reader struct {
	b   []byte
	bad bool
}

// ReadValue returns what takes a value apart, from behind the version byte on. Errors wrap wal.ErrCorrupt.
func ReadValue(what string, b []byte) (Reader, error) {
	if len(b) == 0 {
		return Reader{}, fmt.Errorf("%s: %w", what, ErrBadValue)
	}
	if b[0] != valueVersion {
		return Reader{}, fmt.Errorf("%w: %s of version %d: %w", wal.ErrCorrupt, what, b[0], wal.ErrUnknownVersion)
	}
	return Reader{b: b[1:]}, nil
}

// Fail makes the value bad.
func (r *Reader) Fail() { r.b, r.bad = nil, true }

// Bad reports whether something did not fit.
func (r *Reader) Bad() bool { return r.bad }

// Rest is what was not read yet.
func (r *Reader) Rest() []byte { return r.b }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.Fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Bytes reads n bytes, which are the value's own.
func (r *Reader) Bytes(n int) []byte {
	if len(r.b) < n {
		r.Fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// Uint reads a varint.
func (r *Reader) Uint() uint64 {
	// Most are small.
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Int reads a zigzag varint.
func (r *Reader) Int() int64 {
	u := r.Uint()
	return int64(u>>1) ^ -int64(u&1)
}

// Done says whether the value was read to its end and no further.
func (r *Reader) Done(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%s: %w", what, ErrBadValue)
	}
	return nil
}
