package deliverygrpc

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/endpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service keeps what it gets, and answers as it is told.
type service struct {
	headwaterv1.UnimplementedLogServiceServer
	mu   sync.Mutex
	got  *headwaterv1.WriteToLogRequest
	md   metadata.MD
	says error
	hang bool
}

func (s *service) WriteToLog(ctx context.Context, req *headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
	s.mu.Lock()
	s.got = req
	s.md, _ = metadata.FromIncomingContext(ctx)
	says, hang := s.says, s.hang
	s.mu.Unlock()
	if hang { // until the call is given up: whose clock ends it first is not known, so neither may answer success
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return &headwaterv1.WriteToLogResponse{Message: "taken"}, says
}

func serve(t *testing.T, reflects bool) (*service, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, srv := &service{}, grpc.NewServer()
	headwaterv1.RegisterLogServiceServer(srv, s)
	if reflects {
		reflection.Register(srv)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

const writeToLog = "headwater.v1.LogService/WriteToLog"

func everywhere(string) bool { return true }

func open(t *testing.T, cfg Config) *Receiver {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func attempt(payload []byte) *delivery.Attempt {
	return &delivery.Attempt{
		ID: "id-1", Key: "größe", Token: wal.Token{Nonce: wal.Nonce{1, 2}}, Payload: payload, Number: 3, Time: time.Unix(1_700_000_000, 0),
		Headers: []delivery.Header{{Name: "Trace", Value: "abc"}, {Name: "grpc-timeout", Value: "1n"}, {Name: "x-bin", Value: "!"}, {Name: "Webhook-Id", Value: "mine"}},
	}
}

// TestAMessageIsTheRequestOfAMethod, as bytes or as JSON, with what a receiver is told as metadata.
func TestAMessageIsTheRequestOfAMethod(t *testing.T) {
	t.Parallel()
	s, address := serve(t, true)
	want := &headwaterv1.WriteToLogRequest{Namespace: "n", Key: "k", Payload: []byte("hi")}
	encoded, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range [][]byte{encoded, []byte(` {"namespace":"n","key":"k","payload":"aGk="}`)} {
		for _, method := range []string{writeToLog, "/" + writeToLog} {
			r := open(t, Config{Address: address, Method: method, Secret: []byte("0123"), AnyAddress: everywhere})
			if err := r.Deliver(t.Context(), attempt(payload)); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(s.got, want) {
				t.Errorf("%q came as %v", payload, s.got)
			}
			for name, want := range map[string]string{
				"webhook-id": "id-1", "webhook-timestamp": "1700000000", "webhook-signature": "v1," + endpoint.Sign([]byte("0123"), "id-1", "1700000000", payload),
				"idempotency-key": base64.StdEncoding.EncodeToString(append([]byte{1, 2}, make([]byte, 14)...)), "headwater-key": "gr%C3%B6%C3%9Fe",
				"headwater-attempt": "3", "trace": "abc", "x-bin": "",
			} {
				if got := strings.Join(s.md.Get(name), " "); got != want {
					t.Errorf("metadata %s is %q, want %q", name, got, want)
				}
			}
		}
	}
}

// TestWhichStatusesAreTriedAgain and which are not.
func TestWhichStatusesAreTriedAgain(t *testing.T) {
	t.Parallel()
	s, address := serve(t, true)
	r := open(t, Config{Address: address, Method: writeToLog, AnyAddress: everywhere})
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		s.says = status.Error(code, "no")
		err := r.Deliver(t.Context(), attempt(nil))
		_, is := errors.AsType[*delivery.PermanentError](err)
		if err == nil || is != permanent[code] || !strings.Contains(err.Error(), "no") && code != codes.DeadlineExceeded {
			t.Errorf("%s: %v, permanent %v", code, err, is)
		}
	}
	later, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	s.says = later.Err()
	if e, is := errors.AsType[*delivery.RetryAfterError](r.Deliver(t.Context(), attempt(nil))); !is || e.After != time.Minute {
		t.Errorf("a RetryInfo is told as %v", e)
	}
	s.says, s.hang = nil, true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Deliver(ctx, attempt(nil)); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("a method that hangs: %v", err)
	}
	s.mu.Lock()
	s.hang = false
	s.mu.Unlock()
	permanentOf := func(what string, r *Receiver, payload, says string) {
		t.Helper()
		err := r.Deliver(t.Context(), attempt([]byte(payload)))
		if _, is := errors.AsType[*delivery.PermanentError](err); !is || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want a permanent error that says %q", what, err, says)
		}
	}
	permanentOf("JSON of another type", r, `{"nomespace":"n"}`, "headwater.v1.WriteToLogRequest")
	permanentOf("no such method", open(t, Config{Address: address, Method: "headwater.v1.LogService/Write", AnyAddress: everywhere}), `{}`, "no unary method Write")
	permanentOf("a stream", open(t, Config{Address: address, Method: "headwater.v1.LogService/ReadLog", AnyAddress: everywhere}), `{}`, "no unary method ReadLog")
	permanentOf("no such service", open(t, Config{Address: address, Method: "a.B/C", AnyAddress: everywhere}), `{}`, "a.B")
	permanentOf("no such service", open(t, Config{Address: address, Method: "a.B/C", AnyAddress: everywhere}), ``, "a.B")
	permanentOf("a private address", open(t, Config{Address: address, Method: writeToLog}), ``, "does not allow it")
	_, silent := serve(t, false)
	permanentOf("no reflection", open(t, Config{Address: silent, Method: writeToLog, AnyAddress: everywhere}), `{}`, "send protobuf")

	away := open(t, Config{Address: "127.0.0.1:1", Method: writeToLog, AnyAddress: everywhere})
	err = away.Deliver(t.Context(), attempt([]byte(`{}`)))
	if _, is := errors.AsType[*delivery.PermanentError](err); err == nil || is {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"a:1": "a:1 false", "http://a:1": "a:1 false", "https://a:1": "a:1 true", "[::1]:1": "[::1]:1 false",
		"a": "", "https://a": "", ":1": "", "a:": "", "https://a:1/b": "", "ftp://a:1": "", "u@a:1": "",
	} {
		hostPort, secure, err := endpoint.GRPCAddress(address)
		got := hostPort
		if err == nil {
			got += map[bool]string{true: " true", false: " false"}[secure]
		}
		if got != want {
			t.Errorf("%s is taken for %q, %v; want %q", address, got, err, want)
		}
	}
}
