package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"sync"
)

// Hash is what a token was first used for: a byte that is the version of the
// canonical form of the request, then the first 15 bytes of the SHA-256 of that
// form. Each abstraction writes the canonical form of its requests down and gives
// it a version. All zeros is no hash.
//
// 120 bits are enough, since a hash is only compared with that of another request
// under the same identity: who could bring about a collision is the caller who
// chose both requests, and gets the answer to the first for the second.
type Hash [16]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Same reports whether h and other are of the same request. Hashes of two versions
// of the form do not compare, and count as the same: a build that has changed the
// form must not refuse a copy of what an earlier one has taken.
func (h Hash) Same(other Hash) bool { return h[0] != other[0] || h == other }

// Hasher takes the canonical form of a request and makes its Hash. After Reset it
// is used by one goroutine; it keeps its memory. The zero value needs a Reset.
type Hasher struct {
	version byte
	sum     hash.Hash
	buf     []byte // of the form, not in sum yet
}

// hasherBytes is how much of a form is collected before it is hashed. What is
// larger is not copied.
const hasherBytes = 1024

// Reset begins a form of the given version, which is above 0.
func (x *Hasher) Reset(version byte) {
	if x.sum == nil {
		x.sum, x.buf = sha256.New(), make([]byte, 0, hasherBytes)
	}
	x.sum.Reset()
	x.version, x.buf = version, x.buf[:0]
}

// room makes sure that n more bytes, at most hasherBytes, fit buf.
func (x *Hasher) room(n int) {
	if len(x.buf)+n > hasherBytes {
		x.flush()
	}
}

func (x *Hasher) flush() {
	x.sum.Write(x.buf)
	x.buf = x.buf[:0]
}

// Byte appends one byte to the form.
func (x *Hasher) Byte(b byte) {
	x.room(1)
	x.buf = append(x.buf, b)
}

// Uint appends a number as protobuf's varint.
func (x *Hasher) Uint(v uint64) {
	x.room(binary.MaxVarintLen64)
	x.buf = binary.AppendUvarint(x.buf, v)
}

// Int appends a number as protobuf's sint64.
func (x *Hasher) Int(v int64) {
	x.room(binary.MaxVarintLen64)
	x.buf = binary.AppendVarint(x.buf, v)
}

// Ints appends three numbers, each as Int does: a call of adds has 10,000 of them.
func (x *Hasher) Ints(a, b, c int64) {
	x.room(3 * binary.MaxVarintLen64)
	x.buf = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(x.buf, a), b), c)
}

// Bytes appends bytes whose number the form says by itself.
func (x *Hasher) Bytes(b []byte) {
	if len(x.buf)+len(b) > hasherBytes {
		x.flush()
		if len(b) > hasherBytes {
			x.sum.Write(b)
			return
		}
	}
	x.buf = append(x.buf, b...)
}

// Blob appends the number of bytes, as Uint does, and the bytes.
func (x *Hasher) Blob(b []byte) {
	if len(b) <= hasherBytes-binary.MaxVarintLen64 {
		x.room(binary.MaxVarintLen64 + len(b))
		x.buf = append(binary.AppendUvarint(x.buf, uint64(len(b))), b...)
		return
	}
	x.Uint(uint64(len(b)))
	x.Bytes(b)
}

// String is Blob of a string.
func (x *Hasher) String(s string) {
	x.Uint(uint64(len(s)))
	for len(s) > hasherBytes {
		x.flush()
		x.buf = append(x.buf, s[:hasherBytes]...)
		s = s[hasherBytes:]
	}
	x.room(len(s))
	x.buf = append(x.buf, s...)
}

// Sum ends the form.
func (x *Hasher) Sum() (h Hash) {
	x.flush()
	x.buf = x.sum.Sum(x.buf)
	h[0] = x.version
	copy(h[1:], x.buf)
	x.buf = x.buf[:0]
	return h
}

var hashers = sync.Pool{New: func() any { return new(Hasher) }}

// HashOf is the hash of the form that write appends to the Hasher, which is not
// used after it returns.
func HashOf(version byte, write func(*Hasher)) Hash {
	x := hashers.Get().(*Hasher)
	defer hashers.Put(x)
	x.Reset(version)
	write(x)
	return x.Sum()
}
