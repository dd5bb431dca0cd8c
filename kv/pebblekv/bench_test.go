package pebblekv

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const benchBatch = 512

// applyPuts commits n puts of 100 bytes, each with a token, in batches.
func applyPuts(b testing.TB, s *Store, from, n int) {
	ctx := context.Background()
	value := make([]byte, 100)
	id := []byte("record-00000000")
	key := []byte("item-key")
	it := kv.StoredItem{Key: key, Value: value}
	st := kv.State{Applied: wal.Offset(from) - 1}
	tokens := make([]wal.TokenID, benchBatch) // drawn by clients, not by the applier
	for i := 0; i < n; i += benchBatch {
		if tb, ok := b.(*testing.B); ok {
			tb.StopTimer()
		}
		for j := range tokens {
			tokens[j] = wal.TokenID(wal.NewNonce())
		}
		if tb, ok := b.(*testing.B); ok {
			tb.StartTimer()
		}
		batch := s.Begin(0)
		for j := i; j < min(i+benchBatch, n); j++ {
			// Spread over the key space, as ids are.
			binary.BigEndian.PutUint64(id[7:], uint64(from+j)*0x9e3779b97f4a7c15)
			v := wal.Version{Time: int64(from + j + 1), Nonce: nonceOf(int64(from + j))}
			binary.BigEndian.PutUint64(value, uint64(j)*0xbf58476d1ce4e5b9)
			batch.Put(id, v, &it)
			batch.SaveToken(&kv.TokenEntry{ID: tokens[j-i], Hash: wal.Hash(value[:16]), Offset: wal.Offset(from + j), LogTime: v.Time, AcceptedAt: v.Time, Time: v.Time, Outcome: kv.Applied})
		}
		st.Applied = wal.Offset(min(i+benchBatch, n))
		if err := batch.Commit(ctx, st); err != nil {
			b.Fatal(err)
		}
	}
}

func benchStore(b *testing.B) *Store {
	s := mustOpen(b, Config{Dir: b.TempDir(), Partitions: 1, Cache: pebble.NewCache(256 << 20)})
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		s.cfg.Cache.Unref()
	})
	return s
}

func BenchmarkApply(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	b.ResetTimer()
	applyPuts(b, s, 0, b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}

func BenchmarkPointGet(b *testing.B) {
	const n = 1_000_000
	s := benchStore(b)
	applyPuts(noTimer{b}, s, 0, n)
	if err := s.DB.Flush(); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	id := []byte("record-00000000")
	q := kv.Query{ID: id, HasKeys: true, Keys: [][]byte{[]byte("item-key")}, MaxBytes: 1 << 20, Now: 1}
	get := func(i int) {
		binary.BigEndian.PutUint64(id[7:], uint64(i%10_000)*0x9e3779b97f4a7c15)
		p, err := s.Get(ctx, &q)
		if err != nil || len(p.Items) != 1 {
			b.Fatalf("%+v %v", p, err)
		}
	}
	for i := range 10_000 {
		get(i)
	}
	b.Run("hot", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			get(i)
		}
	})
	b.Run("hot with range tombstones elsewhere", func(b *testing.B) {
		w := s.Begin(0)
		for i := range 10_000 {
			binary.BigEndian.PutUint64(id[7:], uint64(i)*0x9e3779b97f4a7c15)
			w.DeleteRange(id, kv.Range{Start: []byte("x"), End: []byte("y")}, wal.Version{Time: 1 << 40, Class: wal.Deleted}, false)
		}
		if err := w.Commit(ctx, kv.State{}); err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		for i := range b.N {
			get(i)
		}
	})
	b.Run("unknown token", func(b *testing.B) {
		n := wal.TokenID(wal.NewNonce())
		for i := range b.N {
			binary.BigEndian.PutUint64(n[:], uint64(i))
			if _, ok, err := s.Token(ctx, 0, n); ok || err != nil {
				b.Fatal(err)
			}
		}
	})
}

// noTimer keeps applyPuts from the timer of a benchmark.
type noTimer struct{ testing.TB }

func BenchmarkPage(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("2 MiB of %d B", size), func(b *testing.B) {
			s := benchStore(b)
			ctx := context.Background()
			w := s.Begin(0)
			for i := range (4 << 20) / size {
				w.Put([]byte("r"), wal.Version{Time: 1, Nonce: nonceOf(1)}, &kv.StoredItem{Key: fmt.Appendf(nil, "%08d", i), Value: make([]byte, size)})
			}
			if err := w.Commit(ctx, kv.State{}); err != nil {
				b.Fatal(err)
			}
			if err := s.DB.Flush(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(2 << 20)
			b.ResetTimer()
			for range b.N {
				p, err := s.Get(ctx, &kv.Query{ID: []byte("r"), MaxBytes: 2 << 20})
				if err != nil || !p.More {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeleteRecord shows that the cost does not depend on the items.
func BenchmarkDeleteRecord(b *testing.B) {
	for _, n := range []int{1, 100_000} {
		b.Run(fmt.Sprintf("%d items", n), func(b *testing.B) {
			s := benchStore(b)
			ctx := context.Background()
			for i := 0; i < n; i += 10_000 {
				w := s.Begin(0)
				for j := i; j < min(i+10_000, n); j++ {
					w.Put([]byte("r"), wal.Version{Time: 1, Nonce: nonceOf(1)}, &kv.StoredItem{Key: fmt.Appendf(nil, "%08d", j), Value: make([]byte, 100)})
				}
				if err := w.Commit(ctx, kv.State{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for i := range b.N {
				w := s.Begin(0)
				w.DeleteRecord([]byte("r"), wal.Version{Time: int64(i + 2), Class: wal.Deleted}, true)
				if err := w.Commit(ctx, kv.State{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
