package client_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

func TestUploadsKeepWhatTheyWereSentWith(t *testing.T) {
	t.Parallel()
	kv := clienttest.New(t).KV("demo-kv")
	value := make([]byte, 2<<20, 4<<20)
	if _, err := rand.NewChaCha8([32]byte{}).Read(value); err != nil {
		t.Fatal(err)
	}
	value = append(value, make([]byte, 2<<20)...) // half of it can be compressed away
	for _, compression := range []string{client.Uncompressed, client.Zstd, client.S2} {
		it := client.PutItem{Key: compression, Value: value, TTL: time.Hour, ContentType: "text/plain", Compression: compression}
		if _, err := kv.PutItems(t.Context(), "id", []client.PutItem{it}, client.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := kv.Get(t.Context(), "id", compression)
		if err != nil || !bytes.Equal(got.Value, value) || got.ContentType != "text/plain" || (got.Compression == "") != (compression == client.Uncompressed) || time.Until(got.ExpiresAt) < time.Minute {
			t.Errorf("%s: %d bytes of %q, compression %q, expires %v, %v", compression, len(got.Value), got.ContentType, got.Compression, got.ExpiresAt, err)
		}
	}
}
