package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measure is one named thing to measure; it adds rows to the harness.
type measure struct {
	name, does string
	run        func(context.Context, *harness) error
}

var measures = []measure{
	{"pebblelog", "appends to the embedded log, fsynced, against raw Pebble commits", pebbleLog},
	{"kafkalog", "appends to the Kafka log against franz-go, on a real broker", kafkaLog},
	{"catchup", "B4: applying the log to the embedded store", catchUp},
	{"get", "B5: GetItems of one item against an empty gRPC call; pages of 2 MiB", getItems},
	{"delete", "B8: deleting a record of 1 and of many items", deletes},
	{"restart", "B8 and ready time: restart after kill -9 with a small and a large log; an empty directory", restarts},
	{"puts", "single durable puts through the Go client", puts},
	{"counters", "B1, B2: durable increments against Redis with appendfsync always; AddAndGetCount; reads beside them", counterRates},
	{"counter-catchup", "B4: applying a log of increments to the embedded store", counterCatchUp},
	{"counter-costs", "B8, B9: GetCount after 1 k and 10 M increments; memory after 10 M over 1 M counters", counterCosts},
	{"stores", "a second store: built and compared beside puts, and taking over beside reads", stores},
	{"events", "B6, B8: events written, the newest read, aggregates, restart; against clickhouse-go where there is one", events},
	{"events-clickhouse", "B7: events until ClickHouse has them, against clickhouse-go, on a real ClickHouse", eventsRemote},
	{"kv-cassandra", "B7: puts until Cassandra has them, and reads that the cache answers, against gocql, on a real Cassandra", kvRemote},
	{"counters-cassandra", "increments over a gateway and a worker against Cassandra's counter columns, on a real Cassandra and Kafka", counterRemote},
	{"forward", "messages until a reader of another namespace has them", forward},
	{"mutate", "groups of records over partitions, against puts of them at once", mutate},
	{"deliver", "messages until an HTTP endpoint has them, against a loop that posts them", deliver},
	{"letters", "adds that a standing floor refuses: until they have their dead letters; ready after kill -9 in the middle", letters},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == peerUnary {
		if err := servePeer(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1) //nolint:gocritic // stop only undoes the signal handler, which ends with the process
	}
}

func parse(args []string) (*harness, error) {
	h := &harness{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	var names []string
	for _, m := range measures {
		names = append(names, m.name)
	}
	only := f.String("only", "", "measures to run, comma-separated: "+strings.Join(names, ","))
	f.IntVar(&h.rounds, "rounds", 5, "turns of a comparison, of which the median counts")
	f.IntVar(&h.repeats, "repeats", 3, "turns that are done again when other processes disturbed them")
	f.DurationVar(&h.duration, "duration", 2*time.Second, "how long one side of a turn runs")
	f.IntVar(&h.catchUp, "catchup-puts", 2_000_000, "puts that are applied in the catch-up measure")
	f.IntVar(&h.bigRecord, "delete-items", 1_000_000, "items of the large record that is deleted")
	f.IntVar(&h.smallLog, "small-log", 1_000_000, "records of the small log that is restarted on")
	f.IntVar(&h.largeLog, "large-log", 10_000_000, "records of the large log that is restarted on")
	f.StringVar(&h.dir, "dir", "", "directory for data, removed afterwards (default a temporary one); its disk is what is measured")
	f.StringVar(&h.binary, "headwater", "", "headwater binary to measure (default: it is built)")
	f.StringVar(&h.out, "out", "", "write the results there too, as NAME.json and NAME.md")
	f.StringVar(&h.profiles, "profiles", "", "directory for CPU profiles, of this process for the library measures and of the server for the others")
	f.BoolVar(&h.strict, "strict", false, "exit with 1 when a bar is missed")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if h.rounds < 1 || h.repeats < 0 || h.duration <= 0 || h.catchUp < 1 || h.bigRecord < 1 || h.smallLog < 1 || h.largeLog < 1 {
		return nil, errors.New("rounds, duration and sizes must be above zero")
	}
	h.only = names
	if *only != "" {
		h.only = strings.Split(*only, ",")
		for _, n := range h.only {
			if !slices.Contains(names, n) {
				return nil, fmt.Errorf("there is no measure %q; there are %s", n, strings.Join(names, ", "))
			}
		}
	}
	h.command = strings.TrimSpace("go run ./bench " + strings.Join(withoutPaths(args), " "))
	return h, nil
}

// withoutPaths leaves out the flags that name places of one machine and change
// nothing in what is measured.
func withoutPaths(args []string) (kept []string) {
	for i := 0; i < len(args); i++ {
		name, _, inline := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if slices.Contains([]string{"dir", "headwater", "out", "profiles"}, name) {
			if !inline {
				i++
			}
			continue
		}
		kept = append(kept, args[i])
	}
	return kept
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	h, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	h.w = out
	if h.dir == "" {
		if h.dir, err = os.MkdirTemp("", "headwater-bench-"); err != nil {
			return fmt.Errorf("make a directory for data: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(h.dir)) }()
	}
	if err := h.describe(); err != nil {
		return err
	}
	h.printf("%s\n%s\n\n", h.command, h.machine)
	var failed []error
	for _, m := range measures {
		if !slices.Contains(h.only, m.name) {
			continue
		}
		h.printf("%s: %s\n", m.name, m.does)
		if err := h.one(ctx, m); err != nil {
			failed = append(failed, fmt.Errorf("measure %s: %w", m.name, err))
			h.note("%s: not measured: %v", m.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(failed, h.finish())...) // what was measured is kept
}

// one runs a measure in a directory of its own, with a profile when asked for.
func (h *harness) one(ctx context.Context, m measure) (err error) {
	h.measure, h.data = m.name, filepath.Join(h.dir, m.name)
	if err := os.MkdirAll(h.data, 0o700); err != nil {
		return fmt.Errorf("make a directory for data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(h.data)) }()
	if h.profiles != "" {
		if err := os.MkdirAll(h.profiles, 0o755); err != nil {
			return fmt.Errorf("make a directory for profiles: %w", err)
		}
		f, err := os.Create(filepath.Join(h.profiles, m.name+".harness.pprof"))
		if err != nil {
			return fmt.Errorf("create a profile: %w", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return errors.Join(fmt.Errorf("start a profile: %w", err), f.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, f.Close())
		}()
	}
	return m.run(ctx, h)
}
