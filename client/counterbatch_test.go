package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// gate holds every unary call of a server until open is closed, and says that it
// came.
type gate struct{ came, open chan struct{} }

func (s *memServer) gate() *gate {
	g := &gate{came: make(chan struct{}, 1000), open: make(chan struct{})}
	s.before = func(ctx context.Context, _ string) error {
		g.came <- struct{}{}
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	return g
}

type added struct {
	res WriteResult
	err error
}

// adding runs one add and sends its answer.
func adding(ctx context.Context, n *Counter, counter string, delta int64, o AddOptions) <-chan added {
	out := make(chan added, 1)
	go func() {
		res, err := n.AddWith(ctx, counter, delta, o)
		out <- added{res, err}
	}()
	return out
}

// queued waits until n adds have no answer.
func queued(t *testing.T, n *Counter, want int) {
	t.Helper()
	waitFor(t, func() bool { return n.Stats().Queued == want })
}

// oneAtATime lets one request be under way, so that a test knows what goes
// together.
func oneAtATime() Config {
	return Config{BatchInFlight: 1, RetryInitial: time.Millisecond, RetryMax: 5 * time.Millisecond}
}

// Adds of many goroutines are counted once and each by itself, though answers
// are lost and requests come twice.
func TestConcurrentAddsCountOnceWithLostAnswers(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		var mu sync.Mutex
		calls := 0
		s.after = func(context.Context, string) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls%3 == 0 {
				return status.Error(codes.Unavailable, "the answer was lost")
			}
			return nil
		}
		cfg.AddItems = 7
		n := s.start(t, cfg).Counter("ns")
		const callers, each = 32, 50
		var wg sync.WaitGroup
		for g := range callers {
			wg.Go(func() {
				for i := range each {
					o := AddOptions{}
					if i%5 == 0 { // some under a token of their own, twice
						o.Token.Key = fmt.Sprintf("%d/%d", g, i)
						if _, err := n.AddWith(t.Context(), fmt.Sprintf("c-%d", i%10), int64(g), o); err != nil {
							t.Error(err)
						}
					}
					res, err := n.AddWith(t.Context(), fmt.Sprintf("c-%d", i%10), int64(g), o)
					if err != nil {
						t.Error(err)
					} else if res.Position == "" || res.Durability != Sync || res.Token.IsZero() || o.Token.Key != "" && res.Token.Key != o.Token.Key {
						t.Errorf("%+v", res)
					}
				}
			})
		}
		wg.Wait()
		sum, adds := s.counters.sum("c-")
		if want := int64(each * callers * (callers - 1) / 2); sum != want || adds != callers*each {
			t.Errorf("sum %d of %d adds, want %d of %d", sum, adds, want, callers*each)
		}
		if st := n.Stats(); st.Queued != 0 || st.QueuedBytes != 0 || st.Waiting != 0 {
			t.Errorf("when all is answered: %+v", st)
		}
	})
}

func TestASharedRequestIsRetriedAsAWholeWithOneToken(t *testing.T) {
	s := newMemServer()
	g := s.gate()
	s.after = times(2, errNoAnswer)
	n := s.start(t, oneAtATime()).Counter("ns")
	first := adding(t.Context(), n, "first", 1, AddOptions{})
	<-g.came
	var rest []<-chan added
	for i := range 20 {
		rest = append(rest, adding(t.Context(), n, "same", int64(i), AddOptions{}))
	}
	queued(t, n, 21)
	close(g.open)
	if a := <-first; a.err != nil {
		t.Error(a.err)
	}
	tokens := map[Token]bool{}
	for _, c := range rest {
		a := <-c
		if a.err != nil {
			t.Error(a.err)
		}
		tokens[a.res.Token] = true
	}
	if len(tokens) != 1 {
		t.Errorf("one request went under %d tokens", len(tokens))
	}
	var sizes []int
	for _, r := range s.counters.requests {
		sizes = append(sizes, len(r.GetAdds()))
	}
	if fmt.Sprint(sizes) != "[1 1 1 20]" {
		t.Errorf("requests of %v", sizes)
	}
	if sum, adds := s.counters.sum("same"); sum != 190 || adds != 20 {
		t.Errorf("sum %d of %d adds", sum, adds)
	}
	if st := n.Stats(); st.Retries != 2 || st.Requests != 2 || st.Adds != 21 {
		t.Errorf("%+v", st)
	}
}

// An add whose own token was used for another add fails alone: the others are
// sent again, under a new token.
func TestAnAddThatIsRefusedFailsAlone(t *testing.T) {
	s := newMemServer()
	n := s.start(t, oneAtATime()).Counter("ns")
	for _, k := range []string{"used-1", "used-2"} {
		if _, err := n.AddWith(t.Context(), "before", 1, AddOptions{Token: Token{Key: k}}); err != nil {
			t.Fatal(err)
		}
	}
	s.counters.requests = nil
	g := s.gate()
	first := adding(t.Context(), n, "first", 1, AddOptions{})
	<-g.came
	var good, bad []<-chan added
	for i := range 10 {
		good = append(good, adding(t.Context(), n, "good", 1, AddOptions{}))
		if i%5 == 3 {
			queued(t, n, 1+len(good)+len(bad))
			bad = append(bad, adding(t.Context(), n, "bad", 1, AddOptions{Token: Token{Key: fmt.Sprintf("used-%d", 1+i/5)}}))
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	left := adding(gone, n, "left", 1, AddOptions{})
	queued(t, n, 14)
	cancel()
	if a := <-left; !errors.Is(a.err, context.Canceled) {
		t.Error(a.err)
	}
	close(g.open)
	for _, c := range append(good, first) {
		if a := <-c; a.err != nil {
			t.Error(a.err)
		}
	}
	for i, c := range bad {
		a := <-c
		e, ok := errors.AsType[*Error](a.err)
		if !ok || !errors.Is(a.err, ErrConflict) || e.Outcome != NotApplied || e.Token.Key != fmt.Sprintf("used-%d", i+1) {
			t.Errorf("%+v", a)
		}
	}
	tokens := map[string]int{}
	for _, r := range s.counters.requests {
		tokens[nonceOf(r.GetToken())] = len(r.GetAdds())
	}
	if len(tokens) != 4 || n.Stats().Splits != 2 {
		t.Errorf("%d tokens, %d splits", len(tokens), n.Stats().Splits)
	}
	if sum, _ := s.counters.sum(""); sum != 2+1+10 {
		t.Errorf("sum %d", sum)
	}
}

// A refusal of one add says nothing of an earlier attempt that may have been
// taken, so nothing is sent again under another token.
func TestARequestWithAnUnknownAttemptIsNotSentAnew(t *testing.T) {
	s := newMemServer()
	calls := 0
	s.before = func(context.Context, string) error {
		if calls++; calls > 1 {
			return apierrors.New(apierrors.BadTTL, "no").With("add", "0").ForWrite(apierrors.NotApplied, nil)
		}
		return nil
	}
	s.after = times(1, errNoAnswer)
	n := s.start(t, oneAtATime()).Counter("ns")
	_, err := n.Add(t.Context(), "c", 1)
	if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != Unknown || !errors.Is(err, ErrUnknownOutcome) || !e.Token.IsZero() {
		t.Errorf("%v", err)
	}
	if sum, _ := s.counters.sum(""); sum != 1 || calls != 2 {
		t.Errorf("sum %d after %d calls", sum, calls)
	}
}

func TestAddsFailAsTheirRequestDoes(t *testing.T) {
	both(t, func(t *testing.T, cfg Config) {
		s := newMemServer()
		s.before = func(context.Context, string) error {
			return apierrors.New(apierrors.NamespaceNotFound, "no").ForWrite(apierrors.NotApplied, nil)
		}
		n := s.start(t, cfg).Counter("ns")
		_, err := n.AddWith(t.Context(), "c", 1, AddOptions{Token: Token{Key: "k"}})
		if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrNotFound) || e.Outcome != NotApplied || e.Token.Key != "k" {
			t.Errorf("%v", err)
		}
	})
}

func TestBadAddsAreRefusedBeforeTheyMeetOthers(t *testing.T) {
	n := newMemServer().start(t, Config{}).Counter("ns")
	for name, add := range map[string]CounterAdd{
		"empty name":   {},
		"long name":    {Counter: strings.Repeat("x", 1025)},
		"not UTF-8":    {Counter: "\xff"},
		"negative ttl": {Counter: "c", TTL: -1},
		"event time":   {Counter: "c", EventTime: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"1969":         {Counter: "c", EventTime: time.Unix(-1, 0)},
		"long token":   {Counter: "c", Token: Token{Key: strings.Repeat("k", 129)}},
		"bad token":    {Counter: "c", Token: Token{Key: "\xff"}},
	} {
		_, err := n.AddWith(t.Context(), add.Counter, add.Delta, AddOptions{TTL: add.TTL, EventTime: add.EventTime, Token: add.Token})
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason == "" || !(errors.Is(err, ErrInvalid)) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := n.AddAll(t.Context(), []CounterAdd{{Counter: "ok"}, add}, CounterWriteOptions{}); err == nil || !strings.HasPrefix(err.Error(), "adds[1]: ") {
			t.Errorf("%s: AddAll: %v", name, err)
		}
	}
	if n.Stats() != (CounterStats{}) {
		t.Errorf("%+v", n.Stats())
	}
}

// While the queue is full callers wait their turn, until their contexts end.
func TestAFullQueueHoldsCallersBack(t *testing.T) {
	for name, cfg := range map[string]Config{"adds": {AddQueue: 3}, "bytes": {AddQueueBytes: 20}} {
		t.Run(name, func(t *testing.T) {
			s := newMemServer()
			g := s.gate()
			cfg.BatchInFlight = 1
			n := s.start(t, cfg).Counter("ns")
			in := []<-chan added{adding(t.Context(), n, "c", 1, AddOptions{})} // 7 bytes
			<-g.came
			in = append(in, adding(t.Context(), n, "c", 1, AddOptions{}))
			queued(t, n, 2)
			if name == "adds" {
				in = append(in, adding(t.Context(), n, "c", 1, AddOptions{}))
				queued(t, n, 3)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			late := adding(ctx, n, "ended", 1, AddOptions{Token: Token{Key: "k"}})
			waitFor(t, func() bool { return n.Stats().Waiting == 1 })
			in = append(in, adding(t.Context(), n, "c", 1, AddOptions{}))
			waitFor(t, func() bool { return n.Stats().Waiting == 2 })
			cancel(context.DeadlineExceeded)
			a := <-late
			e, ok := errors.AsType[*Error](a.err)
			if !ok || !errors.Is(a.err, ErrQueueFull) || !errors.Is(a.err, context.DeadlineExceeded) || e.Outcome != NotApplied || e.Code != codes.DeadlineExceeded || e.Token.Key != "k" {
				t.Errorf("%v", a.err)
			}
			close(g.open)
			for _, c := range in {
				if a := <-c; a.err != nil {
					t.Error(a.err)
				}
			}
			if sum, _ := s.counters.sum("c"); sum != int64(len(in)) {
				t.Errorf("sum %d, want %d", sum, len(in))
			}
			if v, _ := s.counters.sum("ended"); v != 0 {
				t.Error("an add that was never let in was sent")
			}
			waitFor(t, func() bool { return n.Stats().Queued == 0 }) // an add is answered before its room is free
			if st := n.Stats(); st.Blocked != 2 || st.Queued != 0 || st.QueuedBytes != 0 || st.Waiting != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestCloseSendsWhatIsQueuedAndRefusesTheRest(t *testing.T) {
	s := newMemServer()
	g := s.gate()
	c := s.start(t, Config{BatchInFlight: 1, AddQueue: 11, AddItems: 4})
	n := c.Counter("ns")
	var in []<-chan added
	for i := range 11 {
		in = append(in, adding(t.Context(), n, "c", 1, AddOptions{}))
		if i == 0 {
			<-g.came
		}
	}
	queued(t, n, 11)
	waiting := adding(t.Context(), n, "late", 1, AddOptions{})
	waitFor(t, func() bool { return n.Stats().Waiting == 1 })
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	check := func(err error) {
		if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrClosed) || e.Outcome != NotApplied {
			t.Errorf("%v", err)
		}
	}
	check((<-waiting).err)
	_, err := n.Add(t.Context(), "late", 1)
	check(err)
	close(g.open)
	for _, c := range in {
		if a := <-c; a.err != nil {
			t.Error(a.err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	_, err = c.Counter("other").Add(t.Context(), "late", 1)
	check(err)
	if sum, _ := s.counters.sum(""); sum != 11 {
		t.Errorf("sum %d", sum)
	}
}

func TestAnAddThatIsGivenUpSaysWhetherItWasSent(t *testing.T) {
	s := newMemServer()
	g := s.gate()
	n := s.start(t, oneAtATime()).Counter("ns")
	ctx, cancel := context.WithCancel(t.Context())
	own := AddOptions{Token: Token{Key: "k"}}
	sent := adding(ctx, n, "sent", 1, own)
	<-g.came
	waits := adding(ctx, n, "waits", 1, AddOptions{})
	queued(t, n, 2)
	cancel()
	for _, w := range []struct {
		c       <-chan added
		outcome Outcome
		key     string
	}{{sent, Unknown, "k"}, {waits, NotApplied, ""}} {
		a := <-w.c
		if e, ok := errors.AsType[*Error](a.err); !ok || e.Outcome != w.outcome || !errors.Is(a.err, context.Canceled) || e.Token.Key != w.key {
			t.Errorf("%v, want %s", a.err, w.outcome)
		}
	}
	_, err := n.AddWith(ctx, "ended", 1, own)
	if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != NotApplied {
		t.Errorf("with a context that is done: %v", err)
	}
	close(g.open)
	queued(t, n, 0)
	// The token of its own tells what became of the one that was sent.
	if _, err := n.AddWith(t.Context(), "sent", 1, own); err != nil {
		t.Error(err)
	}
	if sum, adds := s.counters.sum(""); sum != 1 || adds != 1 {
		t.Errorf("sum %d of %d adds", sum, adds)
	}
}

// A request that hangs holds up nobody for longer than the linger, however long
// it has hung.
func TestAHangingRequestOfAddsIsPassed(t *testing.T) {
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
	n := s.start(t, Config{BatchInFlight: 2, AddLinger: time.Microsecond}).Counter("ns")
	slow := adding(t.Context(), n, "slow", 1, AddOptions{})
	hanging := <-arrived
	for range 20 {
		if _, err := n.Add(t.Context(), "quick", 1); err != nil {
			t.Error(err)
		}
	}
	if hanging.Err() != nil {
		t.Error("the others waited until the attempt that hung was given up")
	}
	close(release)
	if a := <-slow; a.err != nil {
		t.Error(a.err)
	}
}

func TestRequestsOfAddsAreBoundedInCountAndBytes(t *testing.T) {
	s := newMemServer()
	g := s.gate()
	n := s.start(t, Config{BatchInFlight: 1, AddItems: 5, AddBytes: 1000}).Counter("ns")
	in := []<-chan added{adding(t.Context(), n, "c", 1, AddOptions{})}
	<-g.came
	for i, size := range []int{1, 1, 1, 1, 1, 1, 400, 400, 400, 1024, 1} {
		in = append(in, adding(t.Context(), n, strings.Repeat("x", size), 1, AddOptions{}))
		queued(t, n, i+2)
	}
	close(g.open)
	for _, c := range in {
		if a := <-c; a.err != nil {
			t.Error(a.err)
		}
	}
	var sizes []int
	for _, r := range s.counters.requests {
		sizes = append(sizes, len(r.GetAdds()))
	}
	if got := fmt.Sprint(sizes); got != "[1 5 3 1 1 1]" {
		t.Errorf("requests of %v", got)
	}
}

// What nobody answers ends with the client's timeout, as not applied where no
// connection took it.
func TestAddsEndWithTheTimeoutOfTheClient(t *testing.T) {
	c := dial(t, "127.0.0.1:1", Config{Timeout: 20 * time.Millisecond, RetryInitial: time.Millisecond, AddQueue: 1, BatchInFlight: 1})
	n := c.Counter("ns")
	in := []<-chan added{adding(t.Context(), n, "c", 1, AddOptions{}), adding(t.Context(), n, "c", 1, AddOptions{})}
	for _, ch := range in {
		a := <-ch
		if e, ok := errors.AsType[*Error](a.err); !ok || e.Outcome != NotApplied || !errors.Is(a.err, ErrUnavailable) && !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("%v", a.err)
		}
	}
}

func TestAddAllIsOneRequest(t *testing.T) {
	s := newMemServer()
	s.after = times(2, errNoAnswer)
	n := s.start(t, oneAtATime()).Counter("ns")
	adds := []CounterAdd{{Counter: "a", Delta: 1}, {Counter: "a", Delta: 2}, {Counter: "b", Delta: -7, Token: Token{Key: "own"}}}
	res, err := n.AddAll(t.Context(), adds, CounterWriteOptions{Token: Token{Key: "all"}})
	if err != nil || res.Token.Key != "all" || res.Duplicate != Repeated || res.Position == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if len(s.counters.requests) != 3 || len(s.counters.requests[2].GetAdds()) != 3 || s.counters.requests[0].GetAdds()[2].GetToken().GetGenerationTime() != nil {
		t.Errorf("requests %v", s.counters.requests)
	}
	if !adds[2].Token.Time.IsZero() {
		t.Error("the caller's adds were changed")
	}
	// Sent again by its caller it is the same request, whatever the time.
	if res, err = n.AddAll(t.Context(), adds, CounterWriteOptions{Token: Token{Key: "all"}}); err != nil || res.Duplicate != Repeated {
		t.Errorf("sent again: %+v, %v", res, err)
	}
	for _, want := range []struct {
		name string
		sum  int64
	}{{"a", 3}, {"b", -7}} {
		if sum, _ := s.counters.sum(want.name); sum != want.sum {
			t.Errorf("%s is %d", want.name, sum)
		}
	}
	if _, err := n.AddAll(t.Context(), nil, CounterWriteOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no adds: %v", err)
	}
	if _, err := n.AddAll(t.Context(), make([]CounterAdd, MaxAdds+1), CounterWriteOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("too many: %v", err)
	}
	_, err = n.AddAll(t.Context(), adds[:1], CounterWriteOptions{Token: Token{Key: "all"}})
	if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrConflict) || e.Token.Key != "all" || e.Outcome != NotApplied {
		t.Errorf("another request with the token: %v", err)
	}
}

var _ headwaterv1.CounterServiceServer = (*memCounters)(nil)
