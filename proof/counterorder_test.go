package proof

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// TestCountersAreLinearizable lets concurrent callers add, add and get under
// bounds, clear, reserve, settle, cancel and read accurately, while the process is
// stopped for moments and killed by SIGKILL, and has porcupine find an order of
// what happened, counter by counter.
func TestCountersAreLinearizable(t *testing.T) {
	seed, r := seedOf(t)
	kills, each := 3, 120
	if long() {
		kills, each = 20, 600
	}
	const callers = 6
	k := newKilled(t)
	due := make(chan struct{}, kills)
	every := int64(callers * each / (kills + 2)) // reads that a kill cuts off are no operations
	g := newCounterOps(t, func(n int64) {
		if n%every == 0 {
			select {
			case due <- struct{}{}:
			default:
			}
		}
	}, demoSpace, exactSpace)
	var ks []*caller
	for range callers {
		ks = append(ks, &caller{sv: k.sv})
	}
	done := g.run(seed, ks, each)
	killed, stopped := 0, 0
	for over := false; !over; {
		select {
		case <-due:
			if killed < kills {
				k.again()
				killed++
			}
		case <-done:
			over = true
		case <-time.After(time.Duration(r.IntN(40)) * time.Millisecond):
			k.p.signal(t, syscall.SIGSTOP)
			<-time.After(time.Duration(r.IntN(15)) * time.Millisecond)
			k.p.signal(t, syscall.SIGCONT)
			stopped++
		}
	}
	g.check()
	t.Logf("%d kills, stopped %d times", killed, stopped)
	mustHave(t, killed > 0, "kill")
}

// TestCountersAreLinearizableWhileAppliersPause is the same on one process whose
// appliers stand still now and then while the log goes on, and flush whenever they
// do not: an accurate read waits, whatever the rollup and the store have. No counter stays in memory that
// need not.
func TestCountersAreLinearizableWhileAppliersPause(t *testing.T) {
	seed, r := seedOf(t)
	each := 600
	if long() {
		each = 2000
	}
	p := mustOpenCounterPipeline(t, vfs.NewMem(), 1)
	g := newCounterOps(t, func(int64) {}, pipelineCounter)
	var ks []*caller
	for range 6 {
		ks = append(ks, &caller{c: p.c, sv: &service{t: t, next: make(chan struct{})}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	resting := make(chan struct{})
	go func() {
		defer close(resting)
		rest(ctx, t, p, rand.New(rand.NewPCG(seed, r.Uint64())))
	}()
	<-g.run(seed, ks, each)
	cancel()
	<-resting
	g.check()
	mustHave(t, p.applier.Flushes() > 0, "flush")
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

// rest holds the appliers up and has them flush in turn, until ctx is done.
func rest(ctx context.Context, t *testing.T, p *counterPipeline, r *rand.Rand) {
	for ctx.Err() == nil {
		i, pause, flush := wal.Partition(r.IntN(pipelinePartitions)), time.Duration(r.IntN(8))*time.Millisecond, r.IntN(3) > 0
		err := p.runner.Do(ctx, i, func(ctx context.Context) error {
			<-time.After(pause) // in the applier's goroutine: nothing is applied meanwhile
			if !flush {
				return nil
			}
			return p.applier.Flush(ctx, i)
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
	}
}
