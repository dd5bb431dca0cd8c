package delivery

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"
)

func TestCanonicalFormOfAMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bytes string
		body  Body
	}{
		{"\x03key\x07payload", Body{}},
		{"\x03key\x07payload\x01a\x03one\x01b\x00", Body{Headers: []Header{{"a", "one"}, {"b", ""}}}},
		{"\x03key\x07payload\x01a\x03one\x00\x02\x01x\x02yz\x00\x00", Body{Headers: []Header{{"a", "one"}}, Targets: []string{"x", "yz"}}},
		{"\x03key\x07payload\x00\x00\x04\x00", Body{Delay: 2 * time.Microsecond}},
		{"\x03key\x07payload\x00\x00\x00\x02", Body{DeliverAt: 1}},
	} {
		sum := sha256.Sum256([]byte(c.bytes))
		c.body.Payload = []byte("payload")
		got := hashOf([]byte("key"), &c.body)
		if got[0] != 1 || !bytes.Equal(got[1:], sum[:15]) {
			t.Errorf("hash %s of %q is not of the form that is written down", got, c.bytes)
		}
	}
}
