package pebbletokens

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// BenchmarkAdd commits entries of 49 bytes, 512 to a batch.
func BenchmarkAdd(b *testing.B) {
	s := open(b, vfs.NewMem(), 0)
	defer s.close()
	const perBatch = 512
	c, w := s.tab.NewChange(0), s.db.NewBatch()
	var order Order
	ids := make([]wal.TokenID, perBatch)
	var state []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ids[i%perBatch] = identity(i)
		order.Add(&ids[i%perBatch], i%perBatch)
		if i%perBatch < perBatch-1 {
			continue
		}
		for at := range order.Sorted() {
			op := c.Add(w, &ids[at], int64(i), 49)
			op.Value[0] = byte(i)
			if err := op.Finish(); err != nil {
				b.Fatal(err)
			}
		}
		order.Reset()
		var err error
		state, err = c.AppendState(state[:0])
		if err := errors.Join(err, w.Set(stateKey, state, nil), s.db.Apply(w, pebble.NoSync)); err != nil {
			b.Fatal(err)
		}
		c.Committed()
		w.Reset()
	}
}

func BenchmarkLookupNeverSeen(b *testing.B) {
	s := open(b, vfs.NewMem(), 0)
	defer s.close()
	s.commit(func(c *Change, w *pebble.Batch) {
		for i := range 100_000 {
			add(b, c, w, i, int64(i)<<7, "")
		}
	})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.tab.Lookup(0, identity(1<<40+i), func([]byte) error { return errors.New("found") }); err != nil {
			b.Fatal(err)
		}
	}
}
