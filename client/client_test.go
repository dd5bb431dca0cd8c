package client

import (
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPutThenGet(t *testing.T) {
	c := newMemServer().start(t, Config{})
	kv := c.KV("ns")
	res, err := kv.Put(t.Context(), "id", "k", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	if res.Position == "" || res.Token.IsZero() || res.Durability != Sync || res.Duplicate != New || len(res.Versions) != 1 {
		t.Errorf("result %+v", res)
	}
	it, err := kv.Get(t.Context(), "id", "k")
	if err != nil {
		t.Fatal(err)
	}
	if string(it.Value) != "v" || it.Version != res.Versions[0] || it.Key != "k" || !it.WrittenAt.Equal(res.Token.Time) {
		t.Errorf("item %+v, result %+v", it, res)
	}
	if _, err := kv.Get(t.Context(), "id", "absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}
