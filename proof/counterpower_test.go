package proof

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// TestCountersOverPowerLoss takes what a power loss would leave of log and store at
// the sync points of a loaded counter namespace, with any part of what was not
// synced gone, and checks each: no store is ahead of its log, no range is missing,
// every count is exact and none is counted twice. The rollups are flushed, the
// store synced, the log trimmed and the events folded all the while.
func TestCountersOverPowerLoss(t *testing.T) {
	seed, _ := seedOf(t)
	if testing.Short() {
		counterPowerLosses(t, seed, 20, 12)
		return
	}
	if !long() {
		counterPowerLosses(t, seed, 20, 40)
		return
	}
	for i := range 15 { // from every third sync point on to every 31st
		t.Run(fmt.Sprint(i), func(t *testing.T) { counterPowerLosses(t, seed+uint64(i), int64(3+7*(i%5)), 60) })
	}
}

// counterPowerLosses takes most losses at every so many sync points of one
// service.
func counterPowerLosses(t *testing.T, seed uint64, every int64, most int) {
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	b := &ledger{}
	mem := failtest.NewMemory()
	var (
		mu      sync.Mutex // guards crashes and rng
		crashes []crash
		rng     = rand.New(rand.NewPCG(seed, 1))
		count   atomic.Int64
		on      atomic.Bool
		stop    = make(chan struct{})
		full    = sync.OnceFunc(func() { close(stop) })
	)
	fs := syncPoints(mem, func() {
		if !on.Load() || count.Add(1)%every != 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if len(crashes) == most {
			return
		}
		c := crash{}
		c.settled, c.begun = b.size()
		c.fs = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100, 90, 10}[len(crashes)%5], RNG: rng})
		if crashes = append(crashes, c); len(crashes) == most {
			full()
		}
	})
	p := mustOpenCounterPipeline(t, fs, int64(seed%2)) // every second time no counter stays in memory that need not
	on.Store(true)
	l := &tallies{ledger: b, counters: 12, spaces: []string{pipelineCounter}, most: 20_000}
	var keeper sync.WaitGroup
	keeper.Go(func() { keepCounters(t, p, r, stop) })
	l.run(p.c, seed, 6, stop)
	full()
	keeper.Wait()
	on.Store(false)
	if err := b.err(); err != nil {
		t.Fatal(err)
	}
	if err := b.verify(p.c, pipelineCounter, pipelinePartitions, began); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	behind, saved := 0, p.applier.Flushes()
	for i := range crashes {
		n, err := crashes[i].checkCounters(b, rand.New(rand.NewPCG(seed, uint64(i))), began)
		if err != nil {
			t.Fatalf("power loss %d of %d: %v", i, len(crashes), err)
		}
		behind += n
	}
	t.Logf("%d power losses among %d sync points, %d calls, %d flushes; stores were %d records behind their logs in all", len(crashes), count.Load(), len(b.calls), saved, behind)
	mustHave(t, behind > 0 && saved > 0 && len(crashes) > 0, "store behind its log")
}

// keepCounters does what the server does once a second and once a minute, without
// pause and without keeping anything that is not needed.
func keepCounters(t *testing.T, p *counterPipeline, r *rand.Rand, stop <-chan struct{}) {
	ctx := context.Background()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(r.IntN(10)) * time.Millisecond):
		}
		durable, err := p.store.Sync(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for i := range wal.Partition(pipelinePartitions) {
			flush := r.IntN(2) == 0
			err := p.runner.Do(ctx, i, func(ctx context.Context) error {
				if flush {
					if err := p.applier.Flush(ctx, i); err != nil {
						return err
					}
				}
				_, err := p.applier.Sweep(ctx, i, p.space.Config().Tokens.Window, &counter.Fold{Retention: pipelineEvents, UpTo: math.MaxInt64}, 200)
				return err
			})
			if o, ok := durable[i]; ok && err == nil {
				err = p.log.Trim(ctx, i, o+1)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// checkCounters opens what a crash left and compares it with the ledger; behind is
// how many records the store had to catch up with.
func (c *crash) checkCounters(b *ledger, r *rand.Rand, began time.Time) (behind int, err error) {
	nb := b.asOf(c.settled, c.begun)
	p, err := openCounterPipeline(c.fs, nil, 0)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for i := range wal.Partition(pipelinePartitions) {
		bounds, err := p.log.Bounds(context.Background(), i)
		if err != nil {
			return 0, err
		}
		if p.saved[i] >= bounds.End || p.saved[i]+1 < bounds.Start {
			return 0, fmt.Errorf("the store had partition %d up to %d, and the log has %d to %d", i, p.saved[i], bounds.Start, bounds.End)
		}
		behind += int(bounds.End - 1 - p.saved[i])
	}
	if err := nb.settle(p.c); err != nil {
		return 0, err
	}
	if err := nb.again(p.c, nb.sample(r, 40)); err != nil {
		return 0, err
	}
	return behind, nb.verify(p.c, pipelineCounter, pipelinePartitions, began)
}
