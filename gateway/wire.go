package gateway

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // which requests may be compressed with
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
)

// grpc-go answers a request that it cannot read by itself, without a reason and as
// INTERNAL, before an interceptor sees it. So requests are read here: from the
// stream below grpc.ServerStream, which has the methods of wireStream though no
// interface says so. Where it has not, as over HTTP, RecvMsg reads as it always
// did.

// maxMessage is the most bytes that a request message may have, before and after
// it is unpacked. Its framing is not counted.
const maxMessage = MaxRequestBytes

// wireStream reads what a stream carries: messages behind headers of five bytes.
type wireStream interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	RecvCompress() string
}

// wireReader reads the messages of one stream. Used by one goroutine.
type wireReader struct {
	ctx    context.Context
	stream wireStream
	header [5]byte // whether the message is compressed, and its length
}

// wireOf returns the reader of the call that ctx is of; nil where it is not
// grpc-go's.
func wireOf(ctx context.Context) *wireReader {
	if s, ok := grpc.ServerTransportStreamFromContext(ctx).(wireStream); ok {
		return &wireReader{ctx: ctx, stream: s}
	}
	return nil
}

var codec = newFrameCodec()

// one reads the message of a request that is one message.
func (w *wireReader) one(v any) error {
	if err := w.next(v); err != nil {
		if errors.Is(err, io.EOF) {
			return unreadable(v, nil, "there is no message")
		}
		return err
	}
	switch err := w.stream.ReadMessageHeader(w.header[:]); {
	case err == nil:
		return unreadable(v, nil, "there is more than one message")
	case errors.Is(err, io.EOF):
		return nil
	default:
		return w.broken(v, err)
	}
}

// next reads a message; io.EOF: there is none.
func (w *wireReader) next(v any) error {
	switch err := w.stream.ReadMessageHeader(w.header[:]); {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return w.broken(v, err)
	}
	n := uint32(w.header[1])<<24 | uint32(w.header[2])<<16 | uint32(w.header[3])<<8 | uint32(w.header[4])
	if n > maxMessage {
		return tooLarge()
	}
	data, err := w.stream.Read(int(n))
	if err != nil {
		return w.broken(v, err)
	}
	if w.header[0] != 0 {
		packed := data
		data, err = w.unpack(packed, v)
		packed.Free()
		if err != nil {
			return err
		}
	}
	err = codec.Unmarshal(data, v)
	data.Free()
	if err != nil {
		return unreadable(v, err, protoText(err))
	}
	return nil
}

// broken is the error of a stream that ended inside a message, or with its call.
func (w *wireReader) broken(v any, err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return unreadable(v, err, "it ends within a message")
	case w.ctx.Err() != nil:
		return apierrors.From(w.ctx.Err())
	}
	return apierrors.Wrap(apierrors.Cancelled, err, "the request did not arrive whole; send it again")
}

func tooLarge() error {
	return apierrors.New(apierrors.RequestTooLarge,
		"the request is above %d MiB; split the call, or send large values through BeginUpload", MaxRequestBytes>>20)
}

func unreadable(v any, err error, why string) error {
	name := "request"
	if m, ok := v.(proto.Message); ok {
		name = string(m.ProtoReflect().Descriptor().Name())
	}
	return apierrors.Wrap(apierrors.MalformedRequest, err,
		"the %s cannot be read: %.200s; send one as the API has it", name, why)
}

// unpack undoes the compression of a message, up to a byte more than it may have.
func (w *wireReader) unpack(packed mem.BufferSlice, v any) (mem.BufferSlice, error) {
	if w.header[0] != 1 {
		return nil, unreadable(v, nil, "its first byte is neither 0 nor 1")
	}
	c := encoding.GetCompressor(w.stream.RecvCompress())
	if c == nil { // grpc-go has refused a name that it does not know
		return nil, unreadable(v, nil, "it is compressed and does not say how")
	}
	r, err := c.Decompress(packed.Reader())
	if err != nil {
		return nil, unreadable(v, err, err.Error())
	}
	data, err := mem.ReadAll(io.LimitReader(r, maxMessage+1), mem.DefaultBufferPool())
	switch {
	case err != nil:
		err = unreadable(v, err, err.Error())
	case data.Len() > maxMessage:
		err = tooLarge()
	default:
		return data, nil
	}
	data.Free()
	return nil, err
}

// wireServices registers services with a grpc.Server whose requests are read here.
type wireServices struct {
	*grpc.Server
	around *interceptor
}

// RegisterService implements grpc.ServiceRegistrar.
func (w wireServices) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = slices.Clone(desc.Methods)
	for i := range d.Methods {
		m := &d.Methods[i]
		m.Handler = w.around.reads("/"+d.ServiceName+"/"+m.MethodName, m.Handler)
	}
	w.Server.RegisterService(&d, impl)
}

// reads returns a handler whose request is read here, and whose errors are those
// of the API also where that fails.
func (i *interceptor) reads(method string, h grpc.MethodHandler) grpc.MethodHandler {
	//nolint:revive // the parameters' order is gRPC's
	return func(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		start := time.Now()
		if w := wireOf(ctx); w != nil {
			decode = w.one
		}
		res, err := h(srv, ctx, decode, around)
		if err != nil && !finished(err) { // it has not reached the method
			e := *apierrors.From(err)
			if writes(method) {
				e.Outcome = apierrors.NotApplied
			}
			return nil, i.done(ctx, method, start, &e, nil)
		}
		if err != nil {
			return nil, err
		}
		answer, err := encodeAnswer(res)
		if err != nil {
			return nil, i.done(ctx, method, start, err, nil)
		}
		return answer, nil
	}
}

// finished reports whether an error has the form of the API.
func finished(err error) bool {
	e, ok := err.(*apierrors.Error) //nolint:errorlint // as done returns it, not what it may wrap
	return ok && e.Metadata[apierrors.MetaRequestID] != ""
}

// encodedAnswer is a message as it is sent.
type encodedAnswer struct{ data mem.BufferSlice }

// encodeAnswer encodes here, as grpc-go's error where it cannot has no reason.
func encodeAnswer(v any) (*encodedAnswer, error) {
	data, err := codec.Marshal(v)
	if err != nil {
		return nil, apierrors.Wrap(apierrors.Internal, err,
			"the answer could not be encoded; report it with the request id")
	}
	if n := data.Len(); n > MaxSentBytes {
		data.Free()
		return nil, apierrors.New(apierrors.AnswerTooLarge,
			"the answer has %d bytes, and clients take %d; ask for less", n, MaxSentBytes)
	}
	return &encodedAnswer{data}, nil
}

// malformedName refuses the path of a call that is not /service/method.
func malformedName(ctx context.Context, info *tap.Info) (context.Context, error) {
	if name, ok := strings.CutPrefix(info.FullMethodName, "/"); !ok || !strings.Contains(name, "/") {
		return ctx, notServed(ctx, info.FullMethodName).GRPCStatus().Err()
	}
	return ctx, nil
}

// unknownMethod is the handler of what is not registered, and its label.
const unknownMethod = "unknown"

func answerUnknown(_ any, ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	return notServed(ss.Context(), name)
}

func notServed(ctx context.Context, name string) *apierrors.Error {
	e, _ := named(ctx, apierrors.New(apierrors.NotOffered,
		"this server has no method %.100q; check its name, and the server's version with Status", name))
	return e
}

// protoText is what the protobuf library says, which varies its spaces on purpose.
func protoText(err error) string {
	s := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:")
	return strings.TrimSpace(s)
}
