package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "headwater",
		Short:         "One durable log in which every mutation begins, and key-value, counters, time series and messages on it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.AddCommand(newDev(), newGateway(), newConsume(), newBench(), newSchema())
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
	s := &serverFlags{cfg: server.Config{Role: server.Dev, Demo: true}}
	c := &cobra.Command{
		Use:     "dev",
		Short:   "Run Headwater in one process: log, stores and API, data kept in a directory",
		Args:    cli.Args(cobra.NoArgs),
		PreRunE: s.prepare,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(s.cfg.KafkaBrokers) > 0 && s.cfg.ReplicationFactor == 0 {
				s.cfg.ReplicationFactor = 1 // a development cluster is one broker, and what that means is logged
			}
			return s.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), banner)
		},
	}
	s.common(c.Flags())
	s.api(c.Flags())
	s.stores(c.Flags(), "./headwater-data")
	s.embedded(c.Flags())
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
func runServer(ctx context.Context, out io.Writer, cfg server.Config, banner func(io.Writer, *server.Server, server.Config) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal ends the process
	start := time.Now()
	defer holdHeap()()
	s, err := server.Open(ctx, cfg)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		_, err = fmt.Fprintln(out, "stopped while it was starting")
		return err
	}
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
`, cfg.Version, s.HTTPAddr(), s.GRPCAddr(), s.AdminAddr(), s.DataDir(), where, s.Guarantee(), warningLines(s), s.GRPCAddr(), s.GRPCAddr(), s.HTTPAddr())
	return err
}
