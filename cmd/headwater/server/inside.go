package server

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable/durableremote"
)

// insideServer is what gateways ask a worker on: OwnerService, and the AdminService of the
// API for what a gateway passes on.
type insideServer struct {
	grpc *grpc.Server
	end  context.CancelFunc
}

// insideWorkers are goroutines that serve one call after another, so that each has a stack that is large
// enough: gateway.Server does the same.
const insideWorkers = 128

// insideSecret is what processes of the cluster know each other by.
func (s *Server) insideSecret() remote.Secret {
	return remote.Secret(hex.EncodeToString(s.derive("internal listener")))
}

// advertised is the address that claims tell; empty: this process has no internal listener.
func (s *Server) advertised() string {
	if s.insideL == nil {
		return ""
	}
	return cmp.Or(s.cfg.Advertise, s.InternalAddr())
}

func newInsideServer(s *Server) *insideServer {
	secret := s.insideSecret()
	ctx, cancel := context.WithCancel(context.Background())
	creds := insecure.NewCredentials()
	if s.insideTLS != nil {
		creds = credentials.NewTLS(s.insideTLS)
	}
	in := &insideServer{end: cancel, grpc: grpc.NewServer(
		grpc.Creds(creds),
		grpc.ChainUnaryInterceptor(secret.Unary, s.upToCaller), grpc.StreamInterceptor(secret.Stream),
		grpc.MaxRecvMsgSize(remote.MaxMessage), grpc.MaxSendMsgSize(remote.MaxMessage),
		grpc.ConnectionTimeout(10*time.Second), grpc.MaxConcurrentStreams(8192), grpc.NumStreamWorkers(insideWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.ReadBufferSize(64<<10), grpc.WriteBufferSize(64<<10),
	)}
	clusterv1.RegisterOwnerServiceServer(in.grpc, &remote.Server{
		Find: func(name string, incarnation []byte) remote.Holder {
			if x := s.spaces.held(name, incarnation); x != nil {
				return x
			}
			return nil // and no *space that is nil
		},
		Parked: func(h remote.Holder) remote.Parker { return h.(*space).front.(answering) },
		Error:  gateway.ToAPI, Done: ctx.Done(),
	})
	headwaterv1.RegisterAdminServiceServer(in.grpc, s.newAdmin())
	return in
}

// registryVersion is the header by which a gateway says which version of the registry it has seen.
const registryVersion = "headwater-registry-version"

// upToCaller has a request of the API wait until this process serves the version of the registry that
// the gateway has seen: a namespace that was just made there is known here.
func (s *Server) upToCaller(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, "/headwater.cluster.") {
		return next(ctx, req)
	}
	if v := metadata.ValueFromIncomingContext(ctx, registryVersion); len(v) == 1 {
		version, err := strconv.ParseUint(v[0], 10, 64)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "%s: %v", registryVersion, err)
		}
		if err := s.spaces.reach(ctx, version); err != nil {
			return nil, gateway.ToAPI(err)
		}
	}
	resp, err := next(ctx, req)
	if err != nil {
		return nil, gateway.ToAPI(err)
	}
	return resp, nil
}

func (in *insideServer) serve(l net.Listener) error {
	if err := in.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gateways: %w", err)
	}
	return nil
}

// close ends the streams, and answers what is in hand for a moment.
func (in *insideServer) close() error {
	in.end()
	done := make(chan struct{})
	go func() {
		in.grpc.GracefulStop()
		close(done)
	}()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		in.grpc.Stop()
		<-done
	}
	return nil
}

// held is an open namespace whose stores are here, by name and incarnation of its topic; nil:
// there is none.
func (sp *spaces) held(name string, incarnation []byte) *space {
	at, ok := sp.holders.Load(string(incarnation))
	if !ok {
		return nil
	}
	if x := at.(*space); x.entry.Name == name && x.ns.Failed() == nil {
		return x
	}
	return nil
}

// answering is a front that answers gateways.
type answering interface {
	remote.Parker
	token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error)
	answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error)
}

var _ remote.Holder = (*space)(nil)

// Progress implements remote.Holder.
func (x *space) Progress() *wal.Progress { return x.progress }

// Epoch implements remote.Holder.
func (x *space) Epoch(p wal.Partition) (wal.Offset, bool) {
	c, ok := x.claims.Holder(p)
	if x.holding != nil { // not before it is ready to answer
		ok = ok && x.serves(p) != nil && c.Epoch == x.holding.epoch(p)
	}
	return c.Epoch, ok && c.Process == x.s.process
}

// LiveTokens implements remote.Holder.
func (x *space) LiveTokens(p wal.Partition) int64 {
	if st := x.serves(p); st != nil {
		return st.ledger.LiveTokens(p)
	}
	return 0
}

// Token implements remote.Holder.
func (x *space) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	return x.front.(answering).token(ctx, p, id)
}

// AnswerParts implements remote.Holder.
func (x *space) AnswerParts(ctx context.Context, req *clusterv1.AskRequest, send func(*clusterv1.AskResponse) error) error {
	if a, ok := x.front.(interface {
		answerParts(ctx context.Context, req *clusterv1.AskRequest, send func(*clusterv1.AskResponse) error) error
	}); ok {
		return a.answerParts(ctx, req, send)
	}
	return fmt.Errorf("%w question: no answer of abstraction %s comes in parts", wal.ErrMalformed, x.entry.Config.Abstraction)
}

// Answer implements remote.Holder.
func (x *space) Answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	if x.consumers != nil {
		if resp, ok, err := durableremote.Answer(ctx, x.consumers, req); ok {
			return resp, err
		}
	}
	return x.front.(answering).answer(ctx, req)
}
