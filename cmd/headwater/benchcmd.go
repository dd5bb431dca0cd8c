package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
	"github.com/headwater-db/headwater/cmd/headwater/cli"
)

// newBench is `headwater bench`: load on a running server.
func newBench() *cobra.Command {
	var o benchload.Options
	var names []string
	long := "Makes load on the server at --address and prints how fast it was, how late, what failed and what was durable.\n" +
		"It writes real items under ids that begin with the prefix, and leaves them there.\n\nWorkloads:\n"
	for _, w := range benchload.Workloads {
		names = append(names, w.Name)
		long += fmt.Sprintf("  %-14s %s\n", w.Name, w.Does)
	}
	c := &cobra.Command{
		Use: "bench WORKLOAD", Short: "Make load on a server and measure it", Long: strings.TrimRight(long, "\n"), ValidArgs: names,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Usage(fmt.Errorf("bench takes one workload: %s", strings.Join(names, ", ")))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			o.Workload = args[0]
			output, err := c.Flags().GetString("output")
			if err != nil {
				return err
			}
			if output != "table" && output != "json" {
				return cli.Usage(fmt.Errorf("--output %q: use table or json", output))
			}
			timeout, err := c.Flags().GetDuration("timeout")
			if err != nil {
				return err
			}
			cl, err := cli.Connect(c, client.Config{FailFast: true, Timeout: timeout})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, cl.Close()) }()
			rep, err := benchload.Run(c.Context(), cl, o)
			if errors.Is(err, benchload.ErrOptions) {
				return cli.Usage(err)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(c.OutOrStdout()).Encode(rep)
			}
			return printReport(c.OutOrStdout(), rep)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Namespace, "namespace", "", "namespace to use (default demo-kv, demo-log, demo-counter or demo-timeseries)")
	f.IntVar(&o.Callers, "callers", 0, "callers, each of which waits for its answer (default 64, of counter-batch and ts-write 8)")
	f.DurationVar(&o.Duration, "duration", 0, "how long to measure (default 10s)")
	f.IntVar(&o.ValueBytes, "value-bytes", 100, "size of a value or payload")
	f.IntVar(&o.Records, "records", 100_000, "records, counters or series that the load is spread over; of ts-read the events of its one series")
	f.IntVar(&o.BatchItems, "batch-items", 0, "items of a call of kv-put-batch, adds of one of counter-batch, events of one of ts-write (default 100, 1,000, 1,000)")
	f.Float64Var(&o.Zipf, "zipf", 0, "add to some counters more often, by Zipf's law with this exponent, above 1 (default all alike)")
	f.IntVar(&o.Writers, "writers", 0, "callers of counter-batch that write while counter-get is measured")
	f.IntVar(&o.PageBytes, "page-bytes", 1<<20, "size of a page of kv-page")
	f.StringVar(&o.Prefix, "prefix", "", "beginning of every id (default a random one)")
	return c
}

func printReport(w io.Writer, r *benchload.Report) error {
	durable := "nothing was written"
	if len(r.Durable) > 0 {
		var parts []string
		for _, d := range slices.Sorted(maps.Keys(r.Durable)) {
			parts = append(parts, fmt.Sprintf("%s %d", d, r.Durable[d]))
		}
		durable = strings.Join(parts, ", ") + " calls acknowledged"
	}
	errs := "none"
	if len(r.Errors) > 0 {
		var parts []string
		for _, e := range slices.Sorted(maps.Keys(r.Errors)) {
			parts = append(parts, fmt.Sprintf("%d x %s", r.Errors[e], e))
		}
		errs = strings.Join(parts, "; ")
	}
	_, err := fmt.Fprintf(w, `workload    %s on %s, %d callers, %.1f s
throughput  %.0f items/s (%d items in %d calls)
latency     p50 %s   p99 %s   p99.9 %s   max %s
errors      %s
durable     %s; %d with an unknown outcome
`, r.Workload, r.Namespace, r.Callers, r.Seconds, r.PerSecond, r.Items, r.Calls, r.P50, r.P99, r.P999, r.Max, errs, durable, r.UnknownOutcome)
	if err == nil && r.Writers != nil {
		if _, err = fmt.Fprintln(w, "\nmeanwhile"); err == nil {
			return printReport(w, r.Writers)
		}
	}
	return err
}
