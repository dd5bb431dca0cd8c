package httpjson

import (
	"context"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/ksuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/headwater-db/headwater/api/apierrors"
)

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// requestID is the caller's when it is usable, else a new one.
func requestID(r *http.Request) string {
	if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 && requestIDForm.MatchString(ids[0]) {
		return ids[0]
	}
	return ksuid.New().String()
}

// timeout is the deadline that the request asks for; 0 when it asks for none.
func (x *exchange) timeout() (time.Duration, error) {
	values := x.r.Header.Values("Request-Timeout-Ms")
	if len(values) == 0 {
		return 0, nil
	}
	limit := x.h.cfg.MaxTimeout.Milliseconds()
	ms, err := strconv.ParseUint(values[0], 10, 32) // refuses signs and spaces
	if err != nil || len(values) != 1 || ms < 1 || ms > uint64(limit) {
		return 0, apierrors.New(apierrors.BadDeadline, "Request-Timeout-Ms is %s; send one whole number from 1 to %d", clip(strings.Join(values, ", ")), limit)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// forwarded are the headers that interceptors and services may read from the
// incoming metadata, as they would from a gRPC call.
func forwarded(name string) bool {
	switch name {
	case "Authorization", "Traceparent", "Tracestate", "User-Agent":
		return true
	}
	return strings.HasPrefix(name, "Headwater-")
}

// context is what a gRPC handler finds in its context: metadata (with the
// request id as x-request-id), the peer, and a place for headers. The deadline
// is timeout from now, none when 0.
func (x *exchange) context(fullMethod string, timeout time.Duration) (context.Context, context.CancelFunc) {
	md := metadata.Pairs("x-request-id", x.id)
	for name, values := range x.r.Header {
		if forwarded(name) {
			md.Append(name, values...)
		}
	}
	ctx := metadata.NewIncomingContext(x.r.Context(), md)
	p := &peer.Peer{Addr: remoteAddr(x.r.RemoteAddr)}
	if local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); ok {
		p.LocalAddr = local
	}
	if x.r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State:          *x.r.TLS,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	ctx = grpc.NewContextWithServerTransportStream(peer.NewContext(ctx, p), &transportStream{x: x, method: fullMethod})
	if timeout > 0 {
		return context.WithTimeout(ctx, timeout)
	}
	return context.WithCancel(ctx)
}

// remoteAddr is an address that net/http already turned into text.
type remoteAddr string

func (remoteAddr) Network() string  { return "tcp" }
func (a remoteAddr) String() string { return string(a) }

// transportStream lets handlers and interceptors set headers as they do under
// gRPC. Trailers have no counterpart and are dropped.
type transportStream struct {
	x      *exchange
	method string
}

func (t *transportStream) Method() string                  { return t.method }
func (t *transportStream) SetHeader(md metadata.MD) error  { t.x.setHeader(md); return nil }
func (t *transportStream) SendHeader(md metadata.MD) error { t.x.setHeader(md); return nil }
func (t *transportStream) SetTrailer(metadata.MD) error    { return nil }

func (x *exchange) setHeader(md metadata.MD) {
	for name, values := range md {
		if name == "content-type" || name == "content-length" || strings.HasSuffix(name, "-bin") || strings.HasPrefix(name, "grpc-") {
			continue
		}
		x.w.Header()[http.CanonicalHeaderKey(name)] = values
	}
}
