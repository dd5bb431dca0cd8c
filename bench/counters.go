package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/wal"
)

// counterNames is how many counters the load is spread over.
const counterNames = 100_000

// counterRates compares durable increments with Redis, which has appendfsync
// always: batches under a token each, and single ones.
func counterRates(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	r, err := h.startRedis(ctx, filepath.Join(h.data, "redis"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	d := 2 * h.duration
	for _, v := range []struct {
		name, workload        string
		callers               int
		connections, pipeline int
		bar                   float64
	}{
		{"B1: batches of 1,000, each its own token, 8 clients", "counter-batch", 8, 8, 1000, 2},
		{"B2: single increments, 64 goroutines with a client", "counter-single", 64, 64, 1, 1},
	} {
		var last *benchload.Report
		subject := h.load(s, c, benchload.Options{Workload: v.workload, Callers: v.callers, Records: counterNames, BatchItems: 1000, Duration: d, Prefix: "plays/title-"}, &last)
		peer := side{fmt.Sprintf("Redis INCR, %d connections, pipeline %d", v.connections, v.pipeline), func(ctx context.Context, _ int) (float64, error) {
			return r.incr(ctx, v.connections, v.pipeline, counterNames, d)
		}}
		if err := h.compare(ctx, v.name, "increments/s", atLeast(v.bar), subject, &peer, "appendfsync always; 100,000 counters"); err != nil {
			return err
		}
		h.note("%s: latency of the last turn: p50 %s, p99 %s, p99.9 %s", v.workload, last.P50, last.P99, last.P999)
	}
	var last *benchload.Report
	subject := h.load(s, c, benchload.Options{Workload: "counter-addget", Callers: 64, Records: counterNames, Duration: d, Prefix: "plays/title-"}, &last)
	err = h.compare(ctx, "AddAndGetCount from 64 callers, durable", "calls/s", &bar{limit: 15_000, atLeast: true, absolute: true}, subject, nil, "")
	if err != nil {
		return err
	}
	h.note("counter-addget: latency of the last turn: p50 %s, p99 %s, p99.9 %s", last.P50, last.P99, last.P999)
	return h.readsUnderLoad(ctx, s, c)
}

// load is a side that makes load on a server and returns increments or calls per
// second.
func (h *harness) load(s *child, c *client.Client, o benchload.Options, last **benchload.Report) side {
	return side{"Headwater", func(ctx context.Context, round int) (rate float64, err error) {
		err = s.profile(ctx, fmt.Sprintf("%s.%d", o.Workload, round), o.Duration, func() (err error) {
			*last, err = benchload.Run(ctx, c, o)
			return err
		})
		if err != nil {
			return 0, err
		}
		for e, n := range (*last).Errors {
			return 0, fmt.Errorf("%d calls failed: %s", n, e)
		}
		if n := (*last).Durable[client.Sync]; n != (*last).Calls && o.Workload != "counter-get" {
			return 0, fmt.Errorf("%d of %d calls were acknowledged as SYNC", n, (*last).Calls)
		}
		return (*last).PerSecond, nil
	}}
}

// readsUnderLoad tells what a read of one counter takes while the server takes
// all the writes that it can.
func (h *harness) readsUnderLoad(ctx context.Context, s *child, c *client.Client) error {
	writer, err := client.Dial(s.grpc, client.Config{})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := benchload.Run(run, writer, benchload.Options{Workload: "counter-batch", Callers: 8, Records: counterNames, BatchItems: 1000, Duration: 2*h.duration + time.Second})
		done <- err
	}()
	rep, err := benchload.Run(ctx, c, benchload.Options{Workload: "counter-get", Callers: 4, Records: counterNames, Duration: 2 * h.duration})
	if err == nil {
		h.note("GetCount (eventual) from 4 callers beside batches of 1,000 from 8: %s calls/s, p50 %s, p99 %s, p99.9 %s", number(rep.PerSecond), rep.P50, rep.P99, rep.P999)
	}
	stop()
	werr := <-done
	if errors.Is(werr, context.Canceled) {
		werr = nil
	}
	return errors.Join(err, werr, writer.Close())
}

// counterCatchUp applies a log of increments to a new store.
func counterCatchUp(ctx context.Context, h *harness) error {
	for _, v := range []struct {
		perRecord, increments int
		what                  string
	}{
		{250, 5 * h.catchUp, "250 increments a record, as batches of 1,000 over four partitions are recorded"},
		{1, h.catchUp, "one increment a record, as single calls are recorded"},
	} {
		if err := h.counterCatchUpFrom(ctx, v.perRecord, v.increments, v.what); err != nil {
			return err
		}
	}
	return nil
}

func (h *harness) counterCatchUpFrom(ctx context.Context, perRecord, increments int, what string) (err error) {
	dir := filepath.Join(h.data, fmt.Sprintf("log-%d", perRecord))
	b, err := openLog(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close(), os.RemoveAll(dir)) }()
	log, err := b.Create(ctx, wal.TopicSpec{Name: "headwater.counter.bench.1", Partitions: appendPartitions})
	if err != nil {
		return err
	}
	if err := writeAdds(ctx, log, increments, perRecord, b.Now()); err != nil {
		return err
	}
	subject := side{"runner, applier and store", func(ctx context.Context, round int) (float64, error) {
		took, err := h.applyAdds(ctx, log, increments, filepath.Join(h.data, fmt.Sprintf("store-%d-%d", perRecord, round)))
		return float64(increments) / took.Seconds(), err
	}}
	return h.compare(ctx, what, "increments/s", &bar{limit: 1_000_000, atLeast: true, absolute: true}, subject, nil,
		fmt.Sprintf("%s increments of %s counters, each record under a token of its own, into an empty store, until it is all in the store", number(float64(increments)), number(counterNames)))
}

// writeAdds appends n increments to a log.
func writeAdds(ctx context.Context, log wal.Log, n, perRecord int, at time.Time) error {
	partitions := log.Info().Partitions
	random := rand.New(rand.NewPCG(1, 1))
	adds := make([][]byte, partitions)
	counts := make([]int, partitions)
	var entries []wal.NewEntry
	record := func(p int) {
		var tok wal.Token
		tok.GenerationTime = at.UnixMicro()
		binary.BigEndian.PutUint64(tok.Nonce[:], uint64(at.Unix())<<32|uint64(random.Uint32()))
		binary.BigEndian.PutUint64(tok.Nonce[8:], random.Uint64())
		rec := wal.Record{Kind: wal.KindCounter, AcceptedAt: at.UnixMicro(), RoutingKey: []byte("plays"), Token: tok, RequestHash: wal.Hash(tok.Nonce)}
		rec.Payload = counter.AppendPayload(nil, &counter.Call{Op: counter.OpAdd, Adds: adds[p]})
		entries = append(entries, wal.NewEntry{Partition: wal.Partition(p), Data: wal.AppendRecord(nil, &rec)})
		adds[p], counts[p] = adds[p][:0], 0
	}
	send := func() error {
		for _, r := range log.Append(ctx, wal.Sync, entries) {
			if r.Err != nil {
				return fmt.Errorf("write the log that will be applied: %w", r.Err)
			}
		}
		entries = entries[:0]
		return nil
	}
	for range n {
		name := fmt.Appendf(nil, "plays/title-%012d", random.IntN(counterNames))
		p := int(wal.PartitionOf(name, partitions))
		adds[p] = counter.AppendAdd(adds[p], &counter.Add{Counter: name, Delta: 1})
		if counts[p]++; counts[p] == perRecord {
			record(p)
		}
		if len(entries) >= max(1, 4096/perRecord) {
			if err := send(); err != nil {
				return err
			}
		}
	}
	for p := range adds {
		if counts[p] > 0 {
			record(p)
		}
	}
	return send()
}

// applyAdds applies the whole log to a new store in dir and removes it.
func (h *harness) applyAdds(ctx context.Context, log wal.Log, increments int, dir string) (took time.Duration, err error) {
	cache := pebble.NewCache(256 << 20) // what a server has
	defer cache.Unref()
	const window = 15 * time.Minute
	store, err := pebblecounter.Open(pebblecounter.Config{Dir: dir, Partitions: log.Info().Partitions, Cache: cache, Logger: quiet, TokenWindow: window})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close(), os.RemoveAll(dir)) }()
	progress := wal.NewProgress(log.Info().Partitions)
	applier := counter.NewApplier(counter.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: log, Letters: noLetters{}, Applied: consumers.AdvanceOf(progress), Ledger: store},
		Store:      store, Windows: []time.Duration{time.Minute, time.Hour, 24 * time.Hour},
		Settings: func(uint64) (counter.Settings, error) { return counter.Settings{TokenWindow: window}, nil },
	})
	runner := consumers.New(consumers.Config{Namespace: "bench", Role: "PRIMARY", Log: log, Applier: applier, Stopped: progress.Stop, Logger: quiet})
	run, stop := context.WithCancel(ctx)
	start := time.Now()
	if err := runner.StartAll(run); err != nil {
		stop()
		return 0, err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	flushes := make(chan struct{})
	go func() {
		defer close(flushes)
		for {
			select {
			case <-tick.C: // as the server does
				for i := range log.Info().Partitions {
					p := wal.Partition(i)
					if err := runner.Do(run, p, func(ctx context.Context) error { return applier.Flush(ctx, p) }); err != nil {
						return
					}
				}
			case <-run.Done():
				return
			}
		}
	}()
	end := func() error {
		stop()
		<-flushes
		return runner.StopAll(context.WithoutCancel(ctx))
	}
	for i := range log.Info().Partitions {
		p := wal.Partition(i)
		bounds, err := log.Bounds(ctx, p)
		if err == nil {
			err = progress.Wait(ctx, p, bounds.End-1)
		}
		if err != nil {
			return 0, errors.Join(err, end())
		}
	}
	if err := end(); err != nil {
		return 0, err
	}
	if err := applier.Drain(ctx); err != nil {
		return 0, err
	}
	took = time.Since(start)
	if n := applier.Stats().Applied.Load(); n != int64(increments) {
		return 0, fmt.Errorf("%d of %d increments were applied", n, increments)
	}
	return took, nil
}

// counterCosts measures whether a read stays as cheap when a counter has been
// added to 10 M times, and what memory that takes over 1 M counters.
func counterCosts(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	n := c.Counter("demo-counter")
	if err := addMany(ctx, n, "few", 1, 1_000); err != nil {
		return err
	}
	if err := addMany(ctx, n, "many", 1, h.largeLog); err != nil {
		return err
	}
	read := func(name string) func(context.Context, int) (float64, error) {
		return func(ctx context.Context, _ int) (float64, error) {
			const reads = 20_000
			start := time.Now()
			for range reads {
				if _, err := n.Get(ctx, name); err != nil {
					return 0, err
				}
			}
			return float64(time.Since(start).Microseconds()) / reads, nil
		}
	}
	peer := side{"1,000 increments", read("few")}
	err = h.compare(ctx, "B8: GetCount of a counter", "us", atMost(1.5), side{number(float64(h.largeLog)) + " increments", read("many")}, &peer, "")
	if err != nil {
		return err
	}
	if err := addMany(ctx, n, "wide/", 1_000_000, h.largeLog); err != nil {
		return err
	}
	var most float64
	for range 10 {
		mib, err := s.resident()
		if err != nil {
			return err
		}
		most = max(most, mib)
		time.Sleep(200 * time.Millisecond)
	}
	h.add("B9: resident memory of the server after "+number(float64(h.largeLog))+" increments over 1 M counters", "MiB",
		&bar{limit: 1024, absolute: true}, "headwater dev", "", []turn{{subject: most}}, "the largest of ten looks after the last increment; one run")
	return nil
}

// addMany adds n times 1 to names counters in turn, in batches.
func addMany(ctx context.Context, c *client.Counter, prefix string, names, n int) error {
	const batch = 10_000
	adds := make([]client.CounterAdd, 0, batch)
	for i := range n {
		name := prefix
		if names > 1 {
			name = prefix + strconv.Itoa(i%names)
		}
		if adds = append(adds, client.CounterAdd{Counter: name, Delta: 1}); len(adds) == batch || i == n-1 {
			if _, err := c.AddAll(ctx, adds, client.CounterWriteOptions{}); err != nil {
				return err
			}
			adds = adds[:0]
		}
	}
	return nil
}

// resident is the memory that the process holds, in MiB, as Linux tells.
func (c *child) resident() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of the server: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the memory of the server is not told")
}
