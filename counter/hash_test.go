package counter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// isForm compares a hash with the form that it is to be made of, in hex.
func isForm(t *testing.T, what string, h wal.Hash, form string) {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(form, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); h[0] != 1 || !bytes.Equal(h[1:], sum[:15]) {
		t.Errorf("%s: hash %s is not of the form that is written down", what, h)
	}
}

// TestCanonicalFormOfACall holds the form that hashes are made of: stores
// remember them.
func TestCanonicalFormOfACall(t *testing.T) {
	t.Parallel()
	c, id := Add{Counter: []byte("c")}, wal.TokenID{0xaa, 15: 0xbb}
	idHex := "aa" + strings.Repeat("00", 14) + "bb"
	token := wal.Token{GenerationTime: 99, Nonce: wal.Nonce(id)}
	isForm(t, "add", (&Add{Counter: []byte("c"), Delta: -3, EventTime: 7, TTL: 8, Token: token, Hash: wal.Hash{9}}).requestHash(), "00 0163 05 0e 10")
	for _, k := range []struct {
		what, form string
		call       Call
	}{
		{"add and get", "02 0163 06 0e 10 07 01 14", Call{Op: OpAddAndGet, Add: Add{Counter: []byte("c"), Delta: 3, EventTime: 7, TTL: 8}, Bounds: Bounds{true, true, -1, 10, true}}},
		{"without bounds", "02 0163 06 00 00 00", Call{Op: OpAddAndGet, Add: Add{Counter: []byte("c"), Delta: 3}}},
		{"clear", "03 0163", Call{Op: OpClear, Add: c}},
		{"reserve", "04 0163 0a d00f", Call{Op: OpReserve, Add: c, Amount: 5, Lease: time.Millisecond}},
		{"settle", "05 0163" + idHex + "00 0a", Call{Op: OpSettle, Add: c, Reservation: id, Amount: 5}},
		{"settle all", "05 0163" + idHex + "01", Call{Op: OpSettle, Add: c, Reservation: id, All: true, Amount: 5}},
		{"cancel", "06 0163" + idHex, Call{Op: OpCancel, Add: c, Reservation: id}},
	} {
		isForm(t, k.what, k.call.requestHash(), k.form)
	}
	for _, partitions := range []int{1, 4, 7} { // into which they fall does not matter
		a := &Adds{parts: make([]addsPart, partitions)}
		beginAdds(&a.form)
		for _, add := range []Add{{Counter: []byte("c"), Delta: 1}, {Counter: []byte("b"), Delta: 2, Token: token}, {Counter: []byte("c"), Delta: 1, EventTime: 7, TTL: 8}} {
			a.Add(&add)
		}
		isForm(t, "adds", a.form.Sum(), "01 0163 02 00 00 00  0162 04 00 00 01"+idHex+" 0163 02 0e 10 00")
	}
}

// TestTheSmallestCounterOfACallRoutesIt: with the token it is the identity of the
// call in a partition.
func TestTheSmallestCounterOfACallRoutesIt(t *testing.T) {
	t.Parallel()
	a := &Adds{parts: make([]addsPart, 1)}
	beginAdds(&a.form)
	long := strings.Repeat("b", 200) // its length takes two bytes
	for _, step := range [][2]string{{"c", "c"}, {"d", "c"}, {long, long}, {"bb", "bb"}, {"c", "bb"}, {"\x00", "\x00"}} {
		a.Add(&Add{Counter: []byte(step[0]), Delta: 1, EventTime: 5})
		if got := string(a.parts[0].routingKey()); got != step[1] {
			t.Errorf("after %.5q: %.5q, want %.5q", step[0], got, step[1])
		}
	}
}
