package client

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkPut is durable puts of 100 bytes from 64 goroutines to a server in
// another process: HEADWATER_BENCH_ADDRESS says where.
func BenchmarkPut(b *testing.B) {
	address := os.Getenv("HEADWATER_BENCH_ADDRESS")
	if address == "" {
		b.Skip("HEADWATER_BENCH_ADDRESS is not set")
	}
	for _, flight := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("in-flight=%d", flight), func(b *testing.B) {
			kv := dial(b, address, Config{BatchInFlight: flight}).KV("demo-kv")
			value := make([]byte, 100)
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			for range 64 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						if _, err := kv.Put(b.Context(), fmt.Sprintf("id-%d", i), "k", value); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}
