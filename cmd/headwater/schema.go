package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/cmd/headwater/cli"
	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// newSchema is `headwater schema`: the tables of other servers.
func newSchema() *cobra.Command {
	c := &cobra.Command{Use: "schema", Short: "Make, show or check the tables of the clusters of a configuration file"}
	c.RunE = cli.Args(func(*cobra.Command, []string) error { return errors.New("say what to do: apply, show or check") })
	c.AddCommand(
		schemaCommand("apply", "Make the tables where they are missing", func(ctx context.Context, out io.Writer, name string, cl server.Connection) error {
			if err := cl.ApplySchema(ctx); err != nil {
				return err
			}
			_, err := fmt.Fprintf(out, "cluster %s has its tables\n", name)
			return err
		}),
		schemaCommand("show", "Print the statements that make the tables", func(_ context.Context, out io.Writer, name string, cl server.Connection) error {
			_, err := fmt.Fprintf(out, "-- cluster %s\n", name)
			for _, statement := range cl.Schema() {
				if err == nil {
					_, err = fmt.Fprintf(out, "%s;\n", statement)
				}
			}
			return err
		}),
		schemaCommand("check", "Say whether the tables are there and as this build needs them", func(ctx context.Context, out io.Writer, name string, cl server.Connection) error {
			if err := cl.CheckSchema(ctx); err != nil {
				return err
			}
			_, err := fmt.Fprintf(out, "cluster %s has its tables\n", name)
			return err
		}),
	)
	return c
}

// schemaCommand does something with each cluster of the file, whatever becomes of the others.
func schemaCommand(use, short string, do func(ctx context.Context, out io.Writer, name string, c server.Connection) error) *cobra.Command {
	var config string
	c := &cobra.Command{
		Use: use, Short: short, Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if config = cmp.Or(config, os.Getenv("HEADWATER_CONFIG")); config == "" {
				return cli.Usage(errors.New("name the configuration file with --config"))
			}
			var cfg server.Config
			if err := readConfig(config, newDev().Flags(), &cfg); err != nil {
				return cli.Usage(err)
			}
			clusters := cfg.Clusters
			if len(clusters) == 0 {
				return cli.Usage(fmt.Errorf("%s has no clusters", config))
			}
			var errs []error
			for _, name := range slices.Sorted(maps.Keys(clusters)) {
				if cl := clusters[name]; !cl.HasTables() {
					continue
				}
				errs = append(errs, withCluster(name, clusters[name], func(cl server.Connection) error {
					return do(c.Context(), c.OutOrStdout(), name, cl)
				}))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().StringVar(&config, "config", "", "file of settings, whose clusters are meant")
	return c
}

func withCluster(name string, c server.Cluster, do func(cl server.Connection) error) error {
	cl, err := c.Connect(name, false, nil)
	if err != nil {
		return err
	}
	return errors.Join(do(cl), cl.Close())
}
