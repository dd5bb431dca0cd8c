package remote

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// MaxMessage is the largest message between processes: a page of the largest size, with one
// value beside it.
const MaxMessage = 16 << 20

// authorization is the header that carries the secret.
const authorization = "authorization"

// Secret is what processes of one cluster know each other by.
type Secret string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s Secret) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{authorization: "Bearer " + string(s)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (Secret) RequireTransportSecurity() bool { return false }

// check refuses a call that does not carry the secret.
func (s Secret) check(ctx context.Context) error {
	got := metadata.ValueFromIncomingContext(ctx, authorization)
	if len(got) == 1 && subtle.ConstantTimeCompare([]byte(got[0]), []byte("Bearer "+string(s))) == 1 {
		return nil
	}
	return status.Error(codes.Unauthenticated, "the internal listener takes calls of processes of its own cluster alone; send requests of the API to a gateway")
}

// Unary lets calls in that carry the secret.
func (s Secret) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// Stream lets streams in that carry the secret.
func (s Secret) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := s.check(ss.Context()); err != nil {
		return err
	}
	return next(srv, ss)
}

// Peers are the connections to other processes, by address. Safe for concurrent use.
type Peers struct {
	secret Secret
	creds  credentials.TransportCredentials

	mu    sync.Mutex // guards what follows
	conns map[string]*grpc.ClientConn
}

// NewPeers returns no connection yet. With cfg, which has a certificate of this process, the others are asked for one
// too, of the name or address that they are reached by unless it has a ServerName; nil is in the clear.
func NewPeers(secret Secret, cfg *tls.Config) *Peers {
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	return &Peers{secret: secret, creds: creds, conns: make(map[string]*grpc.ClientConn)}
}

// Conn is the connection to an address. It connects when it is used, and again after it was
// lost. It is the Peers' to close.
func (p *Peers) Conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(p.creds), grpc.WithPerRPCCredentials(p.secret),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithReadBufferSize(64<<10), grpc.WithWriteBufferSize(64<<10),
		grpc.WithConnectParams(connectParams),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	p.conns[address] = c
	return c, nil
}

// Keep closes the connections to addresses that keep does not name.
func (p *Peers) Keep(keep func(address string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, c := range p.conns {
		if !keep(a) {
			_ = c.Close() // its calls fail, and nothing else can
			delete(p.conns, a)
		}
	}
}

// Close closes all connections.
func (p *Peers) Close() { p.Keep(func(string) bool { return false }) }
