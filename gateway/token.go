package gateway

import (
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// MaxTokenKeyBytes is the longest business key of a token.
const MaxTokenKeyBytes = 128

// parseToken checks a token. What it leaves out is zero and made by the server.
func parseToken(t *headwaterv1.IdempotencyToken) (wal.Token, error) {
	var out wal.Token
	if t == nil {
		return out, nil
	}
	if g := t.GetGenerationTime(); g != nil {
		if err := g.CheckValid(); err != nil || g.AsTime().UnixMicro() <= 0 {
			return out, apierrors.New(apierrors.BadToken, "token.generation_time is not a time after 1970")
		}
		out.GenerationTime = g.AsTime().UnixMicro()
	}
	switch id := t.GetIdentity().(type) {
	case nil:
	case *headwaterv1.IdempotencyToken_Nonce:
		if len(id.Nonce) != wal.NonceSize {
			return out, apierrors.New(apierrors.BadToken, "token.nonce has %d bytes; it must have 16", len(id.Nonce))
		}
		copy(out.Nonce[:], id.Nonce)
		if out.Nonce == (wal.Nonce{}) {
			return out, apierrors.New(apierrors.BadToken, "token.nonce is all zeros; draw one at random")
		}
	case *headwaterv1.IdempotencyToken_Key:
		if len(id.Key) == 0 || len(id.Key) > MaxTokenKeyBytes || !utf8.ValidString(id.Key) {
			return out, apierrors.New(apierrors.BadToken, "token.key has %d bytes; it must have 1 to 128 bytes of UTF-8", len(id.Key))
		}
		out.Nonce = wal.NonceOfKey(id.Key)
	}
	return out, nil
}

// tokenMessage is the token as the caller gets it back: by the business key where
// it gave one.
func tokenMessage(t wal.Token, sent *headwaterv1.IdempotencyToken) *headwaterv1.IdempotencyToken {
	if t.Nonce == (wal.Nonce{}) {
		return sent
	}
	m := &headwaterv1.IdempotencyToken{}
	if t.GenerationTime != 0 {
		m.GenerationTime = timestamppb.New(time.UnixMicro(t.GenerationTime))
	}
	if key := sent.GetKey(); key != "" {
		m.Identity = &headwaterv1.IdempotencyToken_Key{Key: key}
	} else {
		m.Identity = &headwaterv1.IdempotencyToken_Nonce{Nonce: append([]byte(nil), t.Nonce[:]...)}
	}
	return m
}

func timeMessage(micros int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMicro(micros)) }
