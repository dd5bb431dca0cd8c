package kv

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestCanonicalFormOfARequest holds the form that hashes are made of: stores
// remember them.
func TestCanonicalFormOfARequest(t *testing.T) {
	t.Parallel()
	id, key := []byte("id"), []byte("k")
	v := wal.Version{Time: 5, Class: wal.Expiring, Expiry: 6, Nonce: wal.Nonce{7, 15: 8}}
	version := "0000000000000005 01 0000000000000006 07" + strings.Repeat("00", 14) + "08"
	upload := "aa" + strings.Repeat("00", 15)
	for _, c := range []struct {
		what, form string
		ms         []Mutation
	}{
		{"put", "01 026964 00 02 0176 016b 80c2d72f 047a737464 036d2f74 00 00 00 00 00",
			[]Mutation{{Op: OpPut, ID: id, Items: []Item{{Key: key, Value: []byte("v"), TTL: 100_000_000, Compression: "zstd", ContentType: "m/t"}, {}}}}},
		{"put if absent", "01 026964 01 01 00 016b 00 00 00",
			[]Mutation{{Op: OpPut, ID: id, Condition: Condition{Kind: IfAbsent}, Items: []Item{{Key: key}}}}},
		{"delete keys if version", "02 026964 02" + version + "01 016b",
			[]Mutation{{Op: OpDeleteKeys, ID: id, Condition: Condition{IfVersion, v}, Keys: [][]byte{key}}}},
		{"delete range", "03 026964 00 00 0161 0162", []Mutation{{Op: OpDeleteRange, ID: id, Range: Range{Start: []byte("a"), End: []byte("b")}}}},
		{"delete open range", "03 026964 00 01 0161 00", []Mutation{{Op: OpDeleteRange, ID: id, Range: Range{Start: []byte("a"), Open: true}}}},
		{"delete record", "04 026964 00", []Mutation{{Op: OpDeleteRecord, ID: id}}},
		{"begin upload", "05 026964 00 016b 07 00 00",
			[]Mutation{{Op: OpBeginUpload, ID: id, Items: []Item{{Key: key, TTL: 7}}, Upload: Upload{ID: UploadID{9}, Expiry: 9}}}},
		{"commit upload", "07 026964 00" + upload + "03 ac02" + strings.Repeat("bb", 32),
			[]Mutation{{Op: OpCommitUpload, ID: id, Items: []Item{{Key: key, TTL: 7}}, Upload: Upload{ID: UploadID{0xaa}, Chunks: 3, Size: 300, SHA256: [32]byte(bytes.Repeat([]byte{0xbb}, 32))}}}},
		{"group", "04 026964 00 01 026964 00 01 00 016b 00 00 00",
			[]Mutation{{Op: OpDeleteRecord, ID: id}, {Op: OpPut, ID: id, Items: []Item{{Key: key}}}}},
		{"large value", "01 026964 00 01 8010" + strings.Repeat("11", 2048) + "016b 00 00 00",
			[]Mutation{{Op: OpPut, ID: id, Items: []Item{{Key: key, Value: bytes.Repeat([]byte{0x11}, 2048)}}}}},
	} {
		form, err := hex.DecodeString(strings.ReplaceAll(c.form, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(form)
		if got := hashOf(c.ms); got[0] != 1 || !bytes.Equal(got[1:], sum[:15]) {
			t.Errorf("%s: hash %s is not of the form that is written down", c.what, got)
		}
		// What follows from a request is no part of it.
		for i := range c.ms {
			c.ms[i].Early = true
			for j := range c.ms[i].Items {
				c.ms[i].Items[j].Expiry = 77
			}
		}
		if got := hashOf(c.ms); !bytes.Equal(got[1:], sum[:15]) {
			t.Errorf("%s: the hash is of more than was sent", c.what)
		}
	}
}
