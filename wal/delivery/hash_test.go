package delivery

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

func TestCanonicalFormOfAMessage(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("\x03key\x07payload"))
	got := hashOf(&wal.Record{RoutingKey: []byte("key"), Payload: []byte("payload"), AcceptedAt: 7, Token: wal.Token{GenerationTime: 8}})
	if got[0] != 1 || !bytes.Equal(got[1:], sum[:15]) {
		t.Errorf("hash %s is not of the form that is written down", got)
	}
}
