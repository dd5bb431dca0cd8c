package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/segmentio/ksuid"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
	"github.com/headwater-db/headwater/wal/kafkalog"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// Config is what a process is started with. The zero value is `headwater dev` on
// free ports.
type Config struct {
	Role Role
	// DataDir is where stores and the embedded log are; a Gateway has none. Default
	// ./headwater-data.
	DataDir string
	// Internal is the address of the listener that gateways ask a Worker on, Advertise what
	// they are told of it; default: where it really listens.
	Internal, Advertise string
	// Abstractions and ConsumeNamespaces (patterns as of path.Match) say what a Worker applies;
	// empty: all.
	Abstractions, ConsumeNamespaces []string
	// HTTP, GRPC and Admin are addresses to listen on; port 0 picks a free one.
	HTTP, GRPC, Admin string
	// AllowedHosts are the names that HTTP requests may be for, beside localhost and
	// the machine's. They are checked on listeners of the loopback interface, and on
	// every one where the list is not empty; see gateway.Hosts.
	AllowedHosts []string
	// KafkaBrokers puts the log on Kafka or Redpanda; the stores stay embedded.
	KafkaBrokers []string
	// ReplicationFactor of topics on Kafka. 0 is 3; 1 is for development and says
	// so in the log.
	ReplicationFactor int
	// InternalTLS is how processes of the cluster know each other beside their secret, and hide what they say; nil: in the clear.
	// All of them have it, or none.
	InternalTLS *TLSFiles
	// Kafka is how the brokers are talked to.
	Kafka KafkaSecurity
	// AllowUnsafe lets topics have fewer than three replicas, and acknowledgements fewer than two.
	// Dev is let by its ReplicationFactor.
	AllowUnsafe bool
	// TopicPrefix begins the name of every topic on Kafka, so that installations
	// can share a cluster. Default "headwater". The embedded log has no use for it.
	TopicPrefix string
	// StartTimeout bounds how long Kafka may take to answer at start: the process
	// gives up when no broker does. A namespace whose topic does not answer is
	// opened later. Default DefaultStartTimeout.
	StartTimeout time.Duration
	// SessionTimeout is after how long without a sign of life a worker's partitions are given to others. Default
	// DefaultSessionTimeout.
	SessionTimeout time.Duration
	// Clusters are the servers beside this one that stores may be on, by name.
	Clusters map[string]Cluster
	// Secrets are files by the names that documents have for them.
	Secrets map[string]string
	// Demo makes the demo namespaces where they do not exist.
	Demo bool
	// Namespaces are documents applied where the name does not exist yet.
	Namespaces []string
	// DrainDelay is how long readiness is false before requests are refused.
	DrainDelay time.Duration
	// ShutdownTimeout bounds what comes after it: three fifths are for the requests in
	// hand, one for the batches that are being applied, one for what is on its way to
	// Kafka. Default DefaultShutdownTimeout.
	ShutdownTimeout time.Duration
	// FreeSpaceFloor of the embedded log in bytes; 0 is its default, -1 off.
	FreeSpaceFloor int64
	// VerifyInterval is how often each counter namespace has a few of its counters
	// counted again from their events. 0 is DefaultVerifyInterval; negative is never.
	VerifyInterval time.Duration
	// Clock is this machine's, for tests that move it: of a log on Kafka alone. Default time.Now.
	Clock   func() time.Time
	Logger  *slog.Logger
	Version string
	Commit  string
}

// DefaultVerifyInterval is a Config's VerifyInterval unless it says otherwise.
const DefaultVerifyInterval = 10 * time.Second

// DefaultShutdownTimeout is Config.ShutdownTimeout where none is set.
const DefaultShutdownTimeout = 30 * time.Second

// DefaultSessionTimeout is Config.SessionTimeout where none is set. Brokers take 6 s to 30 min.
const DefaultSessionTimeout = 10 * time.Second

// DefaultStartTimeout is Config.StartTimeout where none is set.
const DefaultStartTimeout = 30 * time.Second

func (c Config) withDefaults() Config {
	if c.DataDir == "" {
		c.DataDir = "headwater-data"
	}
	for _, a := range []*string{&c.HTTP, &c.GRPC, &c.Admin, &c.Internal} {
		if *a == "" {
			*a = "127.0.0.1:0"
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.VerifyInterval == 0 {
		c.VerifyInterval = DefaultVerifyInterval
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = DefaultSessionTimeout
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = DefaultStartTimeout
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = DefaultShutdownTimeout
	}
	if len(c.KafkaBrokers) == 0 {
		c.TopicPrefix = ""
	}
	if c.Role == Dev && c.ReplicationFactor > 0 {
		c.AllowUnsafe = c.AllowUnsafe || c.ReplicationFactor < 3
	}
	return c
}

// Server is a running process.
type Server struct {
	cfg      Config
	id       string // of the data directory; of the process where it has none
	process  string // id of this start
	log      *slog.Logger
	dir      *dataDir // nil of a Gateway
	reg      *prometheus.Registry
	broker   wal.Broker
	names    *namespace.Registry
	spaces   *spaces
	outlets  outlets
	groups   *groups
	gateways *gateways
	taking   taking
	sweep    *retention.Sweeper
	jobs     *jobs
	gate     *gateway.Server // nil of a Worker
	admin    *adminServer
	inside   *insideServer // nil but of a Worker
	peers    *remote.Peers // of a shared log
	secret   []byte        // of the cluster; nil where the log is not shared
	cache    *pebble.Cache
	// clusters are those of Config.Clusters.
	clusters map[string]Connection
	schemas  sync.Map // of string to error: the clusters without the tables of this build
	// countLetter counts a dead letter by its reason.
	countLetter func(reason string)
	deliveries  *deliveryMetrics
	readers     *durable.Readers // of the named consumers of all namespaces
	messages    *gateway.Log     // nil where nobody is answered

	hosts                *gateway.Hosts
	httpL, grpcL, adminL net.Listener
	insideL              net.Listener
	insideTLS            *tls.Config // nil: in the clear

	run    context.Context // ends when the process stops
	cancel context.CancelFunc
	work   errgroup.Group
	failed atomic.Pointer[error] // why the process is not ready for good
	// clockSeen: the clock was compared with the brokers', or was tried to be.
	clockSeen atomic.Bool
	failOnce  sync.Once
	draining  atomic.Bool
	closing   closing
}

// Open starts everything and returns when the API answers. Namespaces may still
// be reading their logs: see Ready.
func Open(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, log: cfg.Logger, reg: prometheus.NewRegistry()}
	s.run, s.cancel = context.WithCancel(context.Background())
	s.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.countLetter = newLetterCount(s.reg)
	s.deliveries = newDeliveryMetrics(s.reg)
	s.readers = durable.NewReaders(durable.DefaultReaders, s.log)
	var undo []func() error
	defer func() {
		if err != nil {
			s.cancel()
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()
	if s.hosts, err = gateway.NewHosts(cfg.AllowedHosts); err != nil {
		return nil, err
	}
	s.process = ksuid.New().String()
	if s.id = s.process; cfg.Role.applies() {
		if s.dir, err = openDataDir(cfg.DataDir); err != nil {
			return nil, err
		}
		undo = append(undo, s.dir.close)
		s.id = s.dir.id
	}
	if err = s.listen(); err != nil {
		return nil, err
	}
	undo = append(undo, s.closeListeners)
	if err = s.openClusters(&undo); err != nil {
		return nil, err
	}
	if err = s.openLog(ctx, &undo); err != nil {
		return nil, err
	}
	if s.shared() {
		if s.secret, err = s.names.Secret(ctx); err != nil {
			return nil, err
		}
		if s.insideTLS, err = cfg.InternalTLS.mutual(); err != nil {
			return nil, fmt.Errorf("internal_tls: %w", err)
		}
		s.peers = remote.NewPeers(s.insideSecret(), s.insideTLS)
		undo = append(undo, func() error { s.peers.Close(); return nil })
	}
	s.cache = pebble.NewCache(256 << 20)
	undo = append(undo, func() error { s.cache.Unref(); return nil })
	s.sweep = retention.New(retention.Config{Logger: s.log})
	s.jobs = &jobs{s: s}
	s.groups = &groups{s: s, all: make(map[namespace.Abstraction]*membership)}
	undo = append(undo, func() error { s.groups.close(); return nil })
	s.gateways = &gateways{s: s}
	if err = s.gateways.join(); err != nil {
		return nil, err
	}
	undo = append(undo, func() error { s.gateways.close(); return nil })
	s.spaces = newSpaces(s)
	undo = append(undo, s.spaces.close)
	if cfg.Role.Answers() {
		if err = s.applyDocuments(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.Role == Worker { // before a claim tells its address
		s.inside = newInsideServer(s)
		s.work.Go(func() error { return s.inside.serve(s.insideL) })
		undo = append(undo, s.inside.close)
	}
	if err = s.spaces.sync(ctx); err != nil {
		return nil, err
	}
	if cfg.Role.Answers() {
		if err = s.newGateway(); err != nil {
			return nil, err
		}
	}
	s.admin = newAdminServer(s)
	if err = errors.Join(s.reg.Register(newSpaceMetrics(s)), s.reg.Register(newCounterMetrics(s)), s.reg.Register(newConsumerMetrics(s))); err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

func (s *Server) listen() (err error) {
	answers := s.cfg.Role.Answers()
	for _, l := range []struct {
		to         *net.Listener
		addr, flag string
		wanted     bool
	}{
		{&s.httpL, s.cfg.HTTP, "--http", answers}, {&s.grpcL, s.cfg.GRPC, "--grpc", answers}, {&s.adminL, s.cfg.Admin, "--admin", true},
		{&s.insideL, s.cfg.Internal, "--internal", s.cfg.Role == Worker},
	} {
		if !l.wanted {
			continue
		}
		var lc net.ListenConfig
		if *l.to, err = lc.Listen(s.run, "tcp", l.addr); err != nil {
			return errors.Join(fmt.Errorf("listen on %s: %w; choose another address with %s (port 0 picks a free one)", l.addr, err, l.flag), s.closeListeners())
		}
	}
	return nil
}

// openLog opens the broker and the registry on it, and adds to undo what closes
// them. With Kafka it gives up after StartTimeout: who starts a process learns
// that it is the brokers that do not answer, and which.
func (s *Server) openLog(ctx context.Context, undo *[]func() error) (err error) {
	partitions := 4
	if brokers := s.cfg.KafkaBrokers; len(brokers) > 0 {
		partitions = 12
		late := fmt.Errorf("no answer within %v", s.cfg.StartTimeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.StartTimeout, late)
		defer cancel()
		defer func() {
			if err != nil && errors.Is(context.Cause(ctx), late) {
				err = fmt.Errorf("reach Kafka at %s: %w; check that the brokers run and the addresses in --kafka-brokers, or allow more with --start-timeout: %w", strings.Join(brokers, ","), late, err)
			}
		}()
	}
	if s.broker, err = s.openBroker(ctx); err != nil {
		return err
	}
	*undo = append(*undo, s.broker.Close)
	s.names, err = namespace.Open(ctx, namespace.Options{
		Broker: s.broker, Logger: s.log, TopicPrefix: s.cfg.TopicPrefix, Defaults: namespace.Defaults{Partitions: partitions, Clusters: s.clusterTypes(), Secrets: s.secretNames(), TopicPrefix: s.ownTopics()},
	})
	if err != nil {
		return fmt.Errorf("open the namespace registry: %w", err)
	}
	*undo = append(*undo, func() error { s.names.Close(); return nil })
	return nil
}

func (s *Server) openBroker(ctx context.Context) (wal.Broker, error) {
	if !s.shared() {
		if err := s.dir.checkLog(); err != nil {
			return nil, err
		}
		failing := &openFailure{tell: func(err error) { s.fail(fmt.Errorf("the log has failed: %w", err)) }}
		b, err := pebblelog.Open(pebblelog.Config{
			Dir: s.dir.logDir(), FreeSpaceFloor: s.cfg.FreeSpaceFloor, Logger: s.log, Registerer: s.reg, OnFail: failing.failed,
		})
		if err != nil {
			return nil, fmt.Errorf("open the embedded log: %w", err)
		}
		failing.opened()
		return b, nil
	}
	opts, err := s.cfg.Kafka.opts()
	if err != nil {
		return nil, fmt.Errorf("log.%w", err)
	}
	b, err := kafkalog.Open(ctx, kafkalog.Config{
		Brokers: s.cfg.KafkaBrokers, Opts: opts, TopicPrefix: s.cfg.TopicPrefix, ReplicationFactor: s.cfg.ReplicationFactor, AllowUnsafe: s.cfg.AllowUnsafe,
		CloseTimeout: s.cfg.ShutdownTimeout / 5, Logger: s.log, Registerer: s.reg, Clock: s.cfg.Clock,
	})
	if err != nil {
		return nil, fmt.Errorf("open the log on Kafka: %w", err)
	}
	return b, nil
}

// openFailure keeps to itself that something has failed until it is open: before, the error of opening
// it says so, and the start is refused in one line.
type openFailure struct {
	tell func(error)

	mu   sync.Mutex // guards what follows
	open bool
	err  error
}

// failed is told of the failure.
func (f *openFailure) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err = err; f.open {
		f.tell(err)
	}
}

// opened lets a failure be told, also one from before.
func (f *openFailure) opened() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open = true; f.err != nil {
		f.tell(f.err)
	}
}

func (s *Server) newGateway() error {
	pages, err := s.pageTokens()
	if err != nil {
		return err
	}
	dir := s.spaces.dir
	kv := gateway.NewKeyValue(dir, pages)
	kv.MakeGroups = s.makeGroups
	s.messages = gateway.NewLog(dir, s.broker, s.jobs)
	s.gate = gateway.NewServer(gateway.ServerConfig{
		Services: gateway.Services{
			KeyValue:   kv,
			Counter:    gateway.NewCounter(dir, pages),
			TimeSeries: gateway.NewTimeSeries(dir, pages),
			Log:        s.messages,
			Namespace:  gateway.NewNamespaces(s.names, s.spaces.wait),
			Admin:      s.adminService(),
		},
		GRPC: s.grpcL, HTTP: s.httpL, Hosts: s.hosts, Logger: s.log, Registerer: s.reg, Version: s.cfg.Version,
	})
	return nil
}

// newAdmin is the AdminService, which a worker answers gateways with too.
func (s *Server) newAdmin() *gateway.Admin {
	logType := "embedded"
	if s.shared() {
		logType = "kafka"
	}
	return gateway.NewAdmin(gateway.AdminConfig{
		Directory: s.spaces.dir, Broker: s.broker, LogType: logType, Incarnation: s.id, Version: s.cfg.Version, Commit: s.cfg.Commit,
		Unready: s.Unready, TokensLive: s.spaces.liveTokens, Warnings: s.Warnings, Stores: storesAPI{s}, Release: s.release,
	})
}

// pageTokens seals page tokens so that they outlive the process, and so that each process
// that shares the log opens those of the others.
func (s *Server) pageTokens() (*gateway.PageTokens, error) {
	if s.secret != nil {
		return gateway.NewPageTokens(s.derive("page tokens"))
	}
	key, err := s.dir.pageKey()
	if err != nil {
		return nil, err
	}
	return gateway.NewPageTokens(key)
}

// derive is a key for one purpose, from the secret of the cluster.
func (s *Server) derive(purpose string) []byte {
	h := hmac.New(sha256.New, s.secret)
	h.Write([]byte(purpose))
	return h.Sum(nil)
}

// start runs what runs beside the requests.
func (s *Server) start() {
	if s.gate != nil {
		s.work.Go(func() error { return s.gate.Serve() })
	}
	if s.messages != nil {
		s.work.Go(func() error { s.jobs.resume(s.run, s.messages); return nil })
	}
	s.work.Go(func() error { return s.admin.serve(s.adminL) })
	s.work.Go(func() error { return s.sweep.Run(s.run) })
	s.work.Go(func() error { return s.spaces.follow(s.run) })
	s.work.Go(func() error { return s.watchReadiness(s.run) })
	s.work.Go(func() error { return s.watchSchemas(s.run) })
	s.work.Go(func() error { s.spaces.watchTokens(s.run); return nil })
	s.work.Go(func() error { s.watchWarnings(s.run); return nil })
	s.work.Go(func() error { s.watchClock(s.run); return nil })
	s.work.Go(func() error { s.gateways.watch(s.run); return nil })
	s.work.Go(func() error { s.watchLag(s.run); return nil })
	if s.cfg.Role.applies() {
		s.work.Go(func() error { s.reap(s.run); return nil })
	}
}

// reap removes the topics of deleted namespaces that a crash has left, while
// namespaces are served already: Reap touches no topic of a living one. Nothing
// waits for it, and the next start tries again.
func (s *Server) reap(ctx context.Context) {
	removed, err := s.names.Reap(ctx)
	if len(removed) > 0 {
		s.log.Info("removed topics of deleted namespaces", "topics", removed)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("removing topics of deleted namespaces failed; the next start tries again", "reason", err)
	}
}

// fail notes why the process cannot keep what it would acknowledge.
func (s *Server) fail(err error) {
	s.failOnce.Do(func() {
		s.failed.Store(&err)
		s.log.Error("the process takes no more writes; restart it when the cause is mended", "reason", err)
	})
}

// Unready returns nil when writes are taken, else why not.
func (s *Server) Unready() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	if s.draining.Load() {
		return errors.New("the process is shutting down")
	}
	if err := s.names.Err(); err != nil {
		return err
	}
	if err := s.broker.Health(); err != nil {
		return err
	}
	if err := s.schemasMissing(); err != nil {
		return err
	}
	if err := s.clockUnready(); err != nil {
		return err
	}
	return s.spaces.unready()
}

// WaitReady returns once writes are taken, or when ctx is done with the reason
// why they are not.
func (s *Server) WaitReady(ctx context.Context) error {
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for {
		err := s.Unready()
		if err == nil {
			s.setReady(true)
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		}
	}
}

func (s *Server) watchReadiness(ctx context.Context) error {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		s.setReady(s.Unready() == nil)
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// setReady tells the gRPC health service whether writes are taken.
func (s *Server) setReady(ready bool) {
	if s.gate != nil {
		s.gate.SetReady(ready)
	}
}

// HTTPAddr, GRPCAddr, AdminAddr and InternalAddr are where the process really listens, empty where
// its role has no such listener.
func (s *Server) HTTPAddr() string     { return addressOf(s.httpL) }
func (s *Server) GRPCAddr() string     { return addressOf(s.grpcL) }
func (s *Server) AdminAddr() string    { return addressOf(s.adminL) }
func (s *Server) InternalAddr() string { return addressOf(s.insideL) }

func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// DataDir is the data directory; a Gateway has none.
func (s *Server) DataDir() string {
	if s.dir == nil {
		return ""
	}
	return s.dir.path
}
