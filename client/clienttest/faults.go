package clienttest

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Faults makes the network between a client and its server a bad one: it loses
// answers after the server has done its work, and sends requests twice. The zero
// Faults makes none. Hand its Option to client.Config.DialOptions. Safe for
// concurrent use; the fields must not change once it is used.
type Faults struct {
	// Method is the end of the names of the unary methods that it is about,
	// "AddCounts"; empty: all.
	Method string
	// LoseEvery loses every so manieth answer, RepeatEvery sends every so manieth
	// request once more, and answers with what the second got. 0: none.
	LoseEvery, RepeatEvery int64

	calls, lost, repeated atomic.Int64
}

// Option puts the faults on a connection.
func (f *Faults) Option() grpc.DialOption { return grpc.WithChainUnaryInterceptor(f.intercept) }

// Lost and Repeated are how many answers and requests were.
func (f *Faults) Lost() int64 { return f.lost.Load() }

// Repeated is how many requests were sent once more.
func (f *Faults) Repeated() int64 { return f.repeated.Load() }

func (f *Faults) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err != nil || !strings.HasSuffix(method, f.Method) {
		return err
	}
	n := f.calls.Add(1)
	if f.RepeatEvery > 0 && n%f.RepeatEvery == 0 {
		f.repeated.Add(1)
		err = invoke(ctx, method, req, reply, cc, opts...)
	}
	if err == nil && f.LoseEvery > 0 && n%f.LoseEvery == 0 {
		f.lost.Add(1)
		return status.Error(codes.Unavailable, "the answer was lost")
	}
	return err
}
