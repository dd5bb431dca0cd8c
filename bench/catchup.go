package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/wal"
)

// catchUp applies a log to a new store, as a start after a long stop or a rebuild
// does. The log is written once and read in every turn.
func catchUp(ctx context.Context, h *harness) error {
	for _, v := range []struct {
		together int
		what     string
	}{
		{64, "64 puts a record, as a client's full batch over four partitions is recorded"},
		{4, "4 puts a record, as 64 goroutines with a client are recorded"},
		{1, "one put a record, as single calls are recorded"},
	} {
		if err := h.catchUpFrom(ctx, v.together, v.what); err != nil {
			return err
		}
	}
	return nil
}

func (h *harness) catchUpFrom(ctx context.Context, together int, what string) (err error) {
	dir := filepath.Join(h.data, fmt.Sprintf("log-%d", together))
	b, err := openLog(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close(), os.RemoveAll(dir)) }()
	log, err := b.Create(ctx, wal.TopicSpec{Name: "headwater.kv.bench.1", Partitions: appendPartitions})
	if err != nil {
		return err
	}
	if err := writePuts(ctx, log, 0, h.catchUp, together, b.Now()); err != nil {
		return err
	}
	subject := side{"runner, applier and store", func(ctx context.Context, round int) (float64, error) {
		took, err := h.apply(ctx, log, filepath.Join(h.data, fmt.Sprintf("store-%d-%d", together, round)))
		return float64(h.catchUp) / took.Seconds(), err
	}}
	return h.compare(ctx, what, "puts/s", &bar{limit: 300_000, atLeast: true, absolute: true}, subject, nil,
		fmt.Sprintf("%d puts of %d B, each under a token of its own, into an empty store", h.catchUp, valueBytes))
}

// noLetters refuses dead letters: a put that is refused here is a fault of the
// benchmark.
type noLetters struct{}

func (noLetters) Put(_ context.Context, letters []consumers.DeadLetter) error {
	return fmt.Errorf("a put was refused: %s: %s", letters[0].Reason, letters[0].Detail)
}

// apply applies the whole log to a new store in dir and removes it.
func (h *harness) apply(ctx context.Context, log wal.Log, dir string) (took time.Duration, err error) {
	cache := pebble.NewCache(256 << 20) // what a server has
	defer cache.Unref()
	store, err := pebblekv.Open(pebblekv.Config{Dir: dir, Partitions: log.Info().Partitions, Cache: cache, Logger: quiet})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close(), os.RemoveAll(dir)) }()
	progress := wal.NewProgress(log.Info().Partitions)
	applier := kv.NewApplier(kv.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: log, Letters: noLetters{}, Applied: consumers.AdvanceOf(progress), Ledger: store}, Store: store,
		Settings: func(uint64) (kv.Settings, error) { return kv.Settings{TokenWindow: 15 * time.Minute}, nil },
	})
	runner := consumers.New(consumers.Config{Namespace: "bench", Role: "PRIMARY", Log: log, Applier: applier, Stopped: progress.Stop, Logger: quiet})
	start := time.Now()
	if err := runner.StartAll(ctx); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, runner.StopAll(ctx)) }()
	for i := range log.Info().Partitions {
		p := wal.Partition(i)
		bounds, err := log.Bounds(ctx, p)
		if err != nil {
			return 0, err
		}
		if err := progress.Wait(ctx, p, bounds.End-1); err != nil {
			return 0, err
		}
	}
	took = time.Since(start)
	if n := applier.Stats().Applied.Load(); n != int64(h.catchUp) {
		return 0, fmt.Errorf("%d of %d puts were applied", n, h.catchUp)
	}
	return took, nil
}
