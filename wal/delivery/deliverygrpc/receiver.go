package deliverygrpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/endpoint"
)

// Config is what a Receiver is made of.
type Config struct {
	Address string // as endpoint.GRPCAddress takes it
	Method  string // package.Service/Method
	// Secret signs what is sent; nil: nothing is signed.
	Secret []byte
	// AnyAddress reports whether the host may have a private, loopback or link-local address; nil: it may not.
	AnyAddress func(host string) bool
}

// Receiver is a delivery.Receiver on one method. Safe for concurrent use.
type Receiver struct {
	cfg  Config
	conn *grpc.ClientConn
	// refused: the address that was connected to last is not allowed.
	refused atomic.Bool

	mu      sync.Mutex // held while the request's type is asked for
	request *requestType
}

var _ delivery.Receiver = (*Receiver)(nil)

const connectTimeout = 5 * time.Second

// New returns a receiver. It connects when it delivers.
func New(cfg Config) (*Receiver, error) {
	hostPort, secure, err := endpoint.GRPCAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	r := &Receiver{cfg: cfg}
	r.cfg.Method = "/" + strings.TrimPrefix(cfg.Method, "/")
	dialer := &net.Dialer{Timeout: connectTimeout}
	if cfg.AnyAddress == nil || !cfg.AnyAddress(host) {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			err := endpoint.CheckPublic(address)
			r.refused.Store(errors.Is(err, endpoint.ErrPrivate))
			return err
		}
	}
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: host})
	}
	r.conn, err = grpc.NewClient("passthrough:///"+hostPort,
		grpc.WithTransportCredentials(creds), grpc.WithUserAgent("headwater"),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectTimeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", hostPort, err)
	}
	return r, nil
}

// Close implements delivery.Receiver.
func (r *Receiver) Close() error { return r.conn.Close() }

// Deliver implements delivery.Receiver.
func (r *Receiver) Deliver(ctx context.Context, a *delivery.Attempt) error {
	payload := a.Payload
	if delivery.IsJSON(payload) {
		var err error
		if payload, err = r.encode(ctx, payload); err != nil {
			return r.told(err)
		}
	}
	var answer []byte
	ctx = metadata.NewOutgoingContext(ctx, r.metadata(a))
	if err := r.conn.Invoke(ctx, r.cfg.Method, &payload, &answer, grpc.ForceCodec(raw{})); err != nil {
		return r.told(err)
	}
	return nil
}

// permanent are the codes of a call that would fail once more.
var permanent = map[codes.Code]bool{
	codes.InvalidArgument: true, codes.NotFound: true, codes.AlreadyExists: true, codes.PermissionDenied: true,
	codes.FailedPrecondition: true, codes.OutOfRange: true, codes.Unimplemented: true, codes.Unauthenticated: true, codes.DataLoss: true,
}

// told says of an error whether another attempt may fare better.
func (r *Receiver) told(err error) error {
	if _, is := errors.AsType[*delivery.PermanentError](err); is {
		return err
	}
	st, _ := status.FromError(err)
	what := fmt.Errorf("it answered %s: %s", st.Code(), st.Message())
	switch {
	case st.Code() == codes.Unavailable && r.refused.Load():
		return &delivery.PermanentError{Err: endpoint.ErrPrivate}
	case permanent[st.Code()]:
		return &delivery.PermanentError{Err: what}
	case st.Code() == codes.DeadlineExceeded:
		return errors.New("it did not answer in time")
	}
	for _, d := range st.Details() {
		if info, is := d.(*errdetails.RetryInfo); is && info.GetRetryDelay().AsDuration() > 0 {
			return &delivery.RetryAfterError{After: info.GetRetryDelay().AsDuration(), Err: what}
		}
	}
	return what
}

func (r *Receiver) metadata(a *delivery.Attempt) metadata.MD {
	md := metadata.MD{}
	for _, h := range a.Headers {
		name := strings.ToLower(h.Name)
		grpcs := strings.HasPrefix(name, "grpc-") || strings.HasSuffix(name, "-bin") // which mean something to gRPC
		if endpoint.MaySet(h.Name) && !grpcs {
			md.Set(name, endpoint.Text(h.Value))
		}
	}
	told := endpoint.Told{ID: a.ID, Key: a.Key, Nonce: a.Token.Nonce[:], Number: a.Number, Time: a.Time}
	told.Set(a.Payload, r.cfg.Secret, func(name, value string) { md.Set(name, value) })
	return md
}

// raw is the codec of requests that are encoded already, and of answers that nobody looks at.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("encode a request: it is a %T", v)
	}
	return *b, nil
}

func (raw) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("decode an answer into a %T", v)
	}
	*b = data
	return nil
}
