package pebblecounter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

func benchStore(b *testing.B) *Store {
	cache := pebble.NewCache(256 << 20)
	s := mustOpen(b, Config{Dir: b.TempDir(), Partitions: 1, Cache: cache})
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		cache.Unref()
	})
	return s
}

// shuffled are names of n counters, in no order.
func shuffled(n int) [][]byte {
	names := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Appendf(nil, "views/article-%08d", i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func benchRow(i int) counter.Row {
	const now = 1_760_000_000_000_000
	at := counter.Bucket{Lo: uint64(i % 1000), Adds: int64(i%1000) + 1}
	return counter.Row{
		ID: uint64(i + 1), Value: int64(i), LastOffset: 1 << 30, LastEvent: 1 << 30,
		Open: []counter.OpenBucket{{Start: now - now%minute, Bucket: at}, {Start: now - now%(60*minute), Bucket: at}},
	}
}

const minute = 60_000_000

// BenchmarkFlush commits 100,000 rows at once, as the applier does each second.
func BenchmarkFlush(b *testing.B) {
	const n = 100_000
	s := benchStore(b)
	names := shuffled(n)
	row := benchRow(12345)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w := s.Begin(0)
		for j, name := range names {
			row.ID, row.Value = uint64(j), int64(i)
			w.SaveCounter(name, &row)
		}
		if err := w.Commit(context.Background(), counter.State{State: consumers.State{Applied: wal.Offset(i)}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkEvents(b *testing.B) {
	s := benchStore(b)
	row := make([]byte, 20<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range row {
		row[i] = byte(rng.Uint32())
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(row)) * 50)
	o := wal.Offset(0)
	for b.Loop() {
		w := s.Begin(0)
		for range 50 {
			w.SaveEvents(o, row)
			o++
		}
		if err := w.Commit(context.Background(), counter.State{State: consumers.State{Applied: o}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWindows adds to the windows of 100,000 counters.
func BenchmarkWindows(b *testing.B) {
	const n = 100_000
	s := benchStore(b)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		w := s.Begin(0)
		for id := range uint64(n) {
			w.AddWindow(id*0x9e3779b97f4a7c15%n, time.Minute, i/60*minute, counter.Bucket{Lo: id, Adds: 3})
		}
		if err := w.Commit(context.Background(), counter.State{State: consumers.State{Applied: wal.Offset(i)}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkCounters reads random ones of a million.
func BenchmarkCounters(b *testing.B) {
	const n = 1_000_000
	s := benchStore(b)
	names := shuffled(n)
	for i := 0; i < n; i += 50_000 {
		w := s.Begin(0)
		for j := i; j < i+50_000; j++ {
			row := benchRow(j)
			w.SaveCounter(names[j], &row)
		}
		if err := w.Commit(context.Background(), counter.State{State: consumers.State{Applied: wal.Offset(i)}}); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	for _, many := range []int{1, 10, 1000} {
		for _, there := range []bool{true, false} {
			b.Run(fmt.Sprintf("many=%d/there=%v", many, there), func(b *testing.B) {
				rows, found := make([]counter.Row, many), make([]bool, many)
				ask := make([][]byte, many)
				rng := rand.New(rand.NewPCG(3, 4))
				b.ReportAllocs()
				for b.Loop() {
					for i := range ask {
						ask[i] = names[rng.IntN(n)]
						if !there {
							ask[i] = append(ask[i][:len(ask[i]):len(ask[i])], 'x')
						}
					}
					if err := s.Counters(ctx, 0, ask, rows, found); err != nil || found[0] != there {
						b.Fatal(found[0], err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/row")
			})
			if many > 1 {
				b.Run(fmt.Sprintf("many=%d/there=%v/gets", many, there), func(b *testing.B) {
					var row counter.Row
					rng := rand.New(rand.NewPCG(3, 4))
					b.ReportAllocs()
					for b.Loop() {
						for range many {
							name := names[rng.IntN(n)]
							if !there {
								name = append(name[:len(name):len(name)], 'x')
							}
							if _, err := s.DB.View(appendCounterKey(nil, 0, name), func(v []byte) error { return rowcodec.DecodeRow(v, &row) }); err != nil {
								b.Fatal(err)
							}
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/row")
				})
			}
		}
	}
}
