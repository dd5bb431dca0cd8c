package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return apierrors.From(err).Reason
}

func testNamespace(t *testing.T, doc string) *Namespace {
	t.Helper()
	d, err := namespace.Parse("namespace: plays\nabstraction: kv\n"+doc, namespace.Defaults{Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	n := &Namespace{Name: "plays"}
	n.SetConfig(d.Config)
	return n
}

// TestLimitsAtTheirEdges tries one below, at, and one above each limit.
func TestLimitsAtTheirEdges(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t, "")
	put := func(change func(*headwaterv1.PutItemsRequest)) error {
		r := &headwaterv1.PutItemsRequest{Namespace: "plays", Id: "r", Items: []*headwaterv1.PutItem{{Key: []byte("k")}}}
		change(r)
		_, _, err := putRequest(ns, r)
		return err
	}
	items := func(n int) []*headwaterv1.PutItem {
		out := make([]*headwaterv1.PutItem, n)
		for i := range out {
			out[i] = &headwaterv1.PutItem{Key: fmt.Appendf(nil, "%d", i)}
		}
		return out
	}
	for _, c := range []struct {
		what   string
		at     int
		reason string
		try    func(n int) error
	}{
		{"id", kv.MaxIDBytes, apierrors.BadID, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) { r.Id = strings.Repeat("x", n) })
		}},
		{"key", kv.MaxKeyBytes, apierrors.BadKey, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) { r.Items[0].Key = make([]byte, n) })
		}},
		{"value", MaxInlineValue, apierrors.ValueTooLarge, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) { r.Items[0].Value = make([]byte, n) })
		}},
		{"items", MaxItems, apierrors.TooManyItems, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) { r.Items = items(n) })
		}},
		{"token key", MaxTokenKeyBytes, apierrors.BadToken, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) {
				r.Token = &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: strings.Repeat("x", n)}}
			})
		}},
		{"content type", MaxContentType, apierrors.BadContentType, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) { r.Items[0].ContentType = strings.Repeat("x", n) })
		}},
		{"ttl", int(MaxTTL / time.Second), apierrors.BadTTL, func(n int) error {
			return put(func(r *headwaterv1.PutItemsRequest) { r.Items[0].Ttl = &durationpb.Duration{Seconds: int64(n)} })
		}},
		{"page", MaxPageBytes, apierrors.BadPageSize, func(n int) error {
			_, err := pageBytes(int64(n), true)
			return err
		}},
	} {
		for _, n := range []int{c.at - 1, c.at} {
			if err := c.try(n); err != nil {
				t.Errorf("%s of %d: %v", c.what, n, err)
			}
		}
		for _, n := range []int{c.at + 1, c.at * 10} {
			if got := reasonOf(c.try(n)); got != c.reason {
				t.Errorf("%s of %d: %q, want %s", c.what, n, got, c.reason)
			}
		}
	}
	if got := reasonOf(put(func(r *headwaterv1.PutItemsRequest) { r.Id = "\xff" })); got != apierrors.BadUTF8 {
		t.Errorf("an id that is not UTF-8: %q", got)
	}
	for _, n := range []int{15, 17, 0} {
		_, err := parseToken(&headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Nonce{Nonce: make([]byte, n)}})
		if reasonOf(err) != apierrors.BadToken {
			t.Errorf("a nonce of %d bytes: %v", n, err)
		}
	}
	for _, at := range []*timestamppb.Timestamp{{Seconds: math.MinInt64}, {Seconds: -5}, {Nanos: -1}, {Seconds: math.MaxInt64}} {
		if _, err := parseToken(&headwaterv1.IdempotencyToken{GenerationTime: at}); reasonOf(err) != apierrors.BadToken {
			t.Errorf("generated at %v: %v", at, err)
		}
	}
}

// TestBoundsBecomeHalfOpenRanges compares the four kinds of bounds with what they
// say, for keys on and around them.
func TestBoundsBecomeHalfOpenRanges(t *testing.T) {
	t.Parallel()
	keys := []string{"", "a", "a\x00", "b", "b\x00", "b\x00\x00", "c"}
	for _, startExclusive := range []bool{false, true} {
		for _, endInclusive := range []bool{false, true} {
			r, err := parseRange(&headwaterv1.Predicate_MatchRange{Start: []byte("a"), End: []byte("b"), StartExclusive: startExclusive, EndInclusive: endInclusive})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				want := (k > "a" || k == "a" && !startExclusive) && (k < "b" || k == "b" && endInclusive)
				if got := r.Contains([]byte(k)); got != want {
					t.Errorf("%q in a..b (start exclusive %v, end inclusive %v): %v, want %v", k, startExclusive, endInclusive, got, want)
				}
			}
		}
	}
	if r, err := parseRange(&headwaterv1.Predicate_MatchRange{}); err != nil || !r.Contains([]byte("")) || !r.Contains([]byte("\xff\xff")) {
		t.Errorf("without bounds, everything: %+v, %v", r, err)
	}
}

func TestRatesAreShedWithAHint(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t, "limits: {write_per_second: 1000}\n")
	ns.SetReady()
	if err := ns.admitWrite(1000, 0); err != nil {
		t.Fatalf("a second's worth at once: %v", err)
	}
	err := ns.admitWrite(1000, 0)
	if e := apierrors.From(err); e == nil || e.Reason != apierrors.RateLimited || e.Code != codes.ResourceExhausted || e.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	starting := testNamespace(t, "")
	if got := reasonOf(starting.admitWrite(1, 1)); got != apierrors.Starting {
		t.Errorf("before the log is read: %q", got)
	}
	starting.SetReady()
	starting.SetLogFull(true)
	if got := reasonOf(starting.admitWrite(1, 1)); got != apierrors.LogFull {
		t.Errorf("at log.max_bytes: %q", got)
	}
}

// TestEveryWriteErrorSaysItsOutcome goes through what the packages below return.
func TestEveryWriteErrorSaysItsOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err     error
		unknown bool
		reason  string
		code    codes.Code
		outcome apierrors.Outcome
	}{
		{wal.ErrTokenReused, false, apierrors.TokenReused, codes.AlreadyExists, apierrors.NotApplied},
		{&kv.ConditionError{Current: wal.Version{Time: 5}}, false, apierrors.ConditionFailed, codes.Aborted, apierrors.NotApplied},
		{&kv.ParkedError{Key: []byte("k")}, false, apierrors.Parked, codes.FailedPrecondition, apierrors.NotApplied},
		{&kv.ParkedError{Key: []byte("k"), Appended: true}, true, apierrors.Parked, codes.FailedPrecondition, apierrors.Unknown},
		{fmt.Errorf("%w: %w", wal.ErrNotAppended, wal.ErrDiskFull), false, apierrors.DiskFull, codes.Unavailable, apierrors.NotApplied},
		{fmt.Errorf("%w: %w", wal.ErrNotAppended, wal.ErrFailed), false, apierrors.LogFailed, codes.Unavailable, apierrors.NotApplied},
		{fmt.Errorf("%w: %w", wal.ErrNotAppended, wal.ErrUnapplied), false, apierrors.ApplyBehind, codes.ResourceExhausted, apierrors.NotApplied},
		{fmt.Errorf("%w: gone", wal.ErrNotAppended), false, apierrors.LogUnavailable, codes.Unavailable, apierrors.NotApplied},
		{fmt.Errorf("%w: reset", wal.ErrUnknown), true, apierrors.AppendUnknown, codes.Unavailable, apierrors.Unknown},
		{fmt.Errorf("%w: %w", wal.ErrUnknown, context.DeadlineExceeded), true, apierrors.OutcomeUnknown, codes.DeadlineExceeded, apierrors.Unknown},
		{wal.ErrTokensFull, false, apierrors.TokensFull, codes.ResourceExhausted, apierrors.NotApplied},
	} {
		e := apierrors.From(forWrite(c.err, c.unknown, nil))
		if e.Reason != c.reason || e.Code != c.code || e.Outcome != c.outcome {
			t.Errorf("%v: %s %v %s, want %s %v %s", c.err, e.Reason, e.Code, e.Outcome, c.reason, c.code, c.outcome)
		}
	}
}

func TestInterceptorShedsDrainsAndSurvivesPanics(t *testing.T) {
	t.Parallel()
	var draining atomic.Bool
	i := &interceptor{logger: slog.New(slog.DiscardHandler), metrics: newMetrics(nil), max: 1, draining: &draining}
	info := &grpc.UnaryServerInfo{FullMethod: "/headwater.v1.KeyValueService/PutItems"}
	put := &headwaterv1.PutItemsRequest{Token: &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: "k"}}}
	call := func(f grpc.UnaryHandler) *apierrors.Error {
		_, err := i.unary(t.Context(), put, info, f)
		e := apierrors.From(err)
		if e != nil && e.Token != put.Token {
			t.Errorf("%v has token %v, not that of the request", e, e.Token)
		}
		return e
	}
	if e := call(func(context.Context, any) (any, error) { panic("boom") }); e.Reason != apierrors.Panicked || e.Outcome != apierrors.Unknown {
		t.Errorf("a panic: %v", e)
	}
	if e := call(func(ctx context.Context, _ any) (any, error) {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > DefaultTimeout {
			t.Errorf("deadline %v, %v", d, ok)
		}
		// While this one is in hand there is room for no more than one other.
		second := call(func(context.Context, any) (any, error) {
			return nil, apierrors.From(call(func(context.Context, any) (any, error) { return nil, nil }))
		})
		if second == nil || second.Reason != apierrors.Overloaded || second.RetryAfter <= 0 || second.Outcome != apierrors.NotApplied {
			t.Errorf("above the limit: %v", second)
		}
		return nil, nil
	}); e != nil {
		t.Errorf("a call within the limit: %v", e)
	}
	draining.Store(true)
	if e := call(func(context.Context, any) (any, error) { return nil, nil }); e.Reason != apierrors.Draining || e.Outcome != apierrors.NotApplied {
		t.Errorf("while draining: %v", e)
	}
	admin := &grpc.UnaryServerInfo{FullMethod: "/headwater.v1.AdminService/Status"}
	if _, err := i.unary(t.Context(), nil, admin, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
		t.Errorf("status is answered while draining: %v", err)
	}
}

// TestWritesAreKnownByTheirDefinition: the errors of these carry an outcome.
func TestWritesAreKnownByTheirDefinition(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{
		headwaterv1.KeyValueService_PutItems_FullMethodName: true, headwaterv1.KeyValueService_BatchPutItems_FullMethodName: true,
		headwaterv1.KeyValueService_UploadChunk_FullMethodName: true, headwaterv1.LogService_WriteToLog_FullMethodName: true,
		headwaterv1.LogService_DropDeadLetters_FullMethodName: true, headwaterv1.NamespaceService_DeleteNamespace_FullMethodName: true,
		headwaterv1.KeyValueService_GetItems_FullMethodName: false, headwaterv1.LogService_ReadLog_FullMethodName: false,
		headwaterv1.AdminService_Status_FullMethodName: false, "/grpc.health.v1.Health/Check": false, "/headwater.v1.Nothing/Here": false,
	} {
		if got := writes(method); got != want {
			t.Errorf("%s writes: %v, want %v", method, got, want)
		}
	}
}
