package demo

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/cli"
)

// deliveryCommand is `headwater demo delivery`.
func deliveryCommand() *cobra.Command {
	var o DeliveryOptions
	rows, file := 0, ""
	c := &cobra.Command{
		Use:   "delivery",
		Short: "Send real flights as messages to a receiver that fails, and report",
		Long: `Writes every flight as a message of its route into a log namespace, and has the
server bring them to an HTTP receiver in this process. The receiver fails one
attempt in twenty, is away for ten seconds when it has a third of the messages,
and refuses one flight for good: that becomes a dead letter, the receiver is
mended, and the dead letter is redriven. Then messages are written for later.

Reports what arrived, how often it was tried, and whether the flights of each
route came in order; exits 1 where something is not as it should be.

The server must reach the receiver: on another machine, give an address of this
one with --listen.`,
		Example: `  headwater demo delivery
  headwater demo delivery --rows 2000 --down 3s`,
		Args: cli.Args(cobra.NoArgs),
	}
	f := c.Flags()
	f.IntVar(&rows, "rows", 0, "send the first rows only; 0: all")
	f.StringVar(&file, "file", "", "send this CSV file, gzipped or not, with the columns of the sample: "+strings.Join(header, ","))
	f.StringVar(&o.Namespace, "namespace", "demo-delivery", "log namespace to write to; it is made, or its targets are changed")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "where the receiver listens")
	f.DurationVar(&o.Down, "down", 0, "how long the receiver is away (10s)")
	f.Uint64Var(&o.Seed, "seed", 0, "of what fails at random; 0: another each time")
	c.RunE = func(c *cobra.Command, _ []string) error { return deliver(c, file, rows, o) }
	return c
}

func deliver(c *cobra.Command, file string, rows int, o DeliveryOptions) (err error) {
	if rows < 0 {
		return cli.Usage(fmt.Errorf("--rows %d: it must not be negative", rows))
	}
	if o.Down < 0 {
		return cli.Usage(fmt.Errorf("--down %v: it must not be negative", o.Down))
	}
	output, err := c.Flags().GetString("output")
	if err != nil {
		return err
	}
	if output != "table" && output != "json" {
		return cli.Usage(fmt.Errorf("--output %q: use table or json", output))
	}
	flights, err := Sample(rows)
	if file != "" {
		flights, err = File(file, rows)
	}
	if err != nil {
		return err
	}
	conn, err := cli.Connect(c, client.Config{Timeout: callTime})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := conn.Close(); err == nil {
			err = cerr
		}
	}()
	bar := newBar(c.ErrOrStderr(), flights.Rows)
	o.Progress = bar.of("delivering")
	r, err := Deliver(c.Context(), conn, flights, o)
	bar.end()
	if err != nil {
		return err
	}
	return r.print(c.OutOrStdout(), output == "json")
}

func (r *DeliveryReport) print(w io.Writer, asJSON bool) error {
	return printResult(w, asJSON, r, r.text)
}

func (r *DeliveryReport) text() string {
	var b strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{name}, a...)...)
	}
	line("source", "%s", r.Source)
	line("written", "%s messages of %s routes, %s a second", count(r.Messages), count(r.Keys), count(int(r.WriteRate)))
	line("delivered", "all but one after %.1f s, of which the receiver was away for %g s; those of each route in order", r.Seconds, r.DownSeconds)
	line("attempts", "%s: %s failed at random, %s without an answer, %s refused for good", count(r.Attempts), count(r.Failed), count(r.Unanswered), count(r.Refused))
	if r.Twice > 0 {
		line("", "%s came twice, under the same id", count(r.Twice))
	}
	d := &r.DeadLetter
	line("dead", "%s of route %s, after %s: %s", d.ID, d.Key, times(d.Attempts), d.Detail)
	line("redriven", "%.2f s after the receiver was mended", d.Redriven)
	line("later", "%s messages with a time: none before it, the last %.0f ms after", count(r.Delayed), 1000*r.WorstLateness)
	line("look", "headwater dlq show %s %s", r.Namespace, d.ID)
	return b.String()
}

func times(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return count(n) + " attempts"
}
