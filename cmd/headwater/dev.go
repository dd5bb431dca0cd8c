package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/cmd/headwater/cli"
	"github.com/headwater-db/headwater/cmd/headwater/demo"
	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/gateway"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "headwater",
		Short:         "One durable log in which every mutation begins, and key-value, counters, time series and messages on it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.AddCommand(newDev(), newBench(), newSchema())
	cli.AddCommands(root)
	root.AddCommand(demo.Command())
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(cmd *cobra.Command, path []string) error {
			found, rest, err := root.Find(path)
			if err != nil || len(rest) > 0 {
				return cli.Args(func(*cobra.Command, []string) error {
					return fmt.Errorf("there is no command %q", strings.Join(path, " "))
				})(cmd, path)
			}
			return found.Help()
		},
	})
	return root
}

// newDev is `headwater dev`: everything in one process, nothing beside it.
func newDev() *cobra.Command {
	var cfg server.Config
	var brokers, namespaces []string
	var logLevel, config string
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run Headwater in one process: log, stores and API, data kept in a directory",
		Args:  cli.Args(cobra.NoArgs),
		PreRunE: func(c *cobra.Command, _ []string) error {
			if err := cli.NoClientFlags(c); err != nil {
				return err
			}
			if err := fromEnvironment(c.LocalNonPersistentFlags()); err != nil || config == "" {
				return err
			}
			var err error
			if cfg.Clusters, err = readConfig(config, c.Flags()); err != nil {
				return cli.Usage(err)
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if cfg.Namespaces, err = namespaceFiles(namespaces); err == nil {
				err = checkLogConfig(cfg)
			}
			if err == nil {
				_, err = gateway.NewHosts(cfg.AllowedHosts)
			}
			if err != nil {
				return cli.Usage(err)
			}
			cfg.KafkaBrokers, cfg.Demo, cfg.Version, cfg.Commit = brokers, true, version, commit
			if len(brokers) > 0 && cfg.ReplicationFactor == 0 {
				cfg.ReplicationFactor = 1 // a development cluster is one broker, and what that means is logged
			}
			var level slog.Level
			if err := level.UnmarshalText([]byte(logLevel)); err != nil {
				return cli.Usage(fmt.Errorf("--log-level: %w; use debug, info, warn or error", err))
			}
			cfg.Logger = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			return runServer(c.Context(), c.OutOrStdout(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&config, "config", "", "file of settings; flags and HEADWATER_<FLAG> variables beat it")
	f.StringSliceVar(&namespaces, "namespaces", nil, "files or patterns of namespace documents, applied where the name does not exist yet")
	f.StringVar(&cfg.DataDir, "data-dir", "./headwater-data", "directory that everything is kept in")
	f.StringVar(&cfg.HTTP, "http", "127.0.0.1:7080", "address of HTTP+JSON; port 0 picks a free one")
	f.StringVar(&cfg.GRPC, "grpc", "127.0.0.1:7081", "address of gRPC")
	f.StringVar(&cfg.Admin, "admin", "127.0.0.1:7090", "address of health, metrics and pprof")
	f.StringSliceVar(&cfg.AllowedHosts, "allowed-hosts", nil,
		"name,... that HTTP requests may be for, beside localhost, the machine's name and IP addresses")
	f.StringSliceVar(&brokers, "kafka-brokers", nil, "host:port,... puts the log on Kafka or Redpanda; the stores stay here")
	f.IntVar(&cfg.ReplicationFactor, "kafka-replication-factor", 0, "replicas of topics on Kafka (default 1)")
	f.StringVar(&cfg.TopicPrefix, "kafka-topic-prefix", "headwater", "beginning of the names of topics on Kafka; installations that share a cluster have different ones")
	f.DurationVar(&cfg.StartTimeout, "start-timeout", server.DefaultStartTimeout, "how long Kafka may take to answer at start")
	f.DurationVar(&cfg.DrainDelay, "drain-delay", 0, "how long to be not ready before requests are refused at shutdown")
	f.DurationVar(&cfg.ShutdownTimeout, "shutdown-timeout", server.DefaultShutdownTimeout, "how long a shutdown may take after the drain delay; what is left then is told, and the exit code is 1")
	f.Int64Var(&cfg.FreeSpaceFloor, "free-space-floor", 0, "bytes that must stay free on the disk of the log (default 256 MiB, -1 off)")
	f.DurationVar(&cfg.VerifyInterval, "verify-interval", server.DefaultVerifyInterval, "how often a few counters of each namespace are counted again from their events; -1s is never")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// fromEnvironment fills in flags that were not given from HEADWATER_<FLAG>.
func fromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "HEADWATER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !f.Changed {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, cli.Usage(fmt.Errorf("%s: %w", name, err)))
			}
		}
	})
	return errors.Join(errs...)
}

// runServer runs until SIGTERM or SIGINT, then drains. A second signal exits at
// once, also while it starts.
func runServer(ctx context.Context, out io.Writer, cfg server.Config) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal ends the process
	start := time.Now()
	defer holdHeap()()
	s, err := server.Open(ctx, cfg)
	if err != nil {
		return startError(err)
	}
	if err := banner(out, s, cfg); err != nil {
		return errors.Join(err, s.Close())
	}
	if err := s.WaitReady(ctx); err == nil {
		_, err = fmt.Fprintf(out, "ready in %v\n", time.Since(start).Round(time.Millisecond))
		if err != nil {
			return errors.Join(err, s.Close())
		}
	}
	<-ctx.Done()
	// A deadline that has passed here is not a server that does not answer, as it is
	// for the client's verbs.
	return cli.Failure(s.Drain(context.Background()))
}

// startError says in one line why the server does not start.
func startError(err error) error {
	why := strings.ReplaceAll(err.Error(), "\n", "; ")
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk is full: %s; free space and start again, what was acknowledged is there (%s)", why, apierrors.DiskFull)
	}
	return err
}

func banner(out io.Writer, s *server.Server, cfg server.Config) error {
	where := "embedded, fsync before acknowledgement"
	if len(cfg.KafkaBrokers) > 0 {
		where = "Kafka at " + strings.Join(cfg.KafkaBrokers, ",") + ", acknowledged by all in-sync replicas"
	}
	var warnings strings.Builder
	for _, w := range s.Warnings() {
		warnings.WriteString("  warning    " + w + "\n")
	}
	_, err := fmt.Fprintf(out, `Headwater %s
  http       http://%s
  grpc       %s
  admin      http://%s
  data       %s
  log        %s
  durability %s
%stry
  headwater kv put demo-kv greeting en 'good morning' --address %s
  headwater kv get demo-kv greeting en --address %s
  curl http://%s/v1/kv/demo-kv/greeting/en
`, cfg.Version, s.HTTPAddr(), s.GRPCAddr(), s.AdminAddr(), s.DataDir(), where, s.Guarantee(), warnings.String(), s.GRPCAddr(), s.GRPCAddr(), s.HTTPAddr())
	return err
}
