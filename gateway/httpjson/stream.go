package httpjson

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/headwater-db/headwater/api/apierrors"
)

// stream serves a call that streams one way. For a plain route, req is the
// request and the body is not read; otherwise req is nil.
func (x *exchange) stream(desc *grpc.StreamDesc, srv any, fullMethod string, md protoreflect.MethodDescriptor, req proto.Message) {
	timeout, err := x.timeout()
	if err != nil {
		x.fail(err)
		return
	}
	receive := timeout
	if receive == 0 {
		receive = x.h.cfg.DefaultTimeout
		if desc.ClientStreams {
			timeout = receive
		}
	}
	ctx, cancel := x.context(fullMethod, timeout)
	defer cancel()
	defer x.endPush()
	s := &stream{x: x, ctx: ctx, request: req}
	switch {
	case req != nil:
	case desc.ClientStreams:
		body, err := x.openBody(x.h.cfg.MaxStreamBytes, receive)
		if err != nil {
			x.fail(err)
			return
		}
		s.lines = bufio.NewReaderSize(body, firstRead)
	default:
		body, err := x.readBody(x.h.cfg.jsonLimit(), receive)
		if err != nil {
			x.fail(err)
			return
		}
		s.body, s.hasBody = body, true
	}
	s.send, s.ndjson = x.sendLine, !desc.ClientStreams
	if desc.ClientStreams {
		s.send = func(m proto.Message) error { s.last = m; return nil }
	}
	if err := x.runStream(desc, srv, fullMethod, s); err != nil && !x.headSent() {
		x.fail(err)
		return
	}
	if desc.ClientStreams {
		if s.last == nil {
			x.fail(fmt.Errorf("%s ended without an answer", md.FullName()))
			return
		}
		x.answerMessage(s.last)
		return
	}
	if !x.started { // a stream without messages
		x.startLines()
	}
}

// runStream calls the handler through the interceptor.
func (x *exchange) runStream(desc *grpc.StreamDesc, srv any, fullMethod string, s grpc.ServerStream) error {
	if x.h.cfg.StreamInterceptor == nil {
		return desc.Handler(srv, s)
	}
	return x.h.cfg.StreamInterceptor(srv, s, &grpc.StreamServerInfo{
		FullMethod: fullMethod, IsClientStream: desc.ClientStreams, IsServerStream: desc.ServerStreams,
	}, desc.Handler)
}

// stream is a grpc.ServerStream over one HTTP exchange. Like gRPC's, RecvMsg and
// SendMsg may be called by one goroutine each.
type stream struct {
	x       *exchange
	ctx     context.Context
	send    func(proto.Message) error
	request proto.Message // of a plain route; nil once received
	body    []byte        // of a server stream
	hasBody bool          // body was not received yet
	lines   *bufio.Reader // of a client stream
	ndjson  bool          // messages are lines of the answer
	last    proto.Message // the answer to a client stream
}

var _ grpc.ServerStream = (*stream)(nil)

func (s *stream) SetHeader(md metadata.MD) error { s.x.setHeader(md); return nil }
func (s *stream) SetTrailer(metadata.MD)         {}
func (s *stream) Context() context.Context       { return s.ctx }

// SendHeader sends the head of a newline-delimited answer now, before there is a
// message. Other streams have their headers with the first message.
func (s *stream) SendHeader(md metadata.MD) error {
	s.x.setHeader(md)
	if !s.ndjson || s.x.started {
		return nil
	}
	s.x.startLines()
	if err := s.x.endHead(); err != nil {
		return err
	}
	return s.x.push(nil)
}

func (s *stream) SendMsg(v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("message is a %T", v)
	}
	if err := s.ctx.Err(); err != nil {
		return apierrors.From(err)
	}
	return s.send(m)
}

func (s *stream) RecvMsg(v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("message is a %T", v)
	}
	switch {
	case s.request != nil:
		proto.Merge(m, s.request)
		s.request = nil
		return nil
	case s.hasBody:
		body := s.body
		s.body, s.hasBody = nil, false
		return s.x.decode(body, m)
	case s.lines != nil:
		return s.recvLine(m)
	}
	return io.EOF
}

// recvLine reads the next line that is not empty.
func (s *stream) recvLine(m proto.Message) error {
	var line []byte
	limit := s.x.h.cfg.jsonLimit()
	for {
		part, err := s.lines.ReadSlice('\n')
		if int64(len(line)+len(part)) > limit {
			return s.x.tooLarge(limit)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return s.x.bodyError(err, s.x.h.cfg.MaxStreamBytes)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return s.x.decode(line, m)
		}
		if err != nil {
			if err := s.x.closeBody(); err != nil {
				return err
			}
			return io.EOF
		}
		line = line[:0]
	}
}

// startLines sends the head of a newline-delimited answer.
func (x *exchange) startLines() {
	x.w.Header().Set("Content-Type", "application/x-ndjson")
	x.w.Header().Set("Cache-Control", "no-store")
	x.w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold messages back
	x.started, x.ndjson = true, true
	x.w.WriteHeader(http.StatusOK)
}

// sendLine sends one message of a stream now.
func (x *exchange) sendLine(m proto.Message) error {
	data, err := encode(m)
	if err != nil {
		return err
	}
	if !x.started {
		x.startLines()
	}
	if err := x.endHead(); err != nil {
		return err
	}
	return x.push(append(data, '\n'))
}

// endHead ends the stream that answers a HEAD where its body would begin.
func (x *exchange) endHead() error {
	if x.r.Method != http.MethodHead {
		return nil
	}
	return apierrors.New(apierrors.Cancelled, "a HEAD has no body; send a GET for it")
}

// headSent reports whether the answer to a HEAD is out, and so its stream over.
func (x *exchange) headSent() bool { return x.r.Method == http.MethodHead && x.started }

// push writes a piece of a streamed answer and flushes it, or gives the peer up
// after WriteTimeout.
func (x *exchange) push(data []byte) error {
	rc := http.NewResponseController(x.w)
	x.pushed = true
	if err := rc.SetWriteDeadline(time.Now().Add(x.h.cfg.WriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if _, err := x.w.Write(data); err != nil {
		return apierrors.Wrap(apierrors.Cancelled, err, "the caller does not take the stream; start it again from the last position")
	}
	if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return apierrors.Wrap(apierrors.Cancelled, err, "the caller does not take the stream; start it again from the last position")
	}
	return nil
}

// endPush takes the write deadline back, which would otherwise outlive the
// stream on a connection that is used again.
func (x *exchange) endPush() {
	if !x.pushed {
		return
	}
	if err := http.NewResponseController(x.w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.h.cfg.Logger.LogAttrs(x.r.Context(), slog.LevelDebug, "write deadline not reset", slog.String("request_id", x.id), slog.Any("error", err))
	}
}
