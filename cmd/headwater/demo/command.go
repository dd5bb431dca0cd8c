package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/cli"
)

// callTime is how long one call may take, retries included, so that a load rides
// out a restart of the server.
const callTime = 30 * time.Second

// Command is `headwater demo`. It needs the flags that cli.AddCommands gives the
// root.
func Command() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Load real flights through the API, read every one back, and report",
		Long: `Loads real flights through the API into a namespace of abstraction kv: one record
per airport of origin, one item per flight. Then reads every row back, compares it
with its source, and prints what it found.

Counts them too, in a namespace of abstraction counter: every flight increments
its origin, destination, route and hour of day. Then reads every counter back and
compares it, and the top ten of each kind, with a plain pass over the file; it
exits 1 when they differ.

Writes every flight as an event of its route, in a namespace of abstraction
timeseries, has the server work out delays by hour and by route, and compares them
with the file too.

Run it again after a crash, of the server or of itself: it sends the same batches
under the same tokens, and what was acknowledged before is not written or counted
twice.

The binary holds the first 25,000 rows of January 2001. Source:
` + Source + `.`,
		Example: `  headwater demo
  headwater demo --rows 1000
  headwater demo --file flights-200k.csv.gz -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usage(fmt.Errorf("demo takes no arguments, and %q was given", args[0]))
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return run(c, o) },
	}
	f := c.Flags()
	f.IntVar(&o.rows, "rows", 0, "load the first rows only; 0: all")
	f.StringVar(&o.file, "file", "", "load this CSV file, gzipped or not, with the columns of the sample: "+strings.Join(header, ","))
	f.StringVar(&o.namespace, "namespace", "demo-kv", "namespace to load into, of abstraction kv")
	f.StringVar(&o.counters, "counter-namespace", "demo-counter", "namespace to count in, of abstraction counter; empty: count nothing")
	f.StringVar(&o.events, "event-namespace", "demo-timeseries", "namespace to write events to, of abstraction timeseries; empty: write none")
	c.AddCommand(crashCommand(), deliveryCommand())
	return c
}

// demoOptions are the flags of `headwater demo`.
type demoOptions struct {
	rows                        int
	file                        string
	namespace, counters, events string
}

func run(c *cobra.Command, flags demoOptions) (err error) {
	file, rows, namespace := flags.file, flags.rows, flags.namespace
	if rows < 0 {
		return cli.Usage(fmt.Errorf("--rows %d: it must not be negative", rows))
	}
	output, err := c.Flags().GetString("output")
	if err != nil {
		return err
	}
	if output != "table" && output != "json" {
		return cli.Usage(fmt.Errorf("--output %q: use table or json", output))
	}
	var flights *Flights
	if file == "" {
		flights, err = Sample(rows)
	} else {
		flights, err = File(file, rows)
	}
	if err != nil {
		return err
	}
	if rows > flights.Rows {
		return cli.Usage(fmt.Errorf("--rows %d: there are %d; give more of them with --file", rows, flights.Rows))
	}
	if err := reachable(c, &flags); err != nil {
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
	o := Options{Namespace: namespace}
	var res result
	bar := newBar(c.ErrOrStderr(), flights.Rows)
	o.Progress = bar.of("loading")
	res.Loaded, err = Load(c.Context(), conn, flights, o)
	bar.end()
	if err != nil {
		return fmt.Errorf("%w; run the same command again to complete the load", err)
	}
	o.Progress = bar.of("reading back")
	res.Report, err = Read(c.Context(), conn, flights, o)
	bar.end()
	if err != nil {
		return err
	}
	res.Namespace, res.Source = namespace, flights.Name
	if flags.counters != "" {
		if res.Counts, err = countAndCheck(c, conn, flights, flags.counters); err != nil {
			return err
		}
	}
	if flags.events != "" {
		if res.Events, err = recordAndCheck(c, conn, flights, flags.events); err != nil {
			return err
		}
	}
	return res.print(c.OutOrStdout(), output == "json")
}

// countAndCheck counts the flights and compares the counters with the file.
func countAndCheck(c *cobra.Command, conn *client.Client, flights *Flights, namespace string) (*counts, error) {
	bar := newBar(c.ErrOrStderr(), flights.Rows)
	o := CounterOptions{Namespace: namespace, Progress: bar.of("counting")}
	loaded, err := CountFlights(c.Context(), conn, flights, o)
	bar.end()
	if _, bad := errors.AsType[*CountMismatch](err); err != nil && !bad {
		return nil, fmt.Errorf("%w; run the same command again to complete the load", err)
	} else if err != nil {
		return nil, err
	}
	read, err := ReadCounts(c.Context(), conn, flights, &loaded, o)
	if err != nil {
		return nil, err
	}
	return &counts{Namespace: namespace, Counted: loaded, Report: read}, nil
}

// recordAndCheck writes the flights as events and compares what they add up to with the file.
func recordAndCheck(c *cobra.Command, conn *client.Client, flights *Flights, namespace string) (*events, error) {
	bar := newBar(c.ErrOrStderr(), flights.Rows)
	o := EventOptions{Namespace: namespace, Progress: bar.of("recording")}
	recorded, err := RecordFlights(c.Context(), conn, flights, o)
	bar.end()
	if err != nil {
		return nil, fmt.Errorf("%w; run the same command again to complete the load", err)
	}
	read, err := ReadDelays(c.Context(), conn, flights, o)
	if err != nil {
		return nil, err
	}
	return &events{Namespace: namespace, Recorded: recorded, Report: read}, nil
}

// reachable asks the server once, without patience, so that a wrong address or
// namespace is told at once.
func reachable(c *cobra.Command, o *demoOptions) (err error) {
	conn, err := cli.Connect(c, client.Config{Timeout: callTime, FailFast: true})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := conn.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := conn.KV(o.namespace).Page(c.Context(), "-", client.ReadOptions{Limit: 1}, ""); err != nil {
		return err
	}
	if o.counters != "" {
		if _, err := conn.Counter(o.counters).Get(c.Context(), "-"); err != nil {
			return absent(o.counters, err)
		}
	}
	if o.events == "" {
		return nil
	}
	for _, err := range conn.TimeSeries(o.events).List(c.Context(), client.ListSeriesOptions{PageSize: 1}) {
		return absentSeries(o.events, err)
	}
	return nil
}

// result is what the command prints.
type result struct {
	Namespace string `json:"namespace"`
	Source    string `json:"source"`
	Loaded    Loaded `json:"loaded"`
	Report    Report `json:"readBack"`
	// Counts is nil when nothing was to be counted.
	Counts *counts `json:"counts,omitempty"`
	// Events is nil when no events were to be written.
	Events *events `json:"events,omitempty"`
}

// counts is what the command prints of the counters.
type counts struct {
	Namespace string      `json:"namespace"`
	Counted   Counted     `json:"counted"`
	Report    CountReport `json:"readBack"`
}

func (r *result) print(w io.Writer, asJSON bool) error { return printResult(w, asJSON, r, r.text) }

func printResult(w io.Writer, asJSON bool, r any, text func() string) error {
	var err error
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	} else {
		_, err = io.WriteString(w, text())
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func (r *result) text() string {
	var b strings.Builder
	l, p := &r.Loaded, &r.Report
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{name}, a...)...)
	}
	line("source", "%s", r.Source)
	line("loaded", "%s rows in %s calls, %s rows/s, acknowledged as %s", count(l.Rows), count(l.Batches), count(int(l.RowsPerSec)), l.Durability)
	if l.Repeated > 0 {
		line("", "%s of the calls were known by their tokens, and changed nothing", count(l.Repeated))
	}
	line("read back", "%s rows of %s airports, %s rows/s: every one equals its source, none is missing", count(p.Rows), count(p.Airports), count(int(p.RowsPerSec)))
	if p.Others > 0 {
		line("", "%s more items are in the same records, which this load did not write", count(p.Others))
	}
	const minute = "2006-01-02 15:04"
	line("departed", "%s to %s", p.First.Format(minute), p.Last.Format(minute))
	names := make([]string, len(p.Busiest))
	for i, a := range p.Busiest {
		names[i] = a.Origin + " " + count(a.Flights)
	}
	line("busiest", "%s", strings.Join(names, ", "))
	line("delay", "%.1f minutes on average; %s flights (%.1f %%) %d minutes late or more", p.AverageDelay, count(p.Late), 100*float64(p.Late)/float64(p.Rows), late)
	w := &p.WorstDelay
	line("worst", "%s minutes, flight %d from %s to %s at %s", count(w.DelayMinutes), w.Flight, w.Origin, w.Destination, w.DepartedAt.Format(minute))
	line("look", "headwater kv get %s %s '%s'", r.Namespace, w.Origin, w.Key())
	if r.Counts != nil {
		r.Counts.text(line)
	}
	if r.Events != nil {
		r.Events.text(line)
	}
	return b.String()
}

// text adds the lines about the counters.
func (c *counts) text(line func(name, format string, a ...any)) {
	l, p := &c.Counted, &c.Report
	if sent := l.Calls - l.Present; sent > 0 {
		line("counted", "%s increments in %s calls, %s increments/s, acknowledged as %s", count(l.Increments), count(sent), count(int(l.IncrementsPerSec)), l.Durability)
	}
	if l.Present > 0 {
		line("counted", "%s of %s calls by an earlier run, which were not sent again", count(l.Present), count(l.Calls))
	}
	if l.Repeated > 0 {
		line("", "%s of the calls were known by their tokens, and changed nothing", count(l.Repeated))
	}
	for _, kind := range kinds {
		names := make([]string, len(p.Top[kind]))
		for i, r := range p.Top[kind] {
			names[i] = strings.TrimPrefix(r.Counter, kind+"/") + " " + count(int(r.Count))
		}
		line("top ten", "%s: %s", kind, strings.Join(names, ", "))
	}
	line("", "every one of %s counters, and each top ten, equals a plain pass over the file", count(p.Counters))
	if p.Others > 0 {
		line("", "%s more increments are in the namespace, which are not of this file; they were taken off", count(int(p.Others)))
	}
	if n := len(p.Series); n > 0 {
		days := make([]string, min(n, 7))
		for i := range days {
			days[i] = count(int(p.Series[i].Count))
		}
		more := ""
		if n > len(days) {
			more = ", ..."
		}
		line("by day", "%s from %s: %s%s", p.Top[kinds[0]][0].Counter, p.Series[0].Start.Format(time.DateOnly), strings.Join(days, ", "), more)
	}
	line("look", "headwater counter get %s %s", c.Namespace, p.Top[kinds[0]][0].Counter)
}

// count writes a number with commas.
func count(n int) string {
	if n < 0 {
		return "-" + count(-n)
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// terminal is w when it is a terminal, else nil.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if i, err := f.Stat(); err != nil || i.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}
