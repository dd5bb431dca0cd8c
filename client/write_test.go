package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/gateway"
)

// both runs a test with puts that share requests and with puts that do not.
func both(t *testing.T, f func(t *testing.T, cfg Config)) {
	for name, n := range map[string]int{"batched": 0, "unary": -1} {
		t.Run(name, func(t *testing.T) {
			f(t, Config{BatchInFlight: n, RetryInitial: time.Millisecond, RetryMax: 5 * time.Millisecond})
		})
	}
}

func TestLostAnswersAreRetriedWithTheSameToken(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		for name, lost := range map[string]error{
			"unknown outcome":   errNoAnswer,
			"transport failure": status.Error(codes.Unavailable, "connection reset"),
			"internal":          status.Error(codes.Internal, "stream terminated"),
		} {
			s := newMemServer()
			s.after = times(3, lost)
			res, err := s.start(t, cfg).KV("ns").Put(t.Context(), "id", "k", []byte("v"))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if s.applied != 1 || len(s.tokens) != 1 || res.Duplicate != Repeated {
				t.Errorf("%s: applied %d times under %d tokens, duplicate %s", name, s.applied, len(s.tokens), res.Duplicate)
			}
		}
	})
}

func TestWhatARetryCannotMendIsReturnedAtOnce(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		for _, reason := range []string{apierrors.TokenDrift, apierrors.LogFailed, apierrors.Parked, apierrors.NamespaceNotFound, apierrors.BadID} {
			s := newMemServer()
			calls := 0
			s.before = func(context.Context, string) error {
				calls++
				return apierrors.New(reason, "no").ForWrite(apierrors.NotApplied, nil)
			}
			_, err := s.start(t, cfg).KV("ns").Put(t.Context(), "id", "k", nil)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Reason != reason || e.Outcome != NotApplied || e.Token.IsZero() || calls != 1 {
				t.Errorf("%s: %#v after %d calls", reason, err, calls)
			}
		}
	})
}

// A later attempt that was refused says nothing about an earlier one that may
// have been applied, unless it was refused for what the token did.
func TestAnUnknownAttemptStaysUnknown(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		calls := 0
		s.before = func(context.Context, string) error {
			if calls++; calls > 1 {
				return apierrors.New(apierrors.TokenDrift, "no").ForWrite(apierrors.NotApplied, nil)
			}
			return nil
		}
		s.after = times(1, errNoAnswer)
		_, err := s.start(t, cfg).KV("ns").Put(t.Context(), "id", "k", nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != Unknown || !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%v", err)
		}
		if calls != 2 || s.applied != 1 {
			t.Errorf("%d calls, applied %d times", calls, s.applied)
		}
	})
}

func TestTheDecisionOfATokenSettlesAnUnknownAttempt(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		kv := s.start(t, cfg).KV("ns")
		first, err := kv.Put(t.Context(), "id", "k", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		s.after = times(1, errNoAnswer)
		_, err = kv.PutIfAbsent(t.Context(), "id", "k", []byte("2"))
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrConditionFailed) || e.Outcome != NotApplied || e.CurrentVersion() != first.Versions[0] {
			t.Fatalf("%v", err)
		}
		second, err := kv.PutIfVersion(t.Context(), "id", "k", []byte("2"), e.CurrentVersion())
		if err != nil {
			t.Fatal(err)
		}
		if versionTime(second.Versions[0]) <= versionTime(first.Versions[0]) {
			t.Error("the second version is not above the first")
		}
	})
}

func TestABusinessKeyWritesOnceAcrossClients(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		item := []PutItem{{Key: "k", Value: []byte("v")}}
		for i, want := range []Duplicate{New, Repeated} {
			res, err := s.start(t, cfg).KV("ns").PutItems(t.Context(), "id", item, WriteOptions{Token: Token{Key: "order-1"}})
			if err != nil || res.Duplicate != want || res.Token.Key != "order-1" {
				t.Fatalf("call %d: %+v, %v", i, res, err)
			}
		}
		_, err := s.start(t, cfg).KV("ns").Put(t.Context(), "id", "k", []byte("w"))
		if err != nil {
			t.Fatal(err)
		}
		item[0].Value = []byte("other")
		_, err = s.start(t, cfg).KV("ns").PutItems(t.Context(), "id", item, WriteOptions{Token: Token{Key: "order-1"}})
		if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrConflict) || e.Outcome != NotApplied || e.Token.Key != "order-1" {
			t.Errorf("reused token: %v", err)
		}
	})
}

func TestARefusedConnectionIsNotApplied(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, cfg Config) {
		cfg.FailFast = true
		_, err := dial(t, address, cfg).KV("ns").Put(t.Context(), "id", "k", nil)
		if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrUnavailable) || e.Outcome != NotApplied || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("fail fast: %v", err)
		}
		cfg.FailFast = false
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = dial(t, address, cfg).KV("ns").Put(ctx, "id", "k", nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != NotApplied {
			t.Errorf("patient: %v", err)
		}
	})
}

func TestADeadlineInFlightIsUnknown(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		arrived := make(chan struct{}, 1)
		release := make(chan struct{})
		defer close(release)
		s.before = func(context.Context, string) error {
			arrived <- struct{}{}
			<-release
			return nil
		}
		kv := s.start(t, cfg).KV("ns")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-arrived
			cancel(context.DeadlineExceeded)
		}()
		_, err := kv.Put(ctx, "id", "k", nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != Unknown || e.Code != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || e.Token.IsZero() {
			t.Errorf("%v", err)
		}
		_, err = kv.Put(ctx, "id", "k", nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != NotApplied {
			t.Errorf("with a context that is done: %v", err)
		}
	})
}

// While one request is under way, what comes waits and goes out together.
func TestConcurrentPutsShareRequests(t *testing.T) {
	s := newMemServer()
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	s.before = func(context.Context, string) error {
		arrived <- struct{}{}
		<-release
		return nil
	}
	c := s.start(t, Config{BatchInFlight: 1})
	kv := c.KV("ns")
	errs := make(chan error, 101)
	put := func(i int) {
		_, err := kv.Put(t.Context(), fmt.Sprintf("id-%d", i), "k", []byte(fmt.Sprint(i)))
		errs <- err
	}
	go put(0)
	<-arrived
	b := c.batcher(batchKey{"ns", false})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := 1; i <= 99; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if i == 50 { // leaves while it waits
				_, err := kv.Put(ctx, "left", "k", nil)
				if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != NotApplied || !errors.Is(err, context.Canceled) {
					t.Errorf("left: %v", err)
				}
				errs <- nil
				return
			}
			if i == 51 { // fails alone
				_, err := kv.Put(t.Context(), "", "k", nil)
				if e, ok := errors.AsType[*Error](err); !ok || e.Reason != apierrors.BadID || e.Outcome != NotApplied {
					t.Errorf("bad: %v", err)
				}
				errs <- nil
				return
			}
			put(i)
		}()
	}
	waitFor(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.queue) == 99 })
	cancel()
	waitFor(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.queue {
			if p.left {
				return true
			}
		}
		return false
	})
	close(release)
	wg.Wait()
	for range 100 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if fmt.Sprint(s.batches) != "[1 98]" {
		t.Errorf("batches %v", s.batches)
	}
	for i := range 100 {
		if it := s.records[fmt.Sprintf("id-%d", i)]["k"]; i != 50 && i != 51 && string(it.GetValue()) != fmt.Sprint(i) {
			t.Errorf("item %d is %v", i, it)
		}
	}
	if s.records["left"] != nil {
		t.Error("a put that was given up before it was sent was sent")
	}
}

// waitFor yields until f holds; the test's own deadline bounds it.
func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	for !f() {
		if t.Context().Err() != nil {
			t.Fatal("the test ended first")
		}
		tick := time.NewTimer(100 * time.Microsecond)
		<-tick.C
	}
}

// A request that hangs does not hold up the puts that come after it.
func TestAHangingRequestIsPassed(t *testing.T) {
	s := newMemServer()
	arrived, release := make(chan context.Context, 1), make(chan struct{})
	var first sync.Once
	s.before = func(ctx context.Context, _ string) error {
		hang := false
		first.Do(func() { hang = true })
		if hang {
			arrived <- ctx
			<-release
		}
		return nil
	}
	kv := s.start(t, Config{BatchInFlight: 2}).KV("ns")
	errs := make(chan error, 1)
	go func() {
		_, err := kv.Put(t.Context(), "slow", "k", nil)
		errs <- err
	}()
	hanging := <-arrived
	for range 3 {
		if _, err := kv.Put(t.Context(), "quick", "k", nil); err != nil {
			t.Error(err)
		}
	}
	if hanging.Err() != nil {
		t.Error("the others waited until the attempt that hung was given up")
	}
	close(release)
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

func TestBatchesAreBoundedInCountAndBytes(t *testing.T) {
	s := newMemServer()
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	s.before = func(context.Context, string) error {
		arrived <- struct{}{}
		<-release
		return nil
	}
	c := s.start(t, Config{BatchInFlight: 1, BatchItems: 5, BatchBytes: 10_000})
	kv := c.KV("ns")
	var wg sync.WaitGroup
	put := func(id string, size int) {
		defer wg.Done()
		if _, err := kv.Put(t.Context(), id, "k", make([]byte, size)); err != nil {
			t.Error(err)
		}
	}
	wg.Add(1)
	go put("first", 1)
	<-arrived
	b := c.batcher(batchKey{"ns", false})
	for i, size := range []int{1, 1, 1, 1, 1, 1, 4000, 4000, 4000, 20_000, 1} {
		wg.Add(1)
		go put(fmt.Sprint(i), size)
		waitFor(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.queue) == i+1 })
	}
	close(release)
	wg.Wait()
	if got := fmt.Sprint(s.batches); got != "[1 5 3 1 1 1]" {
		t.Errorf("batches %v", got)
	}
}

// TestABatchHasNoMoreItemsThanTheServerTakes: puts of many small items are far
// below the other bounds.
func TestABatchHasNoMoreItemsThanTheServerTakes(t *testing.T) {
	c := newMemServer().start(t, Config{})
	b := c.batcher(batchKey{"ns", false})
	b.senders = 1
	for range 60 {
		b.queue = append(b.queue, &pending[*headwaterv1.PutItemsResponse]{frame: make([]byte, 100), items: 1000})
	}
	for _, want := range []int{50, 10} {
		if s := b.take(func() {}); len(s.all) != want {
			t.Errorf("a request has %d puts, not %d", len(s.all), want)
		}
	}
	if maxBatchItems > gateway.MaxBatchItems {
		t.Errorf("the server takes %d items", gateway.MaxBatchItems)
	}
}

func TestCloseEndsPutsAndWaitsForThem(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		arrived := make(chan struct{}, 10)
		s.before = func(ctx context.Context, _ string) error {
			arrived <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		c := s.start(t, cfg)
		errs := make(chan error)
		go func() {
			_, err := c.KV("ns").Put(t.Context(), "id", "k", nil)
			errs <- err
		}()
		<-arrived
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		err := <-errs
		if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != Unknown || !errors.Is(err, ErrClosed) {
			t.Errorf("in flight: %v", err)
		}
		_, err = c.KV("ns").Put(t.Context(), "id", "k", nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != NotApplied || !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}
