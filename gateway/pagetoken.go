package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/headwater-db/headwater/api/apierrors"
)

// PageTokens seals cursors into page tokens: AES-256-GCM, with the request that
// the page belongs to as associated data. A token that was changed, or that is
// sent with another request, namespace, or to a server with another key, is
// refused. It survives restarts as the key does. Safe for concurrent use.
type PageTokens struct{ aead cipher.AEAD }

// PageKeySize is the length of a key in bytes.
const PageKeySize = 32

// maxPageToken bounds what a token can make us decode: a cursor holds an id and a
// key of 1,024 bytes each, and what was seen of 256 partitions.
const maxPageToken = 10 << 10

const pageTokenVersion = 1

// NewPageTokens returns a sealer with a key of PageKeySize bytes.
func NewPageTokens(key []byte) (*PageTokens, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("page token key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("page token key: %w", err)
	}
	return &PageTokens{aead: aead}, nil
}

// cursor is the place behind the last page.
type cursor struct {
	partition uint32
	index     uint32
	id, key   []byte
	seen      pagesSeen // by the pages so far
}

func (t *PageTokens) seal(c *cursor, request []byte) string {
	plain := binary.AppendUvarint(nil, uint64(c.partition))
	plain = binary.AppendUvarint(plain, uint64(c.index))
	plain = c.seen.append(plain)
	plain = binary.AppendUvarint(plain, uint64(len(c.id)))
	plain = append(plain, c.id...)
	plain = append(plain, c.key...)
	nonce := make([]byte, 1+t.aead.NonceSize(), 1+t.aead.NonceSize()+len(plain)+t.aead.Overhead())
	nonce[0] = pageTokenVersion
	if _, err := rand.Read(nonce[1:]); err != nil {
		panic(fmt.Sprintf("gateway: no randomness: %v", err)) // crypto/rand does not return errors on supported systems
	}
	return base64.RawURLEncoding.EncodeToString(t.aead.Seal(nonce, nonce[1:], plain, request))
}

func (t *PageTokens) open(token string, request []byte) (*cursor, error) {
	bad := apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
	if len(token) > maxPageToken || strings.ContainsAny(token, "\r\n") { // base64 would skip line ends
		return nil, bad
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	n := 1 + t.aead.NonceSize()
	if err != nil || len(b) < n || b[0] != pageTokenVersion {
		return nil, bad
	}
	plain, err := t.aead.Open(nil, b[1:n], b[n:], request)
	if err != nil {
		return nil, bad
	}
	c := &cursor{}
	part, k := binary.Uvarint(plain)
	if k <= 0 {
		return nil, bad
	}
	plain = plain[k:]
	index, k := binary.Uvarint(plain)
	if k <= 0 {
		return nil, bad
	}
	plain, ok := c.seen.take(plain[k:])
	if !ok {
		return nil, bad
	}
	l, k := binary.Uvarint(plain)
	if k <= 0 || l > uint64(len(plain)-k) {
		return nil, bad
	}
	c.partition, c.index = uint32(part), uint32(index)
	c.id, c.key = plain[k:k+int(l)], plain[k+int(l):]
	return c, nil
}
