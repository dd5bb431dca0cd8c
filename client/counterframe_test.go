package client

import (
	"bytes"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func (a *CounterAdd) message() *headwaterv1.CounterAdd {
	m := &headwaterv1.CounterAdd{Counter: a.Counter, Delta: a.Delta, EventTime: timeMessage(a.EventTime)}
	if a.TTL != 0 {
		m.Ttl = durationpb.New(a.TTL)
	}
	if !a.Token.IsZero() {
		m.Token = a.Token.message()
	}
	return m
}

// The bytes that are written field by field are those that the generated code
// writes, in the order of the fields.
func FuzzAddsAreEncodedAsTheGeneratedCodeDoes(f *testing.F) {
	f.Add("c", int64(1), int64(0), int64(0), int64(0), "", []byte(nil), int64(0))
	f.Add("päge", int64(math.MinInt64), int64(1_700_000_000), int64(123_456_000), int64(90*time.Second+1), "order-7", []byte(nil), int64(1))
	f.Add("0123456789", int64(math.MaxInt64), int64(1), int64(999_999_999), int64(1), "", []byte("0123456789abcdef"), int64(1_700_000_000_000_000))
	f.Add("x", int64(0), int64(253402300799), int64(0), int64(math.MaxInt64), "k", []byte("n"), int64(-1))
	f.Fuzz(func(t *testing.T, name string, delta, seconds, nanos, ttl int64, key string, nonce []byte, micros int64) {
		a := CounterAdd{Counter: name, Delta: delta, TTL: time.Duration(ttl)}
		if seconds != 0 {
			a.EventTime = time.Unix(seconds, nanos)
		}
		a.Token.Key = key
		copy(a.Token.Nonce[:], nonce)
		if !a.Token.IsZero() {
			a.Token.Time = time.UnixMicro(micros)
		}
		if a.check() != nil {
			return
		}
		token := Token{Time: time.UnixMicro(1), Key: "batch"}
		got := appendNamespace(nil, "plays")
		before := len(got)
		got = appendAdd(got, &a)
		if len(got)-before > len(a.Counter)+len(a.Token.Key)+maxAddFrame {
			t.Errorf("a frame of %d bytes", len(got)-before)
		}
		if size := sizeAdd(&a); len(got)-before != 1+varintSize(size)+size {
			t.Errorf("a frame of %d bytes, counted as %d", len(got)-before, 1+varintSize(size)+size)
		}
		got = appendAdd(got, &a)
		got = appendCallToken(got, &token)
		req := &headwaterv1.AddCountsRequest{Namespace: "plays", Adds: []*headwaterv1.CounterAdd{a.message(), a.message()}, Token: token.message()}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%+v:\n%x\nwant\n%x", a, got, want)
		}
	})
}
