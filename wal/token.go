package wal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/segmentio/ksuid"
)

// NonceSize is the length of a nonce in bytes.
const NonceSize = 16

// Nonce tells tokens apart. What a token was used for is told apart by TokenID.
type Nonce [NonceSize]byte

func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// Token makes a mutation of a routing key happen once, however often it is sent.
type Token struct {
	GenerationTime int64 // microseconds since 1970
	Nonce          Nonce
}

// IsZero reports whether t is absent.
func (t Token) IsZero() bool { return t.Nonce == Nonce{} && t.GenerationTime == 0 }

// NonceOfKey is the nonce of a token that is given by a business key: the 16 bytes of the key's SHA-256.
func NonceOfKey(key string) (n Nonce) {
	sum := sha256.Sum256([]byte(key))
	copy(n[:], sum[:])
	return n
}

// NewNonce draws a nonce: the first 16 bytes of a ksuid, which are 4 bytes of
// seconds and 12 of randomness, so that the writes of one moment lie together
// in a store; see IDOf.
func NewNonce() (n Nonce) {
	id := ksuid.New()
	copy(n[:], id.Bytes())
	return n
}

// Clock hands out generation times that strictly increase, in this process and,
// by Observe, above every version that it has read. The zero value is ready and
// safe for concurrent use.
type Clock struct{ last atomic.Int64 }

// Next returns a time in microseconds at or after now and above every time
// returned or observed before.
func (c *Clock) Next(now time.Time) int64 {
	for {
		last := c.last.Load()
		t := max(now.UnixMicro(), last+1)
		if c.last.CompareAndSwap(last, t) {
			return t
		}
	}
}

// Observe makes every later time larger than t, microseconds since 1970.
func (c *Clock) Observe(t int64) {
	for {
		last := c.last.Load()
		if t <= last || c.last.CompareAndSwap(last, t) {
			return
		}
	}
}

// Stamp gives t a generation time when it has none, and reports so; one that it
// has is checked. The error is a *DriftError.
func (c *Clock) Stamp(t *Token, now time.Time, past, future time.Duration) (made bool, err error) {
	if t.GenerationTime == 0 {
		t.GenerationTime = c.Next(now)
		return true, nil
	}
	return false, CheckDrift(t.GenerationTime, now, past, future)
}

// CheckDrift refuses a generation time that is too far from now.
func CheckDrift(t int64, now time.Time, past, future time.Duration) error {
	drift := time.Duration(t-now.UnixMicro()) * time.Microsecond
	if drift > future || -drift > past {
		return &DriftError{Drift: drift, Past: past, Future: future}
	}
	return nil
}

// DriftError says that a token's generation time is too far from the log's
// clock.
type DriftError struct {
	Drift, Past, Future time.Duration
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("the token's generation_time is off by %v; allowed are %v into the past and %v into the future", e.Drift, e.Past, e.Future)
}
