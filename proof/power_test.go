package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// crash is what a power loss would have left, and what callers knew then.
type crash struct {
	fs      *vfs.MemFS
	settled int // writes that had an answer
	begun   int // writes that were entered
}

// syncPoints wraps mem so that before is called ahead of every sync and of what
// changes a directory.
func syncPoints(mem vfs.FS, before func()) vfs.FS {
	return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpRemove:
			before()
		}
		return nil
	}))
}

// TestPowerLoss takes what a power loss would leave of log and store at the sync
// points of a loaded service, with any part of what was not synced gone, and
// checks each: no store is ahead of its log, no range is missing, everything that
// was acknowledged is there, and what was not can be settled by sending it again.
// The store is synced, the log trimmed and the partitions swept all the while.
func TestPowerLoss(t *testing.T) {
	seed, _ := seedOf(t)
	if testing.Short() {
		powerLosses(t, seed, 5, 25)
		return
	}
	if !long() {
		powerLosses(t, seed, 5, 50)
		return
	}
	for i := range 15 { // from every sync point on to every fifth
		t.Run(fmt.Sprint(i), func(t *testing.T) { powerLosses(t, seed+uint64(i), int64(1+i%5), 60) })
	}
}

// powerLosses takes most losses at every so many sync points of one service.
func powerLosses(t *testing.T, seed uint64, every int64, most int) {
	r := rand.New(rand.NewPCG(seed, 0))
	b := &book{}
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
	p := mustOpenPipeline(t, fs, nil)
	on.Store(true)
	l := &load{book: b, ids: 8, keys: 12, kvName: pipelineKV, logName: pipelineLog, most: 20_000}
	var keeper sync.WaitGroup
	keeper.Go(func() { keepHouse(t, p, r, stop) })
	l.run(p.c, seed, 6, stop)
	full()
	keeper.Wait()
	on.Store(false)
	if err := b.err(); err != nil {
		t.Fatal(err)
	}
	if err := b.verify(p.c, pipelineKV, pipelineLog); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	behind := 0
	for i := range crashes {
		n, err := crashes[i].check(b, rand.New(rand.NewPCG(seed, uint64(i))))
		if err != nil {
			t.Fatalf("power loss %d of %d: %v", i, len(crashes), err)
		}
		behind += n
	}
	t.Logf("%d power losses among %d sync points, %d writes; stores were %d records behind their logs in all", len(crashes), count.Load(), len(b.writes), behind)
	mustHave(t, behind > 0, "store behind its log")
}

// keepHouse does what the server's sweeper does, without pause and without
// keeping anything that is not needed.
func keepHouse(t *testing.T, p *pipeline, r *rand.Rand, stop <-chan struct{}) {
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
		for i := range wal.Partition(2) {
			err := p.runner.Do(ctx, i, func(ctx context.Context) error {
				_, _, err := p.applier.Sweep(ctx, i, p.space.Config().Tokens.Window, 200)
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

// size is how many writes have an answer, and how many there are.
func (b *book) size() (settled, begun int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.order), len(b.writes)
}

// asOf is the book as it was at a crash.
func (b *book) asOf(c *crash) *book {
	nb := &book{}
	copies := make(map[*write]*write, c.begun)
	for _, w := range b.writes[:c.begun] {
		n := *w
		n.settled, n.first, n.news, n.unknown = false, answer{}, 0, 1 // on its way, perhaps
		copies[w] = &n
		nb.writes = append(nb.writes, &n)
	}
	for _, w := range b.order[:c.settled] {
		n := copies[w]
		n.settled, n.first, n.news = true, w.first, 1
		nb.order = append(nb.order, n)
	}
	return nb
}

// check opens what a crash left and compares it with the book; behind is how
// many records the store had to catch up with.
func (c *crash) check(b *book, r *rand.Rand) (behind int, err error) {
	nb := b.asOf(c)
	p, err := openPipeline(c.fs, nil)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for i := range wal.Partition(2) {
		bounds, err := p.log.Bounds(context.Background(), i)
		if err != nil {
			return 0, err
		}
		if p.applied[i] >= bounds.End || p.applied[i]+1 < bounds.Start {
			return 0, fmt.Errorf("the store had partition %d up to %d, and the log has %d to %d", i, p.applied[i], bounds.Start, bounds.End)
		}
		behind += int(bounds.End - 1 - p.applied[i])
	}
	if err := nb.settle(p.c); err != nil {
		return 0, err
	}
	if err := nb.again(p.c, nb.sample(r, 40)); err != nil {
		return 0, err
	}
	return behind, nb.verify(p.c, pipelineKV, pipelineLog)
}

// TestSweepByLogTime runs the service on a log whose time is an hour behind the
// wall clock: a sweep must keep every token of the last window of log time.
func TestSweepByLogTime(t *testing.T) {
	p := mustOpenPipeline(t, vfs.NewMem(), func() time.Time { return time.Now().Add(-time.Hour) })
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	b := &book{}
	send := func(w *write, known bool) {
		t.Helper()
		ctx, cancel := callContext()
		defer cancel()
		a := p.c.send(ctx, w)
		b.note(w, &a, known)
		if a.outcome != acked {
			t.Fatalf("%v: %v", w, &a)
		}
	}
	var ws []*write
	for i := range 20 {
		w := b.add(&write{put: &headwaterv1.PutItemsRequest{Namespace: pipelineKV, Id: fmt.Sprintf("id%d", i), Token: nonceToken(wal.NewNonce(), 0),
			Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: []byte("v")}}}})
		send(w, false)
		ws = append(ws, w)
	}
	for i := range wal.Partition(2) {
		for more := true; more; {
			err := p.runner.Do(context.Background(), i, func(ctx context.Context) (err error) {
				_, more, err = p.applier.Sweep(ctx, i, p.space.Config().Tokens.Window, 1000)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, w := range ws {
		send(w, true)
	}
	if err := b.err(); err != nil {
		t.Fatal(err)
	}
}
