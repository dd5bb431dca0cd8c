package counter

import (
	"bytes"
	"sync"

	"github.com/headwater-db/headwater/wal"
)

// Adds collects the adds of one call, partition by partition, already encoded.
// Used by one goroutine; get one from DB.NewAdds.
type Adds struct {
	parts []addsPart
	owned []ownAdd // adds with a token of their own
	n     int
	form  wal.Hasher // of the call; see callForm
}

type addsPart struct {
	buf  []byte // a payload of OpAdd
	adds int    // how many; 0: none
	// from and to are where the smallest of the adds' names stands in buf.
	from, to int
}

// ownAdd is an add with its own token, which is reserved by itself.
type ownAdd struct {
	index int
	part  wal.Partition
	token wal.Token
	id    wal.TokenID
	hash  wal.Hash
}

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
		a.parts[i].adds = 0
	}
	a.owned, a.n = a.owned[:0], 0
	beginAdds(&a.form)
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
// must have a nonce; without a generation time it has the call's. Its Hash is
// filled in.
func (a *Adds) Add(add *Add) {
	p := wal.PartitionOf(add.Counter, len(a.parts))
	part := &a.parts[p]
	if !add.Token.IsZero() {
		add.Hash = add.requestHash()
	}
	begin := len(part.buf)
	part.buf = AppendAdd(part.buf, add)
	if part.adds == 0 || bytes.Compare(add.Counter, part.buf[part.from:part.to]) < 0 {
		part.from = begin + nameAt(add.Counter)
		part.to = part.from + len(add.Counter)
	}
	part.adds++
	if !add.Token.IsZero() {
		id := wal.IDOf(add.Counter, add.Token.Nonce)
		a.owned = append(a.owned, ownAdd{a.n, p, add.Token, id, add.Hash})
	}
	add.inAdds(&a.form)
	a.n++
}

// routingKey is the smallest name of a part: with the call's token it makes the
// identity of the call there.
func (p *addsPart) routingKey() []byte { return p.buf[p.from:p.to] }
