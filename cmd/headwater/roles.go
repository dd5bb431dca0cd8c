package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headwater-db/headwater/cmd/headwater/cli"
	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
)

// serverFlags are the flags of the commands that run a server, and what they are read into.
type serverFlags struct {
	cfg        server.Config
	config     string
	namespaces []string // of documents; of a worker, patterns of what it applies
	logLevel   string
	clockAhead time.Duration // of the machine's clock; for tests
}

// common defines the flags that every role has.
func (s *serverFlags) common(f *pflag.FlagSet) {
	f.StringVar(&s.config, "config", "", "file of settings; flags and HEADWATER_<FLAG> variables beat it")
	f.StringVar(&s.cfg.Admin, "admin", "127.0.0.1:7090", "address of health, metrics and pprof")
	f.StringSliceVar(&s.cfg.AllowedHosts, "allowed-hosts", nil,
		"name,... that HTTP requests may be for, beside localhost, the machine's name and IP addresses")
	f.StringSliceVar(&s.cfg.KafkaBrokers, "kafka-brokers", nil, "host:port,... puts the log on Kafka or Redpanda")
	f.IntVar(&s.cfg.ReplicationFactor, "kafka-replication-factor", 0, "replicas of topics on Kafka (default 3; of dev 1)")
	f.StringVar(&s.cfg.TopicPrefix, "kafka-topic-prefix", "headwater", "beginning of the names of topics on Kafka; installations that share a cluster have different ones")
	f.DurationVar(&s.cfg.StartTimeout, "start-timeout", server.DefaultStartTimeout, "how long Kafka may take to answer at start")
	f.DurationVar(&s.cfg.DrainDelay, "drain-delay", 0, "how long to be not ready before requests are refused at shutdown")
	f.DurationVar(&s.cfg.ShutdownTimeout, "shutdown-timeout", server.DefaultShutdownTimeout, "how long a shutdown may take after the drain delay; what is left then is told, and the exit code is 1")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&s.clockAhead, "test-clock-ahead", 0, "take this machine's clock to be so far ahead of what it says, for tests of a log on Kafka")
	if err := f.MarkHidden("test-clock-ahead"); err != nil {
		panic(err) // it is defined above
	}
}

// unsafe defines the flag of the roles of production, which refuse fewer replicas by themselves.
func (s *serverFlags) unsafe(f *pflag.FlagSet) {
	f.BoolVar(&s.cfg.AllowUnsafe, "allow-unsafe", false, "let topics have fewer than 3 replicas: what is acknowledged may be lost with one broker")
}

// api defines the flags of a role that answers the API.
func (s *serverFlags) api(f *pflag.FlagSet) {
	f.StringSliceVar(&s.namespaces, "namespaces", nil, "files or patterns of namespace documents, applied where the name does not exist yet")
	f.StringVar(&s.cfg.HTTP, "http", "127.0.0.1:7080", "address of HTTP+JSON; port 0 picks a free one")
	f.StringVar(&s.cfg.GRPC, "grpc", "127.0.0.1:7081", "address of gRPC")
}

// stores defines the flags of a role that has stores.
func (s *serverFlags) stores(f *pflag.FlagSet, dataDir string) {
	f.StringVar(&s.cfg.DataDir, "data-dir", dataDir, "directory that everything is kept in")
	f.DurationVar(&s.cfg.VerifyInterval, "verify-interval", server.DefaultVerifyInterval, "how often a few counters of each namespace are counted again from their events; -1s is never")
}

// embedded defines the flags of a log that is in this process.
func (s *serverFlags) embedded(f *pflag.FlagSet) {
	f.Int64Var(&s.cfg.FreeSpaceFloor, "free-space-floor", 0, "bytes that must stay free on the disk of the log (default 256 MiB, -1 off)")
}

// worker defines the flags of a worker alone, but for --namespaces, which it has instead of that of api.
func (s *serverFlags) worker(f *pflag.FlagSet) {
	f.StringVar(&s.cfg.Internal, "internal", "127.0.0.1:7082", "address of the listener that gateways ask; port 0 picks a free one")
	f.StringVar(&s.cfg.Advertise, "advertise", "", "host:port at which gateways reach it (default the address that it listens on)")
	f.DurationVar(&s.cfg.SessionTimeout, "kafka-session-timeout", server.DefaultSessionTimeout, "how long nothing may be heard of a worker before its partitions are given to others")
	f.StringSliceVar(&s.cfg.Abstractions, "abstractions", nil, "kv,counter,timeseries,log: what is applied here (default all)")
}

// everyFlag has the flags of all roles: a configuration file may serve them all, and is checked as a whole.
func everyFlag() *pflag.FlagSet {
	var s serverFlags
	f := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	s.common(f)
	s.unsafe(f)
	s.api(f)
	s.stores(f, "")
	s.embedded(f)
	s.worker(f)
	return f
}

// prepare reads what the environment and the configuration file say beside the flags.
func (s *serverFlags) prepare(c *cobra.Command, _ []string) error {
	if err := cli.NoClientFlags(c); err != nil {
		return err
	}
	if err := fromEnvironment(c.LocalNonPersistentFlags()); err != nil || s.config == "" {
		return err
	}
	if err := readConfig(s.config, c.Flags(), &s.cfg); err != nil {
		return cli.Usage(err)
	}
	return nil
}

// run checks the settings, and runs the server.
func (s *serverFlags) run(ctx context.Context, out, errOut io.Writer, banner func(io.Writer, *server.Server, server.Config) error) (err error) {
	if s.cfg.Role.Answers() {
		s.cfg.Namespaces, err = namespaceFiles(s.namespaces)
	} else {
		s.cfg.ConsumeNamespaces = s.namespaces
	}
	if err == nil {
		err = errors.Join(checkLogConfig(s.cfg), checkRole(s.cfg))
	}
	if err == nil {
		_, err = gateway.NewHosts(s.cfg.AllowedHosts)
	}
	if err != nil {
		return cli.Usage(err)
	}
	if ahead := s.clockAhead; ahead != 0 {
		s.cfg.Clock = func() time.Time { return time.Now().Add(ahead) }
	}
	s.cfg.Version, s.cfg.Commit = version, commit
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return cli.Usage(fmt.Errorf("--log-level: %w; use debug, info, warn or error", err))
	}
	s.cfg.Logger = slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))
	return runServer(ctx, out, s.cfg, banner)
}

// checkRole refuses settings that the role cannot be run with.
func checkRole(cfg server.Config) error {
	if cfg.Role == server.Dev {
		return nil
	}
	if len(cfg.KafkaBrokers) == 0 {
		return errors.New("there are no brokers: gateways and workers share a log on Kafka or Redpanda; set log: { type: kafka, brokers: [...] } in the file of --config, or --kafka-brokers; headwater dev needs none")
	}
	if n := cfg.ReplicationFactor; n > 0 && n < 3 && !cfg.AllowUnsafe {
		return fmt.Errorf("replication factor is %d: an acknowledged write could be lost with one broker; use 3 or more, or say that you mean it with --allow-unsafe (log.allow_unsafe)", n)
	}
	if cfg.Role == server.Worker && (cfg.SessionTimeout < time.Second || cfg.SessionTimeout > 30*time.Minute) {
		return fmt.Errorf("session timeout is %v; it takes 1s to 30m, and brokers as a rule no less than 6s (group.min.session.timeout.ms)", cfg.SessionTimeout)
	}
	known := []string{string(namespace.KV), string(namespace.Counter), string(namespace.TimeSeries), string(namespace.Log)}
	for _, a := range cfg.Abstractions {
		if !slices.Contains(known, a) {
			return fmt.Errorf("--abstractions: %.64q is none of %s", a, strings.Join(known, ", "))
		}
	}
	for _, p := range cfg.ConsumeNamespaces {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("--namespaces: pattern %.80q: %w", p, err)
		}
	}
	return nil
}

// newGateway is `headwater gateway`: the API alone.
func newGateway() *cobra.Command {
	s := &serverFlags{cfg: server.Config{Role: server.Gateway}}
	c := &cobra.Command{
		Use:     "gateway",
		Short:   "Answer the API, and keep nothing: the log is on Kafka, and workers have the stores",
		Args:    cli.Args(cobra.NoArgs),
		PreRunE: s.prepare,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), gatewayBanner)
		},
	}
	s.common(c.Flags())
	s.unsafe(c.Flags())
	s.api(c.Flags())
	return c
}

// newConsume is `headwater consume`: a worker.
func newConsume() *cobra.Command {
	s := &serverFlags{cfg: server.Config{Role: server.Worker}}
	c := &cobra.Command{
		Use:     "consume",
		Short:   "Apply the log to stores, and answer gateways about them",
		Args:    cli.Args(cobra.NoArgs),
		PreRunE: s.prepare,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), workerBanner)
		},
	}
	s.common(c.Flags())
	s.unsafe(c.Flags())
	s.stores(c.Flags(), "./headwater-data")
	s.worker(c.Flags())
	c.Flags().StringSliceVar(&s.namespaces, "namespaces", nil, "patterns of the names that are applied here, as in team-a-* (default all)")
	return c
}

func gatewayBanner(out io.Writer, s *server.Server, cfg server.Config) error {
	_, err := fmt.Fprintf(out, `Headwater %s gateway
  http       http://%s
  grpc       %s
  admin      http://%s
  log        Kafka at %s
  durability %s
%s`, cfg.Version, s.HTTPAddr(), s.GRPCAddr(), s.AdminAddr(), strings.Join(cfg.KafkaBrokers, ","), s.Guarantee(), warningLines(s))
	return err
}

func workerBanner(out io.Writer, s *server.Server, cfg server.Config) error {
	_, err := fmt.Fprintf(out, `Headwater %s worker
  internal   %s
  admin      http://%s
  data       %s
  log        Kafka at %s
%s`, cfg.Version, s.InternalAddr(), s.AdminAddr(), s.DataDir(), strings.Join(cfg.KafkaBrokers, ","), warningLines(s))
	return err
}

func warningLines(s *server.Server) string {
	var lines strings.Builder
	for _, w := range s.Warnings() {
		lines.WriteString("  warning    " + w + "\n")
	}
	return lines.String()
}
