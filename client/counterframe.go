package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// An AddCountsRequest is written field by field: the namespace, then the frame
// of each add, then the token. It costs a few dozen nanoseconds an add, and an
// add that is sent again with others is not encoded again.
const (
	fieldNamespace = 1
	fieldAdds      = 2
	fieldToken     = 3

	fieldCounter   = 1
	fieldDelta     = 2
	fieldEventTime = 3
	fieldTTL       = 4
	fieldAddToken  = 5

	fieldGenerationTime = 1
	fieldNonce          = 2
	fieldKey            = 3

	// Of Timestamp and Duration.
	fieldSeconds = 1
	fieldNanos   = 2
)

// framePool holds *[]byte for requests that are encoded here.
var framePool = sync.Pool{New: func() any { return new([]byte) }}

func appendNamespace(b []byte, namespace string) []byte {
	b = protowire.AppendTag(b, fieldNamespace, protowire.BytesType)
	return protowire.AppendString(b, namespace)
}

func appendCallToken(b []byte, t *Token) []byte {
	b = protowire.AppendTag(b, fieldToken, protowire.BytesType)
	return appendToken(b, t)
}

// appendAdd appends the frame of an add that is checked and whose token, if it
// has one, is complete.
func appendAdd(b []byte, a *CounterAdd) []byte {
	b = protowire.AppendTag(b, fieldAdds, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeAdd(a)))
	b = protowire.AppendTag(b, fieldCounter, protowire.BytesType)
	b = protowire.AppendString(b, a.Counter)
	if a.Delta != 0 {
		b = protowire.AppendTag(b, fieldDelta, protowire.VarintType)
		b = protowire.AppendVarint(b, protowire.EncodeZigZag(a.Delta))
	}
	if !a.EventTime.IsZero() {
		b = protowire.AppendTag(b, fieldEventTime, protowire.BytesType)
		b = appendSpan(b, a.EventTime.Unix(), int64(a.EventTime.Nanosecond()))
	}
	if a.TTL != 0 {
		b = protowire.AppendTag(b, fieldTTL, protowire.BytesType)
		b = appendSpan(b, int64(a.TTL/time.Second), int64(a.TTL%time.Second))
	}
	if !a.Token.IsZero() {
		b = protowire.AppendTag(b, fieldAddToken, protowire.BytesType)
		b = appendToken(b, &a.Token)
	}
	return b
}

// sizeAdd is the size of an add without its tag and length.
func sizeAdd(a *CounterAdd) int {
	n := 1 + protowire.SizeBytes(len(a.Counter))
	if a.Delta != 0 {
		n += 1 + protowire.SizeVarint(protowire.EncodeZigZag(a.Delta))
	}
	if !a.EventTime.IsZero() {
		n += 1 + protowire.SizeBytes(sizeSpan(a.EventTime.Unix(), int64(a.EventTime.Nanosecond())))
	}
	if a.TTL != 0 {
		n += 1 + protowire.SizeBytes(sizeSpan(int64(a.TTL/time.Second), int64(a.TTL%time.Second)))
	}
	if !a.Token.IsZero() {
		n += 1 + protowire.SizeBytes(sizeToken(&a.Token))
	}
	return n
}

// maxAddFrame is the most that appendAdd appends beside the counter's name and
// the token's key.
const maxAddFrame = 96

func appendSpan(b []byte, seconds, nanos int64) []byte {
	b = protowire.AppendVarint(b, uint64(sizeSpan(seconds, nanos)))
	if seconds != 0 {
		b = protowire.AppendTag(b, fieldSeconds, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(seconds))
	}
	if nanos != 0 {
		b = protowire.AppendTag(b, fieldNanos, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(nanos))
	}
	return b
}

func sizeSpan(seconds, nanos int64) (n int) {
	if seconds != 0 {
		n += 1 + protowire.SizeVarint(uint64(seconds))
	}
	if nanos != 0 {
		n += 1 + protowire.SizeVarint(uint64(nanos))
	}
	return n
}

func appendToken(b []byte, t *Token) []byte {
	b = protowire.AppendVarint(b, uint64(sizeToken(t)))
	if !t.Time.IsZero() {
		b = protowire.AppendTag(b, fieldGenerationTime, protowire.BytesType)
		b = appendSpan(b, t.Time.Unix(), int64(t.Time.Nanosecond()))
	}
	if t.Key != "" {
		b = protowire.AppendTag(b, fieldKey, protowire.BytesType)
		return protowire.AppendString(b, t.Key)
	}
	b = protowire.AppendTag(b, fieldNonce, protowire.BytesType)
	return protowire.AppendBytes(b, t.Nonce[:])
}

func sizeToken(t *Token) int {
	n := 0
	if !t.Time.IsZero() {
		n = 1 + protowire.SizeBytes(sizeSpan(t.Time.Unix(), int64(t.Time.Nanosecond())))
	}
	if t.Key != "" {
		return n + 1 + protowire.SizeBytes(len(t.Key))
	}
	return n + 1 + protowire.SizeBytes(len(t.Nonce))
}

// addCounts sends an encoded AddCountsRequest once. body is not kept.
func (c *Client) addCounts(ctx context.Context, body []byte, res *headwaterv1.AddCountsResponse, opts ...grpc.CallOption) error {
	opts = append(opts[:len(opts):len(opts)], grpc.ForceCodecV2(encoded{}))
	return c.conn.Invoke(ctx, headwaterv1.CounterService_AddCounts_FullMethodName, &body, res, opts...)
}

// encoded is the codec of a request whose bytes are there already, as a *[]byte.
type encoded struct{}

func (encoded) Marshal(v any) (mem.BufferSlice, error) {
	body, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("encode adds: it is a %T", v)
	}
	// A copy: a connection may still read it when the call has ended.
	return mem.BufferSlice{mem.Copy(*body, mem.DefaultBufferPool())}, nil
}

func (encoded) Unmarshal(data mem.BufferSlice, v any) error { return protoCodec.Unmarshal(data, v) }

func (encoded) Name() string { return encproto.Name }
