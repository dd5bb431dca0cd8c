package kafkalog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

const benchPartitions = 4

// benchLog is on a real broker when there is one, else on the stand-in, whose
// numbers compare the two clients and say nothing of Kafka.
func benchLog(b *testing.B, linger time.Duration) *Log {
	b.Helper()
	cfg := Config{AllowUnsafe: true, Linger: linger, QueueBytes: 256 << 20}
	if at := benchBrokers(); at != nil {
		cfg.Brokers = at
		return engineTopic(b, openBroker(b, cfg), benchPartitions)
	}
	cfg.Brokers = newCluster(b).ListenAddrs()
	return createLog(b, openBroker(b, cfg), "headwater.bench.a.1", benchPartitions)
}

// rawClient is franz-go as one would set it up for the same promise.
func rawClient(b *testing.B, l *Log, linger time.Duration) *kgo.Client {
	b.Helper()
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(l.b.cfg.Brokers...),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(maxMessageBytes),
		kgo.MaxBufferedRecords(1<<20),
	)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cl.Close)
	return cl
}

// BenchmarkUnary is 64 callers that append one record and wait.
func BenchmarkUnary(b *testing.B) {
	const callers = 64
	data := make([]byte, 100)
	each := func(b *testing.B, one func(p int32) error) {
		var left atomic.Int64
		left.Store(int64(b.N))
		b.ResetTimer()
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					if err := one(int32(c % benchPartitions)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	}
	for _, linger := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		l := benchLog(b, linger)
		b.Run(fmt.Sprintf("linger=%s/kafkalog", linger), func(b *testing.B) {
			each(b, func(p int32) error {
				return l.Append(context.Background(), wal.Sync, []wal.NewEntry{{Partition: wal.Partition(p), Data: data}})[0].Err
			})
		})
		cl := rawClient(b, l, linger)
		b.Run(fmt.Sprintf("linger=%s/franz-go", linger), func(b *testing.B) {
			each(b, func(p int32) error {
				return cl.ProduceSync(context.Background(), &kgo.Record{Topic: l.info.Name, Partition: p, Value: data}).FirstErr()
			})
		})
	}
}

// BenchmarkBatch is 8 callers that append 1,000 records a call and wait. b.N
// counts records.
func BenchmarkBatch(b *testing.B) {
	const callers, batch = 8, 1000
	each := func(b *testing.B, size int, call func(p int32) error) {
		b.SetBytes(int64(size))
		var left atomic.Int64
		left.Store(int64(b.N))
		b.ResetTimer()
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for left.Add(-batch) > -batch {
					if err := call(int32(c % benchPartitions)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	}
	for _, size := range []int{100, 1024} {
		data := make([]byte, size)
		l := benchLog(b, 0)
		cl := rawClient(b, l, 0)
		b.Run(fmt.Sprintf("%dB/kafkalog", size), func(b *testing.B) {
			each(b, size, func(p int32) error {
				entries := make([]wal.NewEntry, batch)
				for i := range entries {
					entries[i] = wal.NewEntry{Partition: wal.Partition(p), Data: data}
				}
				for _, r := range l.Append(context.Background(), wal.Sync, entries) {
					if r.Err != nil {
						return r.Err
					}
				}
				return nil
			})
		})
		b.Run(fmt.Sprintf("%dB/franz-go", size), func(b *testing.B) {
			each(b, size, func(p int32) error {
				records := make([]kgo.Record, batch)
				pointers := make([]*kgo.Record, batch)
				for i := range records {
					records[i] = kgo.Record{Topic: l.info.Name, Partition: p, Value: data}
					pointers[i] = &records[i]
				}
				return cl.ProduceSync(context.Background(), pointers...).FirstErr()
			})
		})
	}
}
