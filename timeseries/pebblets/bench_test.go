package pebblets

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// BenchmarkDropSlice is what the sweep that drops a slice costs, of 10,000 and of 10,000,000 events of
// 100 bytes with an indexed item, beside another of 10,000 that stays. ns/op is of one sweep; making the
// slice, and looking for series without events, which is bounded by itself, are not counted.
//
//	go test ./timeseries/pebblets -run NONE -bench DropSlice -benchtime 1x -count 5 -timeout 1h
func BenchmarkDropSlice(b *testing.B) {
	for _, n := range []int{10_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				s, err := Open(Config{FS: vfs.Default, Dir: b.TempDir(), Partitions: 1})
				if err != nil {
					b.Fatal(err)
				}
				goes := timeseries.Slice{Start: 0, End: 1 << 40, EventBuckets: 4, Index: timeseries.NewIndexKeys([]string{"k"})}
				stays := timeseries.Slice{Start: 1 << 40, End: 1 << 41, EventBuckets: 4, Index: goes.Index}
				at := fillSlice(b, s, goes, n, 0)
				fillSlice(b, s, stays, 10_000, at)
				if _, err := s.Sync(b.Context()); err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				b.StartTimer()
				res, err := s.Sweep(b.Context(), &timeseries.SweepRequest{Limit: 1, Drop: func(x timeseries.Slice) bool { return x.Start == goes.Start }})
				b.StopTimer()
				if err != nil || res.Slices != 1 {
					b.Fatalf("%+v %v", res, err)
				}
				b.Logf("%d events: %v", n, time.Since(began))
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// fillSlice writes n events of 1,000 series into a slice and returns the next offset.
func fillSlice(b *testing.B, s *Store, x timeseries.Slice, n int, o wal.Offset) wal.Offset {
	b.Helper()
	const atOnce = 10_000
	var id [8]byte
	text := make([]byte, 60)
	for from := 0; from < n; from += atOnce {
		w := s.Begin(0)
		if from == 0 {
			w.AddSlice(x)
		}
		for i := from; i < min(from+atOnce, n); i++ {
			binary.BigEndian.PutUint64(id[:], uint64(i))
			items := timeseries.AppendItems(nil, []timeseries.Item{
				{Key: []byte("k"), Value: valueNumber(int64(i % 100))}, {Key: []byte("text"), Value: timeseries.Value{Kind: timeseries.String, Text: text}},
			})
			w.AddEvent(timeseries.Order{Decided: o, Record: o, Index: i - from}, x, fmt.Appendf(nil, "series-%d", i%1000), x.Start+int64(i), id[:], items)
		}
		if err := w.Commit(context.Background(), consumers.State{Applied: o}); err != nil {
			b.Fatal(err)
		}
		o++
	}
	return o
}
