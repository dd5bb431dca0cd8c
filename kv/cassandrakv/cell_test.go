package cassandrakv

import (
	"bytes"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

func at(t int64) wal.Version { return wal.Version{Time: t, Nonce: wal.Nonce{15: byte(t)}} }

func FuzzCell(f *testing.F) {
	for _, v := range []wal.Version{at(5), {Time: 5, Class: wal.Expiring, Expiry: 99, Nonce: wal.Nonce{1}}} {
		f.Add(appendCell(&v, &kv.StoredItem{Key: []byte("k"), Value: []byte("value"), Compression: "zstd", ContentType: "text/plain"}))
		f.Add(appendCell(&v, &kv.StoredItem{Key: []byte("k"), Upload: kv.UploadID{1}, Chunks: 2, Size: 300}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, v, err := parseCell(b, 5)
		if err != nil {
			return
		}
		it := c.Copy([]byte("k"), v, false)
		again, w, err := parseCell(appendCell(&v, &it), 5)
		if err != nil || w != v || !bytes.Equal(again.Value, c.Value) || again.Size() != c.Size() {
			t.Errorf("%x is written as %x: %v", b, appendCell(&v, &it), err)
		}
	})
}

func TestTTL(t *testing.T) {
	t.Parallel()
	const logTime = 1_000_000_000_000
	for name, c := range map[string]struct {
		version wal.Version
		seconds int
	}{
		"for ever":                 {at(1), 0},
		"ends in a microsecond":    {wal.Version{Class: wal.Expiring, Expiry: logTime + 1}, 1 + ttlMargin},
		"ends now":                 {wal.Version{Class: wal.Expiring, Expiry: logTime}, ttlMargin},
		"ended a minute ago":       {wal.Version{Class: wal.Expiring, Expiry: logTime - 60*second}, ttlMargin - 60},
		"ended long ago":           {wal.Version{Class: wal.Expiring, Expiry: 1}, 1},
		"ends in an hour":          {wal.Version{Class: wal.Expiring, Expiry: logTime + 3600*second}, 3600 + ttlMargin},
		"ends in 20 years":         {wal.Version{Class: wal.Expiring, Expiry: logTime + largestTTL*second}, 0},
		"ends at the end of int64": {wal.Version{Class: wal.Expiring, Expiry: 1<<63 - 1}, 0},
	} {
		if s := ttl(&c.version, logTime); s != c.seconds {
			t.Errorf("%s: %d s, want %d", name, s, c.seconds)
		}
	}
}
