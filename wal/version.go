package wal

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Class orders writes of equal time: a delete wins over an expiring item, which
// wins over a live one. It is Cassandra's own rule for equal timestamps, so
// every store picks the same winner.
type Class uint8

// The classes of a write.
const (
	Live Class = iota
	Expiring
	Deleted
)

// VersionSize is the length of an encoded Version in bytes.
const VersionSize = 8 + 1 + 8 + NonceSize

// Version decides which write of an item is newer: Time, then Class, then
// Expiry, then Nonce; larger wins. It is known before the write is in the log, and
// is the same for every copy of it. Two versions of one item are never equal
// unless they are the same write.
type Version struct {
	Time   int64 // the token's generation time, microseconds since 1970
	Class  Class
	Expiry int64 // microseconds since 1970; 0 unless Class is Expiring
	Nonce  Nonce // of the token
}

// Compare returns -1, 0 or +1 as v is older than, the same as, or newer than w.
func (v Version) Compare(w Version) int {
	a, b := v.Bytes(), w.Bytes()
	return bytes.Compare(a[:], b[:])
}

// Bytes encodes v so that bytes.Compare orders versions: time, class, expiry,
// nonce, the numbers big-endian.
func (v Version) Bytes() (b [VersionSize]byte) {
	binary.BigEndian.PutUint64(b[0:], uint64(v.Time))
	b[8] = byte(v.Class)
	binary.BigEndian.PutUint64(b[9:], uint64(v.Expiry))
	copy(b[17:], v.Nonce[:])
	return b
}

// AppendVersion appends the VersionSize bytes of v to dst.
func AppendVersion(dst []byte, v Version) []byte {
	b := v.Bytes()
	return append(dst, b[:]...)
}

// DecodeVersion reads a Version from the first VersionSize bytes of b.
func DecodeVersion(b []byte) (Version, error) {
	if len(b) < VersionSize {
		return Version{}, fmt.Errorf("%w version: %d bytes", ErrMalformed, len(b))
	}
	v := Version{
		Time:   int64(binary.BigEndian.Uint64(b[0:])),
		Class:  Class(b[8]),
		Expiry: int64(binary.BigEndian.Uint64(b[9:])),
	}
	copy(v.Nonce[:], b[17:])
	if v.Class > Deleted || v.Time < 0 || v.Expiry < 0 {
		return Version{}, fmt.Errorf("%w version", ErrMalformed)
	}
	return v, nil
}

// String is the version as callers see it: opaque, URL-safe base64.
func (v Version) String() string {
	b := v.Bytes()
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ParseVersion reads what String wrote.
func ParseVersion(s string) (Version, error) {
	b, err := decodeText(s)
	if err != nil || len(b) != VersionSize {
		return Version{}, fmt.Errorf("%w version", ErrMalformed)
	}
	return DecodeVersion(b)
}
