package wal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLog(t *testing.T, partitions int) wal.Log {
	t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	l, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.kv.plays.1", Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newStream(t *testing.T, cfg wal.StreamConfig) *wal.Stream {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = newLog(t, 2)
	}
	cfg.Namespace = "plays"
	cfg.Progress = wal.NewProgress(cfg.Log.Info().Partitions)
	return wal.NewStream(cfg)
}

// TestOneTokenIsAppendedOnce has many copies of one request race: one appends,
// the others learn where.
func TestOneTokenIsAppendedOnce(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{})
	id, hash := wal.TokenID(wal.NewNonce()), wal.Hash{1, 1}
	var owners, others sync.Map
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r, owner, err := s.Reserve(t.Context(), 1, id, hash)
			if err != nil {
				t.Errorf("reserve: %v", err)
				return
			}
			if owner {
				r.Asked = true
				o, err := s.Append(t.Context(), 1, &wal.Record{Kind: wal.KindMessage, RoutingKey: []byte("k"), AcceptedAt: 7}, r)
				if err != nil {
					t.Errorf("append: %v", err)
				}
				owners.Store(i, o)
				return
			}
			if err := r.Wait(t.Context()); err != nil || r.AcceptedAt != 7 {
				t.Errorf("wait: %v, accepted at %d", err, r.AcceptedAt)
			}
			others.Store(i, r.Offset)
		})
	}
	wg.Wait()
	count := func(m *sync.Map) (n int) {
		m.Range(func(_, o any) bool {
			if o != wal.Offset(0) {
				t.Errorf("offset %v, want 0", o)
			}
			n++
			return true
		})
		return n
	}
	if n := count(&owners); n != 1 {
		t.Errorf("%d copies were appended, want 1", n)
	}
	if n := count(&others); n != 31 {
		t.Errorf("%d copies learned of it, want 31", n)
	}
	if b, err := s.Log().Bounds(t.Context(), 1); err != nil || b.End != 1 {
		t.Errorf("the log has %d records, %v; want 1", b.End, err)
	}
	if _, _, err := s.Reserve(t.Context(), 1, id, wal.Hash{1, 2}); !errors.Is(err, wal.ErrTokenReused) {
		t.Errorf("another request under the token: %v, want ErrTokenReused", err)
	}
	s.Progress().Advance(1, 0, 1)
	if _, owner, err := s.Reserve(t.Context(), 1, id, hash); err != nil || !owner {
		t.Errorf("after it is applied the store knows the token, the stream forgets it: owner %v, %v", owner, err)
	}
}

// unknownLog answers the first append with an unknown outcome, although it took
// place: what a broker does that dies before it answers.
type unknownLog struct {
	wal.Log
	mu   sync.Mutex
	told bool
}

func (l *unknownLog) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	res := l.Log.Append(ctx, d, entries)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told {
		l.told = true
		for i := range res {
			res[i] = wal.Result{Offset: wal.NoOffset, Err: fmt.Errorf("%w: connection reset", wal.ErrUnknown)}
		}
	}
	return res
}

// TestUnknownOutcomeIsFoundOut: a resend waits until the log has been applied past
// the first copy, so that the store can answer.
func TestUnknownOutcomeIsFoundOut(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{Log: &unknownLog{Log: newLog(t, 1)}})
	id, hash := wal.TokenID(wal.NewNonce()), wal.Hash{1}
	r, owner, err := s.Reserve(t.Context(), 0, id, hash)
	if err != nil || !owner {
		t.Fatal(owner, err)
	}
	if _, err := s.Append(t.Context(), 0, &wal.Record{Kind: wal.KindMessage}, r); !errors.Is(err, wal.ErrUnknown) {
		t.Fatalf("append: %v, want ErrUnknown", err)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Reserve(short, 0, id, hash); err == nil {
		t.Fatal("a resend was let in before the first copy's outcome was known")
	}
	s.Progress().Advance(0, 0, 1) // the applier gets there
	if _, owner, err := s.Reserve(t.Context(), 0, id, hash); err != nil || !owner {
		t.Errorf("resend: owner %v, %v", owner, err)
	}
}

// TestATokenIsReservedInEachPartition: a call that spans partitions carries one
// token into each of them.
func TestATokenIsReservedInEachPartition(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{})
	id := wal.TokenID(wal.NewNonce())
	for p := range wal.Partition(2) {
		r, owner, err := s.Reserve(t.Context(), p, id, wal.Hash{byte(p)})
		if err != nil || !owner {
			t.Fatalf("partition %d: owner %v, %v", p, owner, err)
		}
		if _, err := s.Append(t.Context(), p, &wal.Record{Kind: wal.KindMessage}, r); err != nil {
			t.Fatal(err)
		}
	}
	s.Progress().Advance(0, 0, 1)
	if _, owner, err := s.TryReserve(0, id, wal.Hash{0}); !owner || err != nil {
		t.Errorf("partition 0 is applied, its store knows: owner %v, %v", owner, err)
	}
	if r, owner, err := s.TryReserve(1, id, wal.Hash{1}); owner || err != nil || r.Wait(t.Context()) != nil {
		t.Errorf("partition 1 is not applied: owner %v, %v", owner, err)
	}
}

func TestTryReserveNeverWaits(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{Log: &unknownLog{Log: newLog(t, 1)}})
	id, hash := wal.TokenID(wal.NewNonce()), wal.Hash{1}
	mine, owner, err := s.TryReserve(0, id, hash)
	if err != nil || !owner {
		t.Fatal(owner, err)
	}
	held := func(what string) {
		t.Helper()
		if r, owner, err := s.TryReserve(0, id, hash); owner || err != nil || r != mine {
			t.Errorf("%s: owner %v, %v", what, owner, err)
		}
		if _, _, err := s.TryReserve(0, id, wal.Hash{1, 2}); !errors.Is(err, wal.ErrTokenReused) {
			t.Errorf("%s, another request: %v", what, err)
		}
	}
	held("under way")
	if _, err := s.Append(t.Context(), 0, &wal.Record{Kind: wal.KindMessage}, mine); !errors.Is(err, wal.ErrUnknown) {
		t.Fatal(err)
	}
	held("of unknown outcome")
}

func TestWritesAreShedWhileTooMuchIsUnapplied(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{MaxUnapplied: 3})
	put := func() error {
		_, err := s.Append(t.Context(), 0, &wal.Record{Kind: wal.KindMessage})
		return err
	}
	for i := range 3 {
		if err := put(); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	if err := put(); !errors.Is(err, wal.ErrUnapplied) || !errors.Is(err, wal.ErrNotAppended) {
		t.Fatalf("got %v, want ErrUnapplied", err)
	}
	s.Progress().Advance(0, 2, 1)
	if err := put(); err != nil {
		t.Errorf("after catching up: %v", err)
	}
}

func TestReadsWaitForWhatTheyAskFor(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{})
	o, err := s.Append(t.Context(), 0, &wal.Record{Kind: wal.KindMessage})
	if err != nil {
		t.Fatal(err)
	}
	after, err := s.MergeAfter([]string{s.Position(0, o), wal.NewPosition("other", wal.Incarnation{1}, 0, 99).String()})
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		p     wal.Partition
		point wal.ReadPoint
		waits bool
	}{
		"its own writes":           {0, wal.ReadPoint{}, true},
		"of another partition":     {1, wal.ReadPoint{}, false},
		"after":                    {0, wal.ReadPoint{Consistency: wal.Eventual, After: after}, true},
		"after, another partition": {1, wal.ReadPoint{After: after}, false},
		"latest":                   {0, wal.ReadPoint{Consistency: wal.Latest}, true},
		"eventual":                 {0, wal.ReadPoint{Consistency: wal.Eventual}, false},
	} {
		err := s.WaitRead(done, c.p, &c.point)
		var behind *wal.BehindError
		if errors.As(err, &behind) != c.waits || c.waits && behind.Applied != wal.NoOffset {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Progress().Advance(0, 0, 5)
	if err := s.WaitRead(t.Context(), 0, &wal.ReadPoint{Consistency: wal.Latest, After: after}); err != nil {
		t.Errorf("after it is applied: %v", err)
	}
	if _, err := s.MergeAfter([]string{wal.NewPosition("plays", wal.Incarnation{1}, 0, 1).String()}); !errors.Is(err, wal.ErrWrongIncarnation) {
		t.Errorf("a position of another life: %v", err)
	}
	if _, err := s.MergeAfter([]string{wal.NewPosition("plays", s.Info().Incarnation, 7, 1).String()}); !errors.Is(err, wal.ErrMalformed) {
		t.Errorf("a position of a partition that is not there: %v", err)
	}
}

func TestStoppedPartitionFailsItsReadsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{})
	s.Progress().Stop(0, wal.ErrCorrupt)
	if err := s.WaitApplied(t.Context(), 0, 5); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("got %v, want the reason", err)
	}
	if _, err := s.Append(t.Context(), 0, &wal.Record{}); !errors.Is(err, wal.ErrNotAppended) {
		t.Errorf("append: %v", err)
	}
	if _, err := s.Append(t.Context(), 1, &wal.Record{}); err != nil {
		t.Errorf("another partition: %v", err)
	}
}
