package wal

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHashesOfTwoFormsCountAsOneRequest(t *testing.T) {
	t.Parallel()
	of := func(version byte, s string) Hash { return HashOf(version, func(x *Hasher) { x.String(s) }) }
	for _, c := range []struct {
		what string
		a, b Hash
		want bool
	}{
		{"equal", of(1, "a"), of(1, "a"), true},
		{"another request", of(1, "a"), of(1, "b"), false},
		{"two forms", of(1, "a"), of(2, "b"), true},
		{"none", Hash{}, of(1, "a"), true},
	} {
		if c.a.Same(c.b) != c.want || c.b.Same(c.a) != c.want {
			t.Errorf("%s: %s and %s the same: %v", c.what, c.a, c.b, c.a.Same(c.b))
		}
	}
}

// TestAHasherHashesWhatItIsGiven compares it with the form put together, whatever the
// sizes of its parts.
func TestAHasherHashesWhatItIsGiven(t *testing.T) {
	var x Hasher // used again and again
	rapid.Check(t, func(t *rapid.T) {
		x.Reset(3)
		var form []byte
		for range rapid.IntRange(0, 20).Draw(t, "parts") {
			n := rapid.SampledFrom([]int{0, 1, 127, 128, hasherBytes - 3, hasherBytes - 1, hasherBytes, hasherBytes + 1, 3 * hasherBytes}).Draw(t, "size")
			part := strings.Repeat(rapid.StringMatching("[a-z]").Draw(t, "of"), n)
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				x.Byte(byte(n))
				form = append(form, byte(n))
			case 1:
				x.Uint(uint64(n))
				form = appendUint(form, uint64(n))
			case 2:
				x.Int(-int64(n))
				form = appendUint(form, uint64(max(2*n-1, 0)))
			case 3:
				x.Blob([]byte(part))
				form = append(appendUint(form, uint64(n)), part...)
			case 4:
				x.String(part)
				form = append(appendUint(form, uint64(n)), part...)
			}
		}
		sum := sha256.Sum256(form)
		if h := x.Sum(); h[0] != 3 || !bytes.Equal(h[1:], sum[:15]) {
			t.Fatalf("hash %s of %d bytes, want 03%x", h, len(form), sum[:15])
		}
	})
}

func appendUint(b []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
