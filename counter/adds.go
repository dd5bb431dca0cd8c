package counter

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/headwater-db/headwater/wal"
)

// Adds collects the adds of one call, partition by partition, already encoded.
// Used by one goroutine; get one from DB.NewAdds.
type Adds struct {
	parts []addsPart
	owned []ownAdd // adds with a token of their own
	n     int
}

type addsPart struct {
	buf   []byte // a payload of OpAdd
	used  bool   // there are adds
	first int    // length of the first add's name
}

// ownAdd is an add with its own token, which is reserved by itself.
type ownAdd struct {
	index  int
	part   wal.Partition
	timeAt int // where its generation time stands in the part's bytes
	token  wal.Token
	hash   wal.Hash
}

// ownTimeBack is how far before the end of an add with a token of its own its
// generation time stands; see AppendAdd.
const ownTimeBack = 8 + len(wal.Hash{})

var addsPool = sync.Pool{New: func() any { return &Adds{} }}

// NewAdds returns an empty collection for one AddCounts.
func (db *DB) NewAdds() *Adds {
	a := addsPool.Get().(*Adds)
	n := db.cfg.Stream.Info().Partitions
	if cap(a.parts) < n {
		a.parts = make([]addsPart, n)
	}
	a.parts = a.parts[:n]
	for i := range a.parts {
		a.parts[i].buf = append(a.parts[i].buf[:0], payloadVersion, byte(OpAdd))
		a.parts[i].used = false
	}
	a.owned, a.n = a.owned[:0], 0
	return a
}

// release gives a's memory back. Nothing may point into it any more.
func (a *Adds) release() {
	const keep = 4 << 20
	for i := range a.parts {
		if cap(a.parts[i].buf) > keep {
			return // a rare giant is not kept
		}
	}
	addsPool.Put(a)
}

// Len is how many adds there are.
func (a *Adds) Len() int { return a.n }

// Bytes is how large the adds are.
func (a *Adds) Bytes() (n int) {
	for i := range a.parts {
		n += len(a.parts[i].buf)
	}
	return n
}

// Add puts an add in. What add.Counter points to is copied. A token of its own
// must have a nonce; without a generation time it has the call's.
func (a *Adds) Add(add *Add) {
	p := wal.PartitionOf(add.Counter, len(a.parts))
	part := &a.parts[p]
	if !part.used {
		part.used, part.first = true, len(add.Counter)
	}
	part.buf = AppendAdd(part.buf, add)
	if !add.Token.IsZero() {
		a.owned = append(a.owned, ownAdd{a.n, p, len(part.buf) - ownTimeBack, add.Token, add.Hash})
	}
	a.n++
}

// routingKey is the name of the first add of a part.
func (p *addsPart) routingKey() []byte {
	_, n := binary.Uvarint(p.buf[2:])
	return p.buf[2+n:][:p.first]
}

var hashPool = sync.Pool{New: func() any { return sha256.New() }}

// hash identifies the call: its adds, partition by partition, as they were sent,
// but for the times of their own tokens, which are no part of a token's identity.
func (a *Adds) hash() (h wal.Hash) {
	s := hashPool.Get().(hash.Hash)
	defer hashPool.Put(s)
	s.Reset()
	for i := range a.parts {
		b := a.parts[i].buf
		n := uint64(len(b))
		s.Write([]byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		from := 0
		for j := range a.owned {
			if o := &a.owned[j]; int(o.part) == i {
				s.Write(b[from:o.timeAt])
				from = o.timeAt + 8
			}
		}
		s.Write(b[from:])
	}
	var sum [sha256.Size]byte
	copy(h[:], s.Sum(sum[:0]))
	return h
}
