package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// TokenID is the identity of a write: the token's nonce and the routing key that
// the write is of. The same token on another routing key is another write.
type TokenID [16]byte

func (id TokenID) String() string { return hex.EncodeToString(id[:]) }

// What a TokenID is made of; the numbers are part of the data format.
const (
	idOfOne  = 1
	idOfCall = 2
)

// idPrefix is how much of the nonce an identity begins with. Of a drawn nonce that
// is its second, so the identities of one moment lie together in a store.
const idPrefix = 4

// IDOf is the identity of a write of one routing key: the first 4 bytes of the
// nonce, then 12 bytes of SHA-256 over a domain byte, the key's length (8 bytes,
// big-endian), the key and the nonce.
//
// 96 bits of the hash are enough: they are compared within one partition and one
// token window. A hundred million live tokens of one prefix collide by chance with
// a probability of 10^-13. To hit the identity of somebody else's write takes 2^96
// tries for one target. A caller who searches for two of its own writes with one
// identity (2^48 tries) gets the second of its own writes refused.
func IDOf(routingKey []byte, n Nonce) TokenID { return idOf(idOfOne, routingKey, &n) }

// CallIDOf is the identity, in one partition, of a call over several routing keys
// under one token. smallestKey is the smallest, by bytes, of the keys there. It is
// apart from the identity of a write of that key alone.
func CallIDOf(smallestKey []byte, n Nonce) TokenID { return idOf(idOfCall, smallestKey, &n) }

// shortKey is up to which length a key is hashed in one piece.
const shortKey = 128

func idOf(domain byte, key []byte, n *Nonce) (id TokenID) {
	var sum [sha256.Size]byte
	var b [1 + 8 + shortKey + NonceSize]byte
	b[0] = domain
	binary.BigEndian.PutUint64(b[1:], uint64(len(key)))
	if len(key) <= shortKey {
		end := 9 + copy(b[9:], key)
		end += copy(b[end:], n[:])
		sum = sha256.Sum256(b[:end])
	} else {
		h := sha256.New()
		h.Write(b[:9])
		h.Write(key)
		h.Write(n[:])
		h.Sum(sum[:0])
	}
	copy(id[:], n[:idPrefix])
	copy(id[idPrefix:], sum[:])
	return id
}

// Decided is what a store keeps of a token whose call was applied: the hash of
// the request, and the log time of its record in microseconds since 1970.
type Decided interface {
	Request() (h Hash, logTime int64)
}
