package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/segmentio/ksuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/gateway/httpjson"
)

// The deadline of a call that asks for none, and the longest that is kept.
const (
	DefaultTimeout = 5 * time.Second
	MaxTimeout     = 60 * time.Second
)

// interceptor is around every call, from gRPC and from HTTP alike.
type interceptor struct {
	logger   *slog.Logger
	metrics  *metrics
	max      int64 // calls at a time; streams that follow are not counted against it
	inFlight atomic.Int64
	streams  atomic.Int64
	draining *atomic.Bool
	// methods are those that are served; nil: all.
	methods map[string]bool
	// drain is done when the server begins to drain; nil: never.
	drain context.Context
}

// maxStreams bounds the open streams of this process.
const maxStreams = 4096

// writes reports whether a method of ours changes something: its errors then carry
// an outcome.
func writes(method string) bool {
	if !strings.HasPrefix(method, "/headwater.") {
		return false
	}
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	m, ok := d.(protoreflect.MethodDescriptor)
	return err == nil && ok && httpjson.Writes(m)
}

func (i *interceptor) admit(method string) error {
	// Reads of what this process does are answered also when nothing else is.
	if strings.HasPrefix(method, "/grpc.") || strings.HasPrefix(method, "/headwater.v1.AdminService/") && !writes(method) {
		return nil
	}
	if i.draining.Load() {
		return apierrors.New(apierrors.Draining, "the server is shutting down; retry")
	}
	if i.inFlight.Load() > i.max {
		return apierrors.New(apierrors.Overloaded, "the server has %d requests in hand; retry after the hint", i.max)
	}
	return nil
}

// unary is the interceptor of calls.
func (i *interceptor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()
	i.inFlight.Add(1)
	i.metrics.inFlight.Inc()
	defer func() {
		i.inFlight.Add(-1)
		i.metrics.inFlight.Dec()
	}()
	if err = i.admit(info.FullMethod); err != nil {
		err = refusedWrite(info.FullMethod, err)
	} else {
		limit := MaxTimeout
		if _, ok := ctx.Deadline(); !ok {
			limit = DefaultTimeout
		}
		c := newCallContext(ctx, limit)
		defer c.end()
		resp, err = i.call(c, info.FullMethod, func() (any, error) { return next(c, req) })
	}
	return resp, i.done(ctx, info.FullMethod, start, err, tokenOf(req))
}

// refusedWrite says of the error of a call that no handler has seen that it changed
// nothing, where it would have.
func refusedWrite(method string, err error) error {
	if e := apierrors.From(err); writes(method) {
		return e.ForWrite(apierrors.NotApplied, nil)
	}
	return err
}

// tokenOf is the token that a request came with, or nil.
func tokenOf(req any) *headwaterv1.IdempotencyToken {
	if r, ok := req.(interface {
		GetToken() *headwaterv1.IdempotencyToken
	}); ok {
		return r.GetToken()
	}
	return nil
}

// stream is the interceptor of streams. They have no deadline but the caller's.
func (i *interceptor) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	start, method := time.Now(), info.FullMethod
	if i.methods != nil && !i.methods[method] {
		method = unknownMethod
	}
	if n := i.streams.Add(1); n > maxStreams {
		err = refusedWrite(info.FullMethod, apierrors.New(apierrors.TooManyStreams, "the server has %d open streams; close some", maxStreams))
	} else if err = i.admit(info.FullMethod); err != nil {
		err = refusedWrite(info.FullMethod, err)
	} else {
		if i.drain != nil {
			es := newEndlessStream(ss, info, i.drain)
			_, err = i.call(es.ctx, info.FullMethod, func() (any, error) { return nil, next(srv, es) })
			err = es.end(err)
		} else {
			_, err = i.call(ss.Context(), info.FullMethod, func() (any, error) { return nil, next(srv, ss) })
		}
	}
	i.streams.Add(-1)
	return i.done(ss.Context(), method, start, err, nil)
}

// call turns a panic into an error: one broken request must not take the
// process, and what others have acknowledged, with it.
func (i *interceptor) call(ctx context.Context, method string, f func() (any, error)) (resp any, err error) {
	defer func() {
		if r := recover(); r != nil {
			id := requestID(ctx)
			i.logger.ErrorContext(ctx, "a request handler panicked", "method", method, "request_id", id,
				"panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			resp, err = nil, apierrors.New(apierrors.Panicked, "a request handler broke down; report it with the request id").With(apierrors.MetaRequestID, id)
		}
	}()
	return f()
}

// done counts and logs a call and gives its error the form of the API.
func (i *interceptor) done(ctx context.Context, method string, start time.Time, err error, token *headwaterv1.IdempotencyToken) error {
	m := i.metrics.of(method)
	m.seconds.Observe(time.Since(start).Seconds())
	if err == nil {
		m.ok.Inc()
		return nil
	}
	e := fromDomain(err)
	if writes(method) {
		e = e.AsWrite(token)
	}
	return i.note(ctx, method, e)
}

// failedBefore counts and logs a request over HTTP that was refused before it was a
// call: a body that is no JSON, a host that is not served.
func (i *interceptor) failedBefore(ctx context.Context, method string, e *apierrors.Error) {
	if method == "" {
		method = unknownMethod
	}
	_ = i.note(ctx, method, e) // it is answered as it is
}

// note counts and logs a failed call, and returns its error with the request's id.
func (i *interceptor) note(ctx context.Context, method string, e *apierrors.Error) error {
	i.metrics.requests.WithLabelValues(method, apierrors.CodeName(e.Code), e.Reason).Inc()
	e, id := named(ctx, e)
	level := slog.LevelDebug
	if e.Reason == apierrors.Internal || e.Reason == apierrors.Corrupt {
		level = slog.LevelError
	}
	i.logger.Log(ctx, level, "a request failed", "method", method, "reason", e.Reason, "request_id", id, "error", e.Error())
	return e
}

// named returns e with the id of its request, and the id. e may be shared, and is
// not changed.
func named(ctx context.Context, e *apierrors.Error) (*apierrors.Error, string) {
	if id := e.Metadata[apierrors.MetaRequestID]; id != "" {
		return e, id
	}
	id := requestID(ctx)
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	return c.With(apierrors.MetaRequestID, id), id
}

// requestID returns the id that the transport gave the request, or one that the
// caller sent over gRPC, or a new one.
func requestID(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(v) == 1 && len(v[0]) <= 64 {
		return v[0]
	}
	return ksuid.New().String()
}
