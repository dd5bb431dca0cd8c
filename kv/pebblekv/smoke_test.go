package pebblekv

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	s, err := Open(Config{FS: fs, Dir: "d", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	b := s.Begin(1)
	for i := range 10 {
		b.Put([]byte("id"), wal.Version{Time: int64(i + 1), Offset: wal.Offset(i)}, &kv.StoredItem{Key: []byte{'k', byte(i)}, Value: []byte("v")})
	}
	b.DeleteRange([]byte("id"), kv.Range{Start: []byte{'k', 2}, End: []byte{'k', 5}}, wal.Version{Time: 50, Class: wal.Deleted}, true)
	n := wal.NewNonce()
	b.SaveToken(&kv.TokenEntry{Nonce: n, LogTime: 5, Offset: 3, Outcome: kv.Applied})
	if err := b.Commit(ctx, kv.State{Applied: 9}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p, err := s.Get(ctx, &kv.Query{Partition: 1, ID: []byte("id"), MaxBytes: 1 << 20})
		if err != nil || len(p.Items) != 7 {
			t.Fatal(err, p)
		}
		it, _, ok, err := s.Item(ctx, 1, []byte("id"), []byte{'k', 3}, 0)
		if err != nil || ok {
			t.Fatal(err, it)
		}
		it, _, ok, err = s.Item(ctx, 1, []byte("id"), []byte{'k', 1}, 0)
		if err != nil || !ok || string(it.Value) != "v" {
			t.Fatal(err, it)
		}
		if e, ok, err := s.Token(ctx, 1, n); err != nil || !ok || e.Offset != 3 {
			t.Fatal(err, e)
		}
		if st, err := s.State(ctx, 1); err != nil || st.Applied != 9 || st.Tokens != 1 {
			t.Fatal(err, st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(Config{FS: fs, Dir: "d", Partitions: 2}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
