package delivery

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

func TestCanonicalFormOfAMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bytes   string
		headers []Header
	}{
		{"\x03key\x07payload", nil},
		{"\x03key\x07payload\x01a\x03one\x01b\x00", []Header{{"a", "one"}, {"b", ""}}},
	} {
		sum := sha256.Sum256([]byte(c.bytes))
		got := hashOf([]byte("key"), []byte("payload"), c.headers)
		if got[0] != 1 || !bytes.Equal(got[1:], sum[:15]) {
			t.Errorf("hash %s of %q is not of the form that is written down", got, c.bytes)
		}
	}
}
