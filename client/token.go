package client

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/segmentio/ksuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Token makes a write happen once, however often it is sent. The zero Token asks
// the client to make one. A token with a Key, a business key of 1 to 128 bytes
// of UTF-8 such as an order number, is the same token wherever and whenever it is
// made; Nonce is ignored then. Without a Time the client adds the present one.
//
// A token belongs to one request of a record, a counter or a log key: the same
// token with other content there is refused (ErrConflict). Compression counts as
// content. The same token on another record, counter or log key is another write.
type Token struct {
	// Time decides which write of an item is newer. It has microseconds.
	Time  time.Time
	Nonce [16]byte
	Key   string
}

// IsZero reports whether t is absent.
func (t Token) IsZero() bool { return t.Key == "" && t.Nonce == [16]byte{} && t.Time.IsZero() }

// String is the key, or the nonce in hex.
func (t Token) String() string {
	if t.Key != "" {
		return t.Key
	}
	return hex.EncodeToString(t.Nonce[:])
}

func (t Token) message() *headwaterv1.IdempotencyToken {
	m := &headwaterv1.IdempotencyToken{GenerationTime: timestamppb.New(t.Time)}
	if t.Key != "" {
		m.Identity = &headwaterv1.IdempotencyToken_Key{Key: t.Key}
	} else {
		m.Identity = &headwaterv1.IdempotencyToken_Nonce{Nonce: t.Nonce[:]}
	}
	return m
}

// NewToken makes a token: a time above all that this client has made or seen,
// and a random nonce.
func (c *Client) NewToken() Token { return c.complete(Token{}) }

// complete fills in what t leaves to the client.
func (c *Client) complete(t Token) Token {
	if t.Time.IsZero() {
		t.Time = time.UnixMicro(c.clock.next(time.Now()))
	}
	if t.Key == "" && t.Nonce == [16]byte{} {
		// The first 16 bytes of a ksuid are 4 of seconds and 12 of randomness, so that
		// the tokens of one moment lie together in a store.
		id := ksuid.New()
		copy(t.Nonce[:], id[:])
	}
	return t
}

// maxAhead is how far ahead of this machine's clock a version may be to be
// taken over: as far as servers let a token's time be, by default. Beyond it,
// one bad version would make every later token of this client refused.
const maxAhead = 10 * time.Second

// clock hands out strictly increasing times in microseconds since 1970.
type clock struct{ last atomic.Int64 }

func (c *clock) next(now time.Time) int64 {
	for {
		last := c.last.Load()
		t := max(now.UnixMicro(), last+1)
		if c.last.CompareAndSwap(last, t) {
			return t
		}
	}
}

// observe makes every later time larger than t, unless t is too far ahead.
func (c *clock) observe(t int64) {
	for {
		last := c.last.Load()
		if t <= last {
			return
		}
		if t > time.Now().Add(maxAhead).UnixMicro() {
			return
		}
		if c.last.CompareAndSwap(last, t) {
			return
		}
	}
}

// observeVersion is observe for a version: base64 of bytes that begin with its
// time, 8 bytes big-endian, in microseconds. What cannot be read is passed over:
// it costs only that a later token may have to be made again.
func (c *clock) observeVersion(v string) {
	const chars = 11 // of base64 for 8 bytes
	if len(v) < chars {
		return
	}
	var b [9]byte
	if n, err := base64.RawURLEncoding.Decode(b[:], []byte(v[:chars])); err == nil && n == 8 {
		c.observe(int64(binary.BigEndian.Uint64(b[:8])))
	}
}
