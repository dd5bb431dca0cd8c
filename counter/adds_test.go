package counter

import (
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestAnAddsOwnTokenIsForThatAdd: what the token is used for is all of the add.
func TestAnAddsOwnTokenIsForThatAdd(t *testing.T) {
	t.Parallel()
	seen := map[wal.Hash]int{}
	for i, a := range []Add{
		{Counter: []byte("a"), Delta: 1}, {Counter: []byte("a"), Delta: 2}, {Counter: []byte("b"), Delta: 1},
		{Counter: []byte("a"), Delta: 1, EventTime: 1}, {Counter: []byte("a"), Delta: 1, TTL: 1}, {Counter: []byte("a"), Delta: -1},
	} {
		h := a.requestHash()
		if j, ok := seen[h]; ok {
			t.Errorf("adds %d and %d are one request", j, i)
		}
		seen[h] = i
		a.Token, a.Hash = wal.Token{GenerationTime: 7, Nonce: wal.NewNonce()}, wal.Hash{9}
		if a.requestHash() != h {
			t.Errorf("add %d: the token is no part of what it is used for", i)
		}
	}
}
