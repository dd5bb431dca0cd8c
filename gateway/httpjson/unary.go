package httpjson

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
)

// unary serves one call of a request and an answer.
func (x *exchange) unary(m *method) {
	timeout, err := x.timeout()
	if err != nil {
		x.fail(err)
		return
	}
	if timeout == 0 {
		timeout = x.h.cfg.DefaultTimeout
	}
	ctx, cancel := x.context(m.path, timeout)
	defer cancel()
	body, err := x.readBody(x.h.cfg.jsonLimit(), timeout)
	if err != nil {
		x.fail(err)
		return
	}
	decode := func(v any) error {
		msg, ok := v.(proto.Message)
		if !ok {
			return fmt.Errorf("request of %s is a %T", m.path, v)
		}
		return x.decode(body, msg)
	}
	res, err := m.unary.Handler(m.srv, ctx, decode, x.h.cfg.Interceptor)
	if err != nil {
		x.fail(err)
		return
	}
	x.answerMessage(res)
}

func (x *exchange) answerMessage(res any) {
	data, err := encodeAny(res)
	if err != nil {
		// The call took place; only its answer is lost.
		x.fail(apierrors.Wrap(apierrors.Internal, err, "the answer could not be encoded; report it with the request id").ForWrite(x.unknown(), nil))
		return
	}
	x.answer(data)
}

func (x *exchange) unknown() apierrors.Outcome {
	if x.write {
		return apierrors.Unknown
	}
	return apierrors.OutcomeNone
}

func encodeAny(v any) ([]byte, error) {
	msg, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("answer is a %T", v)
	}
	return encode(msg)
}

// invoke calls a unary method for a plain route, through the interceptor.
func invoke[Req, Res proto.Message](ctx context.Context, x *exchange, srv any, fullMethod string, req Req, call func(context.Context, Req) (Res, error)) (Res, error) {
	if x.h.cfg.Interceptor == nil {
		return call(ctx, req)
	}
	var none Res
	res, err := x.h.cfg.Interceptor(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod},
		func(ctx context.Context, v any) (any, error) {
			req, ok := v.(Req)
			if !ok {
				return nil, fmt.Errorf("request of %s is a %T", fullMethod, v)
			}
			return call(ctx, req)
		})
	if err != nil {
		return none, err
	}
	typed, ok := res.(Res)
	if !ok {
		return none, fmt.Errorf("answer of %s is a %T", fullMethod, res)
	}
	return typed, nil
}
