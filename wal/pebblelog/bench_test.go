package pebblelog

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

// The benchmarks write to the real disk, under the directory for temporary files.

const benchCallers = 64

func runCallers(b *testing.B, call func(caller, i int) error) {
	var next atomic.Int64
	errs := make(chan error, benchCallers)
	b.ResetTimer()
	for c := range benchCallers {
		go func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					errs <- nil
					return
				}
				if err := call(c, int(i)); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range benchCallers {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAppend: single durable appends of 100 and 1,000 bytes from 64
// goroutines, through the log and as raw Pebble commits of the same keys and bytes.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1000} {
		data := make([]byte, size)
		b.Run(fmt.Sprintf("log/%d", size), func(b *testing.B) {
			log := mustOpen(b, Config{Dir: b.TempDir(), FreeSpaceFloor: -1, Logger: quiet})
			defer closeBroker(b, log)
			l := mustCreate(b, log, "headwater.bench.a.1", 4)
			runCallers(b, func(c, _ int) error {
				return l.Append(context.Background(), wal.Sync, []wal.NewEntry{{Partition: wal.Partition(c % 4), Data: data}})[0].Err
			})
		})
		b.Run(fmt.Sprintf("raw/%d", size), func(b *testing.B) {
			db, err := pebble.Open(b.TempDir(), &pebble.Options{
				FS: vfs.Default, FormatMajorVersion: pebble.FormatNewest, MemTableSize: defaultMemTable,
				MemTableStopWritesThreshold: 4, L0StopWritesThreshold: 1000,
				Logger: pebblefail.New(wal.ErrFailed, func(err error) { panic(err) }).Logger(quiet),
			})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			value := make([]byte, frameHeader+size)
			runCallers(b, func(c, i int) error {
				return db.Set(recordKey(1, wal.Partition(c%4), wal.Offset(i)), value, pebble.Sync)
			})
		})
	}
}

// BenchmarkRead: catching up over records of 100 bytes.
func BenchmarkRead(b *testing.B) {
	log := mustOpen(b, Config{Dir: b.TempDir(), FreeSpaceFloor: -1, Logger: quiet})
	defer closeBroker(b, log)
	l := mustCreate(b, log, "headwater.bench.a.1", 4)
	const n = 2_000_000
	entries := make([]wal.NewEntry, 10_000)
	for i := range entries {
		entries[i] = wal.NewEntry{Partition: wal.Partition(i % 4), Data: make([]byte, 100)}
	}
	for range n / len(entries) {
		if err := l.Append(b.Context(), wal.Sync, entries)[0].Err; err != nil {
			b.Fatal(err)
		}
	}
	read := 0
	for b.Loop() {
		for p := range wal.Partition(4) {
			r, err := l.Read(b.Context(), p, 0)
			if err != nil {
				b.Fatal(err)
			}
			for left := n / 4; left > 0; {
				got, err := r.Next(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				left -= len(got)
				read += len(got)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "records/s")
}
