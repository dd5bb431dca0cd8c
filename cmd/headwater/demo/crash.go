package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/cli"
)

// crashOptions are the flags of `headwater demo crash`.
type crashOptions struct {
	rows     int
	file     string
	seed     uint64
	duration time.Duration
}

const (
	crashRows    = 1_000_000
	crashPerCall = 250 // flights, which is 1,000 increments
)

func crashCommand() *cobra.Command {
	var o crashOptions
	c := &cobra.Command{
		Use:   "crash",
		Short: "Kill a server under load, lose answers, delete its store, and compare every count with the file",
		Long: `Starts a server of its own in a directory of its own, and lets eight clients count
real flights in it: four increments a flight, 1,000 increments a call. Between
them and the server 2 % of the answers to calls that were done get lost with
their connection; the clients send again, as the SDK does. The server is killed
with kill -9 three times meanwhile. Then the store of the counters is deleted
under readers and made again from the log. At the end every counter is compared
with what a plain pass over the file counts.

Where redis-server is on the PATH it gets the same calls, lost answers and kills,
with appendfsync always: once with pipelines of INCRBY that are sent again when
they are not answered, and once with a script that keeps a token of each call.

It prints what it measured, and exits 1 when a count of Headwater is not the
file's. It needs no network, no Docker and nothing that runs, and leaves nothing
behind.`,
		Example: `  headwater demo crash
  headwater demo crash --seed 7 --rows 100000 -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usage(fmt.Errorf("demo crash takes no arguments, and %q was given", args[0]))
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return runCrash(c, o) },
	}
	f := c.Flags()
	f.IntVar(&o.rows, "rows", crashRows, "flights to count, in as many passes over the file as it takes")
	f.StringVar(&o.file, "file", "", "count this CSV file, gzipped or not, and not the sample")
	f.Uint64Var(&o.seed, "seed", 0, "chooses when the server is killed and which answers are lost; 0: by the time")
	f.DurationVar(&o.duration, "duration", 0, "begin no call after so long a load, also before all rows are counted; 0: no bound")
	return c
}

// crashMost bounds --rows: what is counted must be countable in a demo.
const crashMost = 1_000_000_000

func runCrash(c *cobra.Command, o crashOptions) (err error) {
	output, err := c.Flags().GetString("output")
	switch {
	case err != nil:
		return err
	case output != "table" && output != "json":
		return cli.Usage(fmt.Errorf("--output %q: use table or json", output))
	case o.rows < 1 || o.rows > crashMost:
		return cli.Usage(fmt.Errorf("--rows %d: use 1 to %d", o.rows, crashMost))
	case o.duration < 0:
		return cli.Usage(fmt.Errorf("--duration %v: it must not be negative", o.duration))
	case c.Flags().Changed("address"):
		return cli.Usage(errors.New("--address: demo crash kills the server that it counts in, and starts one of its own"))
	}
	var flights *Flights
	if o.file == "" {
		flights, err = Sample(0)
	} else {
		flights, err = File(o.file, 0)
	}
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the binary to start: %w", err)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "headwater-crash")
	if err != nil {
		return fmt.Errorf("make a directory to work in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	k := &crash{dir: dir, exe: exe, work: newWork(flights, o.rows, crashPerCall, o.seed)}
	k.work.limit = o.duration
	// The report has standard output; what happens meanwhile is told beside it when
	// that is JSON.
	k.live = newLive(c.OutOrStdout())
	if output == "json" {
		k.live = newLive(c.ErrOrStderr())
	}
	r, err := k.run(ctx)
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; the server is stopped and its directory removed")
	}
	if err != nil {
		return err
	}
	r.Source, r.Seed = flights.Name, o.seed
	if err := r.print(c.OutOrStdout(), output == "json"); err != nil {
		return err
	}
	return r.verdict()
}

// crash is one run of the demo.
type crash struct {
	dir  string // everything is in it
	exe  string
	work *work
	live *live
}

func (k *crash) run(ctx context.Context) (*CrashReport, error) {
	r := &CrashReport{work: k.work, FileRows: k.work.flights.Rows}
	if err := k.headwater(ctx, r); err != nil {
		return nil, err
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		r.NoRedis = "redis-server is not on the PATH: there is nothing to compare with"
		return r, nil
	}
	for i, name := range []string{redisPlain, redisTokens} {
		run, err := k.redis(ctx, path, name, i == 1, r)
		if err != nil {
			return nil, err
		}
		r.Runs = append(r.Runs, run)
	}
	return r, nil
}

// The names of the subjects.
const (
	headwaterName = "Headwater"
	redisPlain    = "Redis, retries"
	redisTokens   = "Redis, token script"
)

// headwater loads Headwater, deletes its store, and reads everything back.
func (k *crash) headwater(ctx context.Context, r *CrashReport) (err error) {
	data := filepath.Join(k.dir, "headwater")
	k.live.say("starting headwater dev in %s, seed %d", data, k.work.seed)
	st, err := newStorm(ctx, subject{
		name: headwaterName, watch: newHTTP2Watch, dial: dialHeadwater,
		start: func(ctx context.Context) (*process, error) { return startHeadwater(ctx, k.exe, data) },
	}, k.work)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the server said last: %s", err, st.process().said())
		}
		err = errors.Join(err, st.close())
	}()
	// Readers have a way to the server that loses nothing and follows it.
	quiet, err := newProxy(newHTTP2Watch, 0, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quiet.close()) }()
	start := st.start
	st.start = func(ctx context.Context) (*process, error) {
		quiet.point("")
		p, err := start(ctx)
		if err == nil {
			quiet.point(p.addr)
		}
		return p, err
	}
	quiet.point(st.process().addr)

	watched := top(k.work.flights.Counts(), kinds[0])[0].Counter
	phase := &phase{storm: st, what: "counting"}
	end, err := k.live.follow(phase, quiet.addr(), watched)
	if err != nil {
		return err
	}
	defer end()
	if err := st.load(ctx); err != nil {
		return err
	}
	k.work.cut(int(min(st.begun.Load(), int64(k.work.calls))))
	truth, flights := k.work.truth()
	r.truth, r.rows, r.Flights, r.Counters = truth, k.work.rows(truth), flights, len(truth)
	phase.is("deleting the store, rebuilding it from the log")
	if r.Rebuild, err = st.rebuild(ctx, quiet, data, truth); err != nil {
		return err
	}
	phase.is("sending calls once more")
	if r.Rebuild.Resent, r.Rebuild.Known, err = st.resend(ctx, quiet.addr(), 50); err != nil {
		return err
	}
	phase.is("counting again from the events")
	c, err := client.Dial(quiet.addr(), client.Config{Timeout: crashPatience})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	n := c.Counter(crashNamespace)
	if r.Drift, err = drift(ctx, n, k.work, r.rows, 3*time.Second); err != nil {
		return err
	}
	counts, err := readAll(ctx, n, k.work.flights.names.all)
	if err != nil {
		return err
	}
	st.run.judge(counts, truth)
	r.Runs = append(r.Runs, &st.run)
	return nil
}

// redis loads Redis with the same calls and kills.
func (k *crash) redis(ctx context.Context, path, name string, tokens bool, r *CrashReport) (_ *Run, err error) {
	dir, err := os.MkdirTemp(k.dir, "redis")
	if err != nil {
		return nil, err
	}
	st, err := newStorm(ctx, subject{
		name: name, watch: newRESPWatch,
		start: func(ctx context.Context) (*process, error) { return startRedis(ctx, path, dir) },
		dial:  func(addr string) (sender, error) { return &redisSender{addr: addr, tokens: tokens}, nil },
	}, k.work.again())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	end, err := k.live.follow(&phase{storm: st, what: "counting"}, "", "")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := st.load(ctx); err != nil {
		return nil, err
	}
	counts, err := readRedis(st.process().addr, k.work.flights.names.all)
	if err != nil {
		return nil, err
	}
	st.run.judge(counts, r.truth)
	return &st.run, nil
}

func (r *CrashReport) print(w io.Writer, asJSON bool) error {
	return printResult(w, asJSON, r, r.text)
}
