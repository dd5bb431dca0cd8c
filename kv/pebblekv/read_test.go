package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// TestAReadEndsWithTheErrorOfEach holds it for the three ways of a read.
func TestAReadEndsWithTheErrorOfEach(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem(), 1))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	w := s.Begin(0)
	for i := range 10 {
		w.Put([]byte("r"), wal.Version{Time: 1}, &kv.StoredItem{Key: fmt.Appendf(nil, "%d", i)})
	}
	if err := w.Commit(ctx, kv.State{}); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for name, q := range map[string]*kv.Query{
		"record": {},
		"keys":   {HasKeys: true, Keys: [][]byte{[]byte("1"), []byte("2"), []byte("3")}},
		"key":    {HasKeys: true, Keys: [][]byte{[]byte("1")}},
	} {
		q.ID, q.MaxBytes = []byte("r"), 1<<20
		n := 0
		q.Each = func(*kv.StoredItem) error {
			n++
			return stop
		}
		if _, err := s.Get(ctx, q); n != 1 || !errors.Is(err, stop) {
			t.Errorf("%s: %d items were given, %v; want 1 and the error", name, n, err)
		}
	}
}
