package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/gateway/httpjson"
)

// MaxRequestBytes is the largest request message.
const (
	MaxRequestBytes = 8 << 20
	maxHeaderBytes  = 16 << 10
	streamWorkers   = 256
)

// Services are the implementations that a Server serves.
type Services struct {
	KeyValue   headwaterv1.KeyValueServiceServer
	TimeSeries headwaterv1.TimeSeriesServiceServer
	Counter    headwaterv1.CounterServiceServer
	Log        headwaterv1.LogServiceServer
	Namespace  headwaterv1.NamespaceServiceServer
	Admin      headwaterv1.AdminServiceServer
}

// ServerConfig is what a Server is made of.
type ServerConfig struct {
	Services   Services
	GRPC, HTTP net.Listener
	// Hosts are the names that HTTP answers to; nil: every one.
	Hosts      *Hosts
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// MaxInFlight bounds the calls at a time; above it they are shed. Default
	// 8,192.
	MaxInFlight int64
	Version     string
}

// Server serves the API on two listeners, which it owns.
type Server struct {
	cfg      ServerConfig
	grpc     *grpc.Server
	http     *http.Server
	health   *health.Server
	draining atomic.Bool
	// drain ends the streams that have no end of their own.
	drain      context.Context
	beginDrain context.CancelFunc
}

// NewServer returns a server that does not serve yet.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 8192
	}
	s := &Server{cfg: cfg, health: health.NewServer()}
	s.drain, s.beginDrain = context.WithCancel(context.Background())
	i := &interceptor{drain: s.drain, logger: cfg.Logger, metrics: newMetrics(cfg.Registerer), max: cfg.MaxInFlight, draining: &s.draining}
	s.grpc = grpc.NewServer(
		grpc.UnaryInterceptor(i.unary), grpc.StreamInterceptor(i.stream),
		grpc.ForceServerCodecV2(codec), grpc.UnknownServiceHandler(answerUnknown), grpc.InTapHandle(malformedName),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(MaxSentBytes),
		// Without a bound a client can open streams faster than it is answered
		// (CVE-2023-44487).
		grpc.MaxConcurrentStreams(4096), grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		// A goroutine that has served a call has the stack that the next one needs:
		// growing it anew for each took a fifth of a read. Calls beyond get one of
		// their own.
		grpc.NumStreamWorkers(streamWorkers), grpc.ReadBufferSize(64<<10), grpc.WriteBufferSize(64<<10),
	)
	var checkHost func(string) error
	if cfg.Hosts != nil {
		checkHost = cfg.Hosts.At(cfg.HTTP)
	}
	h := httpjson.New(httpjson.Config{
		CheckHost: checkHost,
		Logger:    cfg.Logger, Interceptor: i.unary, StreamInterceptor: i.stream, Failed: i.failedBefore, MaxMessageBytes: MaxRequestBytes,
		DefaultTimeout: DefaultTimeout, MaxTimeout: MaxTimeout, Version: cfg.Version, MaxValueBytes: MaxInlineValue,
	})
	wire := wireServices{s.grpc, i}
	for _, r := range []grpc.ServiceRegistrar{wire, h} {
		headwaterv1.RegisterLogServiceServer(r, cfg.Services.Log)
		headwaterv1.RegisterNamespaceServiceServer(r, cfg.Services.Namespace)
		headwaterv1.RegisterAdminServiceServer(r, cfg.Services.Admin)
	}
	registerKeyValue(wire, cfg.Services.KeyValue)
	headwaterv1.RegisterKeyValueServiceServer(h, cfg.Services.KeyValue)
	registerCounter(wire, cfg.Services.Counter)
	headwaterv1.RegisterCounterServiceServer(h, cfg.Services.Counter)
	headwaterv1.RegisterTimeSeriesServiceServer(wire, cfg.Services.TimeSeries)
	headwaterv1.RegisterTimeSeriesServiceServer(h, cfg.Services.TimeSeries)
	h.RegisterPlainKV(cfg.Services.KeyValue)
	h.RegisterPlainCounter(cfg.Services.Counter)
	h.RegisterPlainTimeSeries(cfg.Services.TimeSeries)
	h.RegisterPlainLog(cfg.Services.Log)
	healthv1.RegisterHealthServer(wire, s.health)
	reflection.Register(wire)
	i.methods = methodsOf(s.grpc)
	s.http = &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	s.cfg.HTTP = h.Listen(s.http, cfg.HTTP)
	s.SetReady(false)
	return s
}

func methodsOf(s *grpc.Server) map[string]bool {
	all := make(map[string]bool)
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			all["/"+service+"/"+m.Name] = true
		}
	}
	return all
}

// SetReady tells the gRPC health service whether writes are taken.
func (s *Server) SetReady(ready bool) {
	st := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		st = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", st)
}

// Serve answers until Drain or Close, and returns nil then.
func (s *Server) Serve() error {
	var g errgroup.Group
	g.Go(func() error {
		if err := s.grpc.Serve(s.cfg.GRPC); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve gRPC: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := s.http.Serve(s.cfg.HTTP); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// Drain refuses new requests, ends the streams that follow, and returns when the
// requests in hand are answered or ctx is done; what is left is cut off then.
func (s *Server) Drain(ctx context.Context) error {
	s.SetReady(false)
	s.draining.Store(true)
	s.beginDrain()
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	err := s.http.Shutdown(ctx)
	select {
	case <-stopped:
	case <-ctx.Done():
		s.grpc.Stop()
		<-stopped
	}
	if err != nil {
		return fmt.Errorf("finish the requests in hand: %w", errors.Join(err, s.http.Close()))
	}
	return nil
}

// Close cuts everything off.
func (s *Server) Close() error {
	s.draining.Store(true)
	s.beginDrain()
	s.grpc.Stop()
	return s.http.Close()
}
