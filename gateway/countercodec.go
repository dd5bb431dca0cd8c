package gateway

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
)

// AddCounts over gRPC is not decoded into a message: a call of a thousand adds
// would be a thousand messages that live until their names are copied into the
// log's record. Its bytes are read where they lie; see addsScanner. JSON takes
// the generated code, and so would a service that is not a *Counter.

// frame is the request of AddCounts as it came.
type frame struct{ buf mem.Buffer }

func (f *frame) free() {
	if f.buf != nil {
		f.buf.Free()
		f.buf = nil
	}
}

// frameCodec is gRPC's own codec that leaves a frame undecoded, and sends an
// itemsFrame as it is.
type frameCodec struct{ encoding.CodecV2 }

func newFrameCodec() frameCodec { return frameCodec{encoding.GetCodecV2(protocodec.Name)} }

// Unmarshal decodes data into v, or keeps it if v is a frame.
func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.buf = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Marshal encodes v, or gives the buffers of what is encoded already up to gRPC.
func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *itemsFrame:
		return v.buffers(), nil
	case *encodedAnswer:
		return v.data, nil
	}
	return c.CodecV2.Marshal(v)
}

// registerCounter registers the service so that AddCounts gets its bytes. The
// server must have a frameCodec.
func registerCounter(r grpc.ServiceRegistrar, srv headwaterv1.CounterServiceServer) {
	s, ok := srv.(*Counter)
	if !ok {
		headwaterv1.RegisterCounterServiceServer(r, srv)
		return
	}
	registerWith(r, headwaterv1.CounterService_ServiceDesc, "AddCounts", addCountsHandler, s)
}

// registerWith registers a service with a handler of our own for one method.
func registerWith(r grpc.ServiceRegistrar, desc grpc.ServiceDesc, method string, h grpc.MethodHandler, srv any) {
	desc.Methods = append([]grpc.MethodDesc(nil), desc.Methods...)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == method {
			desc.Methods[i].Handler = h
		}
	}
	r.RegisterService(&desc, srv)
}

// addCountsHandler is what the generated code has for AddCounts, with a frame in
// place of the message.
func addCountsHandler(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the parameters' order is gRPC's
	s, ok := srv.(*Counter)
	if !ok {
		return nil, errors.New("AddCounts is registered for another service")
	}
	in := &frame{}
	defer in.free()
	if err := decode(in); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, req any) (any, error) {
		f, ok := req.(*frame)
		if !ok {
			return nil, errors.New("an interceptor has replaced the request of AddCounts")
		}
		return s.addFrame(ctx, f.buf.ReadOnlyData())
	}
	if around == nil {
		return call(ctx, in)
	}
	return around(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: headwaterv1.CounterService_AddCounts_FullMethodName}, call)
}

// addFrame is AddCounts of an encoded request.
func (s *Counter) addFrame(ctx context.Context, data []byte) (*headwaterv1.AddCountsResponse, error) {
	var head addsHead
	if err := head.scan(data); err != nil {
		return nil, forWrite(malformed(err), false, nil)
	}
	ns, err := s.dir.counter(ctx, string(head.namespace))
	if err != nil {
		return nil, forWrite(err, false, head.token)
	}
	adds, err := parseFrame(ns.Counter, data, head.adds)
	if err != nil {
		return nil, forWrite(err, false, head.token)
	}
	result, err := s.add(ctx, ns, adds, head.token)
	if err != nil {
		return nil, err
	}
	return &headwaterv1.AddCountsResponse{Result: result}, nil
}

func malformed(err error) error {
	return apierrors.Wrap(apierrors.MalformedRequest, err, "the request is not an AddCountsRequest; it cannot be decoded")
}

// parseFrame is parseAdds of an encoded request that has n adds.
func parseFrame(db *counter.DB, data []byte, n int) (*counter.Adds, error) {
	if n == 0 || n > MaxAdds {
		return nil, tooManyAdds(n)
	}
	out := db.NewAdds()
	var a counter.Add
	sc := addsScanner{rest: data}
	for i := 0; ; i++ {
		more, err := sc.next()
		if err != nil {
			return nil, malformed(err)
		}
		if !more {
			return out, nil
		}
		// The scanner has seen to UTF-8.
		if len(sc.counter) == 0 || len(sc.counter) > MaxCounterName {
			return nil, atAdd(badName(len(sc.counter)), i)
		}
		a.Counter = sc.counter
		if err := parseRest(&a, sc.delta, sc.event(), sc.lifetime(), sc.token); err != nil {
			return nil, atAdd(err, i)
		}
		out.Add(&a)
	}
}
