package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sampleRecord() Record {
	return Record{
		RoutingKey: []byte("ATL"), Kind: KindKV, Token: Token{GenerationTime: 1_700_000_000_000_001, Nonce: Nonce{1, 2, 3, 15: 9}},
		RequestHash: Hash{4, 5, 6}, NamespaceVersion: 300, AcceptedAt: 1_700_000_000_000_002, Origin: "eu-1",
		ExpiresAt: 1_700_000_000_000_003, TraceContext: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Payload: []byte("payload"),
	}
}

// TestRecordGoldenBytes holds the format still: a log that was written by one
// build is read by every later one.
func TestRecordGoldenBytes(t *testing.T) {
	t.Parallel()
	r := sampleRecord()
	got := hex.EncodeToString(AppendRecord(nil, &r))
	const file = "testdata/record_v1.hex"
	if *update {
		if err := os.WriteFile(file, []byte(got+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(want)) != got {
		t.Errorf("the encoding of a record has changed:\n got %s\nwant %s", got, want)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	var back Record
	if err := DecodeRecord(raw, &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("golden bytes decode to %+v, %v", back, err)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bytesOf := rapid.SliceOfN(rapid.Byte(), 0, 40)
		timeOf := rapid.Int64Range(0, 1<<62)
		r := Record{
			RoutingKey: bytesOf.Draw(t, "key"), Kind: Kind(rapid.Uint16().Draw(t, "kind")), NamespaceVersion: rapid.Uint64().Draw(t, "version"),
			AcceptedAt: timeOf.Draw(t, "accepted"), ExpiresAt: timeOf.Draw(t, "expires"), Origin: rapid.StringN(0, 9, 20).Draw(t, "origin"),
			TraceContext: rapid.StringN(0, 9, 20).Draw(t, "trace"), Payload: bytesOf.Draw(t, "payload"),
		}
		if rapid.Bool().Draw(t, "token") {
			r.Token.GenerationTime = timeOf.Draw(t, "generation")
			copy(r.Token.Nonce[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))
			copy(r.RequestHash[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash"))
		}
		b := AppendRecord([]byte("before"), &r)[6:]
		var back Record
		if err := DecodeRecord(b, &back); err != nil {
			t.Fatalf("decode: %v", err)
		}
		if again := AppendRecord(nil, &back); !bytes.Equal(again, b) {
			t.Fatalf("a decoded record encodes to other bytes:\n%x\n%x", again, b)
		}
		key, err := RoutingKeyOf(b)
		if err != nil || !bytes.Equal(key, r.RoutingKey) {
			t.Fatalf("routing key %x, %v; want %x", key, err, r.RoutingKey)
		}
	})
}

func TestDecodeRecordRefuses(t *testing.T) {
	t.Parallel()
	r := sampleRecord()
	good := AppendRecord(nil, &r)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":                   {nil, ErrMalformed},
		"another version":           {append([]byte{2}, good[1:]...), ErrUnknownVersion},
		"text":                      {[]byte("hello"), ErrUnknownVersion},
		"cut short":                 {good[:len(good)-1], ErrMalformed},
		"a field twice":             {append(append([]byte{1}, good[1:6]...), good[1:6]...), ErrMalformed},
		"a field that is not known": {append([]byte{1}, 13<<3, 1), ErrMalformed},
		"a short nonce":             {[]byte{1, 4<<3 | 2, 2, 1, 1}, ErrMalformed},
		"a kind that is too large":  {[]byte{1, 2 << 3, 0xff, 0xff, 0xff, 0x7f}, ErrMalformed},
		"a time before 1970":        {append([]byte{1, 7<<3 | 1}, 0, 0, 0, 0, 0, 0, 0, 0xff), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var back Record
			if err := DecodeRecord(c.b, &back); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := sampleRecord()
	f.Add(AppendRecord(nil, &r))
	f.Add(AppendRecord(nil, &Record{Kind: KindBarrier}))
	f.Add([]byte{1, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		err := DecodeRecord(b, &r)
		if _, keyErr := RoutingKeyOf(b); err == nil && keyErr != nil {
			t.Fatalf("a record whose routing key cannot be read: %v", keyErr)
		}
		if err != nil {
			return
		}
		var again Record
		if err := DecodeRecord(AppendRecord(nil, &r), &again); err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
	})
}
