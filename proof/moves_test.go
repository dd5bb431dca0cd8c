package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// sides are the two runners between which partitions are moved.
type sides struct {
	runners [2]*consumers.Runner
	loops   [2]*consumers.Loop
	answers func(p wal.Partition, side int) // has a side answer for a partition
}

// move moves a partition to the other side: the one saves and forgets it, the other
// loads it.
func (s *sides) move(ctx context.Context, at []int, p wal.Partition) error {
	to := 1 - at[p]
	if err := s.runners[at[p]].Stop(ctx, p); err != nil {
		return err
	}
	if err := s.runners[to].Start(ctx, p); err != nil {
		return err
	}
	s.answers(p, to)
	// What is taken away writes no more, not even what it had in hand.
	switch _, err := s.loops[at[p]].Apply(ctx, p, nil); {
	case err == nil:
		return errors.New("a partition that was taken away is applied to")
	case !errors.Is(err, consumers.ErrNotAssigned):
		return err
	}
	at[p] = to
	return nil
}

// moving moves partitions at random while each of callers does its calls, and returns
// how often each was moved.
func (s *sides) moving(t *testing.T, partitions int, callers ...func() error) []int {
	t.Helper()
	_, r := seedOf(t)
	var work sync.WaitGroup
	done := make(chan struct{})
	for _, f := range callers {
		work.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	go func() {
		defer close(done)
		work.Wait()
	}()
	at, moves := make([]int, partitions), make([]int, partitions)
	for {
		select {
		case <-done:
			return moves
		case <-time.After(time.Duration(r.IntN(3)) * time.Millisecond): // between two moves writes are applied
		}
		p := wal.Partition(r.IntN(partitions))
		if err := s.move(t.Context(), at, p); err != nil {
			t.Errorf("move partition %d: %v", p, err)
			<-done
			return moves
		}
		moves[p]++
	}
}

// until sends a call until its outcome is known.
func until[R any](do func(context.Context) (R, error)) (R, error) {
	for {
		ctx, cancel := callContext()
		r, err := do(ctx)
		cancel()
		if status.Code(err) != codes.Unavailable {
			return r, err
		}
	}
}

func tokenNamed(format string, args ...any) *headwaterv1.IdempotencyToken {
	return &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: fmt.Sprintf(format, args...)}}
}

const movedCalls = 400 // of each caller

// TestCounterPartitionsMove moves every partition back and forth between two appliers of
// one store, under calls that say at once when one of them is lost, doubled or answered
// otherwise than its copy.
func TestCounterPartitionsMove(t *testing.T) {
	p, err := openCounterPipeline(vfs.NewMem(), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	other := counter.NewApplier(p.applierConfig)
	cfg := p.runnerConfig
	cfg.Applier = other
	s := &sides{runners: [2]*consumers.Runner{p.runner, consumers.New(cfg)}, loops: [2]*consumers.Loop{p.applier.Loop, other.Loop}}
	defer stopped(s.runners[1])
	replicas := [2]*counter.Replica{{Store: p.store, Applier: p.applier, Do: p.runner.Do}, {Store: p.store, Applier: other, Do: s.runners[1].Do}}
	s.answers = func(q wal.Partition, side int) { p.owner.Set(q, replicas[side]) }

	api := headwaterv1.NewCounterServiceClient(p.c.cc)
	caller := func(name string, r *rand.Rand) func() error {
		add := func(n int64, delta int64) (*headwaterv1.AddAndGetCountResponse, error) {
			return until(func(ctx context.Context) (*headwaterv1.AddAndGetCountResponse, error) {
				return api.AddAndGetCount(ctx, &headwaterv1.AddAndGetCountRequest{
					Namespace: pipelineCounter, Counter: name, Delta: delta, Bounds: &headwaterv1.Bounds{Floor: proto.Int64(0)}, Token: tokenNamed("%s %d %d", name, n, delta),
				})
			})
		}
		return func() error {
			for n := int64(1); n <= movedCalls; n++ {
				if a, err := add(n, 1); err != nil || a.GetCount().GetValue() != n {
					return fmt.Errorf("add %d of %s: %v, %w", n, name, a, err)
				}
				if a, err := add(n, -1000); err != nil || a.GetCount().GetValue() != n || a.GetViolation() != headwaterv1.AddAndGetCountResponse_FLOOR {
					return fmt.Errorf("add %d of %s below the floor: %v, %w", n, name, a, err)
				}
				again := r.Int64N(n) + 1
				if a, err := add(again, 1); err != nil || a.GetCount().GetValue() != again || !a.GetDuplicate() && again != n {
					return fmt.Errorf("a copy of add %d of %s: %v, %w", again, name, a, err)
				}
			}
			return nil
		}
	}
	var callers []func() error
	for i := range 6 {
		callers = append(callers, caller(fmt.Sprint("counter", i), newRand(7, i, 0)))
	}
	t.Logf("moves: %v", s.moving(t, pipelinePartitions, callers...))
}

// TestKVPartitionsMove is the same for key-value items: each put has the version of the
// one before as its condition.
func TestKVPartitionsMove(t *testing.T) {
	p, err := openPipeline(vfs.NewMem(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	other := kv.NewApplier(p.applierConfig)
	s := &sides{loops: [2]*consumers.Loop{p.applier.Loop, other.Loop}, runners: [2]*consumers.Runner{p.runner, consumers.New(consumers.Config{
		Namespace: pipelineKV, Role: "PRIMARY", Log: p.log, Applier: other, Stopped: func(q wal.Partition, err error) { t.Errorf("partition %d stops: %v", q, err) },
	})}}
	defer stopped(s.runners[1])
	replicas := [2]*kv.Replica{{Store: p.store, Applier: p.applier}, {Store: p.store, Applier: other}}
	s.answers = func(q wal.Partition, side int) { p.owner.Set(q, replicas[side]) }
	caller := func(id string, r *rand.Rand) func() error {
		put := func(n int, condition *headwaterv1.Condition) (*headwaterv1.PutItemsResponse, error) {
			return until(func(ctx context.Context) (*headwaterv1.PutItemsResponse, error) {
				return p.c.kv.PutItems(ctx, &headwaterv1.PutItemsRequest{
					Namespace: pipelineKV, Id: id, Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: fmt.Append(nil, n)}}, Token: tokenNamed("%s %d", id, n), Condition: condition,
				})
			})
		}
		return func() error {
			conditions := []*headwaterv1.Condition{{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}}
			var versions []string
			for n := range movedCalls {
				a, err := put(n, conditions[n])
				if err != nil {
					return fmt.Errorf("put %d of %s: %w", n, id, err)
				}
				versions = append(versions, a.GetVersions()[0])
				conditions = append(conditions, &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: versions[n]}})
				again := r.IntN(n + 1)
				if a, err := put(again, conditions[again]); err != nil || a.GetVersions()[0] != versions[again] {
					return fmt.Errorf("a copy of put %d of %s: %v, %w", again, id, a, err)
				}
			}
			return nil
		}
	}
	var callers []func() error
	for i := range 6 {
		callers = append(callers, caller(fmt.Sprint("id", i), newRand(8, i, 0)))
	}
	t.Logf("moves: %v", s.moving(t, 2, callers...))
}
