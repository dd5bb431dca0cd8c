package gateway

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// endlessStream is a stream whose context also ends when the server begins to
// drain, if it is one that has no end of its own: it would keep the process for
// as long as its reader likes.
type endlessStream struct {
	grpc.ServerStream
	method   string
	draining context.Context
	ctx      context.Context
	cancel   context.CancelCauseFunc
	stop     func() bool
	wire     *wireReader // nil over HTTP
	single   bool        // the request is one message
}

// errDraining is the cause of the end of an endless stream.
var errDraining = apierrors.New(apierrors.Draining, "the server is shutting down; go on from the last position at another, or when it is back")

func newEndlessStream(ss grpc.ServerStream, info *grpc.StreamServerInfo, draining context.Context) *endlessStream {
	s := &endlessStream{
		ServerStream: ss, method: info.FullMethod, draining: draining,
		wire: wireOf(ss.Context()), single: !info.IsClientStream,
	}
	s.ctx, s.cancel = context.WithCancelCause(ss.Context())
	return s
}

func (s *endlessStream) Context() context.Context { return s.ctx }

// RecvMsg learns from the request whether the stream is endless.
func (s *endlessStream) RecvMsg(m any) error {
	err := s.receive(m)
	if err == nil && s.stop == nil && endless(s.method, m) {
		s.stop = context.AfterFunc(s.draining, func() { s.cancel(errDraining) })
	}
	return err
}

func (s *endlessStream) receive(m any) error {
	switch {
	case s.wire == nil:
		return s.ServerStream.RecvMsg(m)
	case s.single:
		return s.wire.one(m)
	default:
		return s.wire.next(m)
	}
}

// SendMsg encodes messages itself; see encodeAnswer.
func (s *endlessStream) SendMsg(m any) error {
	if s.wire == nil {
		return s.ServerStream.SendMsg(m)
	}
	answer, err := encodeAnswer(m)
	if err != nil {
		return err
	}
	return s.ServerStream.SendMsg(answer)
}

// end is called when the handler has returned err.
func (s *endlessStream) end(err error) error {
	if s.stop != nil {
		s.stop()
	}
	if err != nil && errors.Is(context.Cause(s.ctx), errDraining) {
		err = errDraining
	}
	s.cancel(nil)
	return err
}

func endless(method string, request any) bool {
	switch r := request.(type) {
	case *headwaterv1.ReadLogRequest:
		return r.GetFollow()
	case *headwaterv1.WatchNamespacesRequest:
		return true
	}
	return strings.HasPrefix(method, "/grpc.") // health and reflection
}
