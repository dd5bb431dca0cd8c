package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/cmd/headwater/benchload"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/kafkalog"
)

const (
	kafkaVariable  = "HEADWATER_TEST_KAFKA"
	kafkaCallers   = 8
	kafkaPerAppend = 1000

	brokerNote = "the broker is on the same CPUs and counts as elsewhere"
)

// kafkaLog compares appends to a log on Kafka with franz-go producing the same
// bytes to topics of the same settings, both idempotent and with acks=all.
func kafkaLog(ctx context.Context, h *harness) (err error) {
	at := os.Getenv(kafkaVariable)
	if at == "" {
		h.note("kafkalog: skipped, %s is not set; start a broker with `go run ./deploy/engines up kafka` and `. ./.engines/env`", kafkaVariable)
		return nil
	}
	brokers := strings.Split(at, ",")
	b, err := kafkalog.Open(ctx, kafkalog.Config{Brokers: brokers, AllowUnsafe: true, Logger: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	k := &kafkaSides{h: h, brokers: brokers}
	// Topics are made by kafkalog, so that both sides write to the same kind.
	for _, t := range []*wal.Log{&k.log, &k.raw} {
		name := "headwater.bench." + strings.ToLower(rand.Text()[:10]) + ".1"
		if *t, err = b.Create(ctx, wal.TopicSpec{Name: name, Partitions: appendPartitions}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Delete(context.WithoutCancel(ctx), name)) }()
	}
	for _, size := range []int{100, 1024} {
		if err := k.batches(ctx, size); err != nil {
			return err
		}
	}
	return k.single(ctx)
}

type kafkaSides struct {
	h        *harness
	brokers  []string
	log, raw wal.Log
}

// client is franz-go as one would set it up for the same promise. buffered is how
// many records may be under way.
func (k *kafkaSides) client(buffered int) (*kgo.Client, error) {
	return kgo.NewClient(
		kgo.SeedBrokers(k.brokers...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(8<<20), kgo.MaxBufferedRecords(buffered),
	)
}

// batches keeps 8,000 records under way: on the log by 8 callers with 1,000 each,
// on franz-go by producing asynchronously up to that bound, its fastest way.
func (k *kafkaSides) batches(ctx context.Context, size int) error {
	data := make([]byte, size)
	subject := side{"kafkalog", func(ctx context.Context, _ int) (float64, error) {
		m := benchload.Loop(ctx, kafkaCallers, k.h.duration, nil, func(ctx context.Context, c, _ int) (int, error) {
			entries := make([]wal.NewEntry, kafkaPerAppend)
			for i := range entries {
				entries[i] = wal.NewEntry{Partition: wal.Partition(c % appendPartitions), Data: data}
			}
			for _, r := range k.log.Append(ctx, wal.Sync, entries) {
				if r.Err != nil {
					return 0, r.Err
				}
			}
			return kafkaPerAppend, nil
		})
		return m.PerSecond(), firstError(m)
	}}
	peer := side{"franz-go", func(ctx context.Context, _ int) (float64, error) {
		cl, err := k.client(kafkaCallers * kafkaPerAppend)
		if err != nil {
			return 0, err
		}
		defer cl.Close()
		topic := k.raw.Info().Name
		var acked atomic.Int64
		var failed atomic.Pointer[error]
		start := time.Now()
		var wg sync.WaitGroup
		for c := range kafkaCallers {
			wg.Go(func() {
				for time.Since(start) < k.h.duration {
					for range 100 {
						cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(c % appendPartitions), Value: data}, func(_ *kgo.Record, err error) {
							if err != nil {
								failed.Store(&err)
								return
							}
							acked.Add(1)
						})
					}
				}
			})
		}
		wg.Wait()
		err = cl.Flush(ctx)
		if p := failed.Load(); p != nil {
			err = errors.Join(err, *p)
		}
		return float64(acked.Load()) / time.Since(start).Seconds(), err
	}}
	return k.h.compare(ctx, fmt.Sprintf("batches of %d B records, 8,000 under way", size), "records/s", atLeast(0.9), subject, &peer,
		"kafkalog: 8 callers append 1,000 records each and wait; franz-go: produces without waiting, with at most as many under way; "+brokerNote)
}

// single is 64 callers that append one record and wait for it.
func (k *kafkaSides) single(ctx context.Context) error {
	data := make([]byte, 100)
	subject := side{"kafkalog", func(ctx context.Context, _ int) (float64, error) {
		m := benchload.Loop(ctx, appendCallers, k.h.duration, nil, func(ctx context.Context, c, _ int) (int, error) {
			return 1, k.log.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: wal.Partition(c % appendPartitions), Data: data}})[0].Err
		})
		return m.PerSecond(), firstError(m)
	}}
	peer := side{"franz-go", func(ctx context.Context, _ int) (float64, error) {
		cl, err := k.client(10_000)
		if err != nil {
			return 0, err
		}
		defer cl.Close()
		topic := k.raw.Info().Name
		m := benchload.Loop(ctx, appendCallers, k.h.duration, nil, func(ctx context.Context, c, _ int) (int, error) {
			return 1, cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(c % appendPartitions), Value: data}).FirstErr()
		})
		return m.PerSecond(), firstError(m)
	}}
	return k.h.compare(ctx, "one record of 100 B each, 64 callers", "records/s", atLeast(0.9), subject, &peer, brokerNote)
}
