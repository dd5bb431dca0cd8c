package gateway

import (
	"bytes"
	"encoding/base64"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

func newPages(t testing.TB, fill byte) *PageTokens {
	t.Helper()
	p, err := NewPageTokens(bytes.Repeat([]byte{fill}, PageKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPageTokenRoundTrip(t *testing.T) {
	t.Parallel()
	p := newPages(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		c := &cursor{
			partition: rapid.Uint32().Draw(t, "partition"), index: rapid.Uint32().Draw(t, "index"),
			id: rapid.SliceOfN(rapid.Byte(), 0, 1024).Draw(t, "id"), key: rapid.SliceOfN(rapid.Byte(), 0, 1024).Draw(t, "key"),
		}
		at := rapid.Int64().Draw(t, "time")
		for i := range rapid.IntRange(0, 256).Draw(t, "seen") {
			c.seen = append(c.seen, wal.Seen{Partition: wal.Partition(i), Offset: wal.Offset(rapid.Int64Min(-1).Draw(t, "offset")), Time: at})
		}
		request := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "request")
		token := p.seal(c, request)
		got, err := p.open(token, request)
		if err != nil || got.partition != c.partition || got.index != c.index || !bytes.Equal(got.id, c.id) || !bytes.Equal(got.key, c.key) || !slices.Equal(got.seen, c.seen) {
			t.Fatalf("%+v opens as %+v, %v", c, got, err)
		}
		if _, err := p.open(token, append(request, 0)); err == nil {
			t.Fatal("a token opens with another request")
		}
	})
}

// TestPageTokenRefusesEveryBit flips each bit of a token in turn.
func TestPageTokenRefusesEveryBit(t *testing.T) {
	t.Parallel()
	p := newPages(t, 1)
	raw, err := base64.RawURLEncoding.DecodeString(p.seal(&cursor{partition: 3, id: []byte("id"), key: []byte("key")}, []byte("request")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := p.open(base64.RawURLEncoding.EncodeToString(bad), []byte("request")); err == nil {
			t.Errorf("bit %d flipped, and the token opens", i)
		}
	}
	if _, err := newPages(t, 2).open(base64.RawURLEncoding.EncodeToString(raw), []byte("request")); err == nil {
		t.Error("the token opens with another key")
	}
}

func FuzzPageToken(f *testing.F) {
	p := newPages(f, 1)
	f.Add(p.seal(&cursor{partition: 1, index: 2, id: []byte("id"), key: []byte("k")}, nil))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := p.open(token, nil)
		if err != nil {
			return
		}
		if c == nil {
			t.Fatal("no cursor and no error")
		}
	})
}
