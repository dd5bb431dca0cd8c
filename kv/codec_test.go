package kv

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samplePayload has every operation once.
func samplePayload() Payload {
	item := Item{Key: []byte("k"), Value: []byte("v"), Expiry: 99, Compression: "zstd", ContentType: "text/plain"}
	bare := Item{Key: []byte("k"), Expiry: 99}
	id := UploadID{1, 15: 2}
	return Payload{Calls: []Call{
		{Mutations: []Mutation{{Op: OpPut, ID: []byte("r"), Items: []Item{item, {Key: []byte{}}}, Condition: Condition{Kind: IfAbsent}}}},
		{Token: wal.Token{GenerationTime: 7, Nonce: wal.Nonce{3}}, Hash: wal.Hash{4}, Mutations: []Mutation{
			{Op: OpDeleteKeys, ID: []byte("r"), Keys: [][]byte{[]byte("a"), {}}, Early: true},
			{Op: OpDeleteRange, ID: []byte("r"), Range: Range{Start: []byte("a"), End: []byte("b")}},
			{Op: OpDeleteRange, ID: []byte("r"), Range: Range{Start: []byte("a"), Open: true}},
			{Op: OpDeleteRecord, ID: []byte("r")},
			{Op: OpPut, ID: []byte("s"), Items: []Item{{Key: []byte("x"), Value: []byte("y")}}, Condition: Condition{Kind: IfVersion, Version: wal.Version{Time: 5, Nonce: nonceOf(1)}}},
		}},
		{Mutations: []Mutation{{Op: OpBeginUpload, ID: []byte("r"), Items: []Item{bare}, Upload: Upload{ID: id, Expiry: 12}}}},
		{Mutations: []Mutation{{Op: OpChunk, ID: []byte("r"), Upload: Upload{ID: id, Index: 3, Data: []byte("data")}}}},
		{Mutations: []Mutation{{Op: OpCommitUpload, ID: []byte("r"), Items: []Item{bare}, Upload: Upload{ID: id, Chunks: 2, Size: 70_000, SHA256: [32]byte{9}}}}},
		{Mutations: []Mutation{{Op: OpAbortUpload, ID: []byte("r"), Upload: Upload{ID: id}}}},
	}}
}

func TestPayloadGoldenBytes(t *testing.T) {
	t.Parallel()
	p := samplePayload()
	got := hex.EncodeToString(AppendPayload(nil, &p))
	const file = "testdata/payload_v1.hex"
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
		t.Errorf("the encoding of a payload has changed:\n got %s\nwant %s", got, want)
	}
	raw, err := hex.DecodeString(got)
	if err != nil {
		t.Fatal(err)
	}
	var back Payload
	if err := DecodePayload(raw, &back); err != nil {
		t.Fatal(err)
	}
	if again := AppendPayload(nil, &back); !bytes.Equal(again, raw) {
		t.Errorf("a decoded payload encodes to other bytes:\n%x\n%x", again, raw)
	}
	// Cut anywhere, it is malformed and never something shorter.
	for i := range raw {
		var cut Payload
		if err := DecodePayload(raw[:i], &cut); err == nil {
			t.Errorf("the first %d of %d bytes are read as a payload", i, len(raw))
		}
	}
	if err := DecodePayload(append(raw, 0), &back); !errors.Is(err, wal.ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
}

// TestDecodeReusesMemoryWithoutTraces: what was decoded before must not show in
// what is decoded into the same memory.
func TestDecodeReusesMemoryWithoutTraces(t *testing.T) {
	t.Parallel()
	full := samplePayload()
	small := Payload{Calls: []Call{{Mutations: []Mutation{{Op: OpDeleteRecord, ID: []byte("z")}}}}}
	want := AppendPayload(nil, &small)
	var p Payload
	for _, b := range [][]byte{AppendPayload(nil, &full), want} {
		if err := DecodePayload(b, &p); err != nil {
			t.Fatal(err)
		}
	}
	m := p.Calls[0].Mutations[0]
	if !bytes.Equal(AppendPayload(nil, &p), want) || len(m.Items)+len(m.Keys) != 0 || m.Condition != (Condition{}) {
		t.Errorf("traces of the payload before: %+v", p)
	}
}

func FuzzDecodePayload(f *testing.F) {
	p := samplePayload()
	f.Add(AppendPayload(nil, &p))
	f.Add([]byte{1, 1, 0, 1, 4, 0, 1, 'r'})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Payload
		if err := DecodePayload(b, &p); err != nil {
			if !errors.Is(err, wal.ErrMalformed) && !errors.Is(err, wal.ErrUnknownVersion) {
				t.Fatalf("an error that the applier does not know: %v", err)
			}
			return
		}
		var again Payload
		if err := DecodePayload(AppendPayload(nil, &p), &again); err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
	})
}

// TestNormaliseIsOneAfterTheOther compares a normalised group, whose mutations all
// carry one time, with its mutations done one after the other.
func TestNormaliseIsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := []string{"a", "b", "c", "d"}
		var ms []Mutation
		put := map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			switch rapid.SampledFrom([]Op{OpPut, OpDeleteKeys, OpDeleteRange, OpDeleteRecord}).Draw(t, "op") {
			case OpPut:
				k := rapid.SampledFrom(keys).Draw(t, "key")
				if put[k] {
					continue // a key put twice is refused, unless a delete lies between; not drawn
				}
				put[k] = true
				ms = append(ms, Mutation{Op: OpPut, ID: []byte("r"), Items: []Item{{Key: []byte(k), Value: []byte("new")}}})
			case OpDeleteKeys:
				ms = append(ms, Mutation{Op: OpDeleteKeys, ID: []byte("r"), Keys: [][]byte{[]byte(rapid.SampledFrom(keys).Draw(t, "key"))}})
			case OpDeleteRange:
				ms = append(ms, Mutation{Op: OpDeleteRange, ID: []byte("r"), Range: Range{Start: []byte(rapid.SampledFrom(keys).Draw(t, "start")), Open: true}})
			default:
				ms = append(ms, Mutation{Op: OpDeleteRecord, ID: []byte("r")})
			}
		}
		if len(ms) == 0 {
			return
		}
		want := map[string]string{"a": "old", "b": "old", "c": "old", "d": "old"}
		for i := range ms {
			for _, k := range keys {
				if covers(&ms[i], []byte(k)) {
					delete(want, k)
				}
			}
			for _, it := range ms[i].Items {
				want[string(it.Key)] = string(it.Value)
			}
		}
		r := &Request{Mutations: ms}
		if err := normalise(r); err != nil {
			t.Fatal(err)
		}
		// Now by versions: Early at time 9, the others at 10, a delete over a put of
		// the same time.
		got := map[string]string{}
		for _, k := range keys {
			deleted, live := int64(0), int64(1)
			value := "old"
			for i := range r.Mutations {
				m := &r.Mutations[i]
				at := int64(10)
				if m.Early {
					at = 9
				}
				if covers(m, []byte(k)) {
					deleted = max(deleted, at)
				}
				if hasKey(m, []byte(k)) {
					live, value = at, "new"
				}
			}
			if live > deleted {
				got[k] = value
			}
		}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

// nonceOf is the n-th of some nonces that are in order.
func nonceOf(n int64) (x wal.Nonce) {
	binary.BigEndian.PutUint64(x[8:], uint64(n))
	return x
}
