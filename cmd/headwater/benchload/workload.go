package benchload

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/client"
)

// Options say what load is made.
type Options struct {
	// Workload is one of Workloads.
	Workload string
	// Namespace is written or read. Empty: demo-kv, demo-log, demo-counter or
	// demo-timeseries.
	Namespace string
	Callers   int           // 0: 64, of counter-batch and ts-write 8
	Duration  time.Duration // 0: 10 s
	// ValueBytes is the size of a value or payload. 0: 100.
	ValueBytes int
	// Records is how many records or counters the load is spread over. 0: 100,000.
	Records int
	// BatchItems is how many items a call of kv-put-batch puts into one record, 0:
	// 100, at most 1,000; and how many adds or events one of counter-batch or ts-write
	// has, 0: 1,000, at most 10,000.
	BatchItems int
	// Zipf above 1 adds to the first counters more often, by Zipf's law with this
	// exponent. 0: to all alike.
	Zipf float64
	// Writers is how many callers of counter-batch write while counter-get is
	// measured.
	Writers int
	// PageBytes is the size of a page of kv-page. 0: 1 MiB.
	PageBytes int
	// Prefix begins every id; what is read is written under it first. Empty: a
	// random one, so that runs do not meet.
	Prefix string
}

// Workloads are the names of the workloads and what each does.
var Workloads = []struct{ Name, Does string }{
	{"kv-put", "single durable puts, which the client sends together"},
	{"kv-put-batch", "durable puts of many items into one record, one call each"},
	{"kv-get", "reads of one item each, of records written before"},
	{"kv-page", "reads of a page of a record of many items"},
	{"log-write", "messages written to a log namespace, durable"},
	{"counter-batch", "durable adds, many in one call under one token"},
	{"counter-single", "single durable adds, which the client sends together"},
	{"counter-addget", "durable adds that are answered with the value right after"},
	{"ts-write", "durable writes of many events in one call, of series that are drawn"},
	{"ts-read", "reads of the newest 100 events of one series, written before"},
	{"counter-get", "reads of one counter each; --writers has counter-batch write meanwhile"},
}

// ErrOptions marks options that cannot be used.
var ErrOptions = errors.New("bench options")

func (o *Options) complete() error {
	i := slices.IndexFunc(Workloads, func(w struct{ Name, Does string }) bool { return w.Name == o.Workload })
	if i < 0 {
		var names []string
		for _, w := range Workloads {
			names = append(names, w.Name)
		}
		return fmt.Errorf("%w: there is no workload %q; use one of %s", ErrOptions, o.Workload, strings.Join(names, ", "))
	}
	if o.Namespace == "" {
		kind, _, _ := strings.Cut(o.Workload, "-")
		if kind == "ts" {
			kind = "timeseries"
		}
		o.Namespace = "demo-" + kind
	}
	callers, batch, maxBatch := 64, 100, 1000
	switch kind, _, _ := strings.Cut(o.Workload, "-"); kind {
	case "counter":
		batch, maxBatch = 1000, client.MaxAdds
	case "ts":
		batch, maxBatch = 1000, client.MaxEvents
	}
	if o.Workload == "counter-batch" || o.Workload == "ts-write" {
		callers = 8
	}
	if o.Zipf != 0 && !(o.Zipf > 1) {
		return fmt.Errorf("%w: zipf is %v; it must be above 1, or 0", ErrOptions, o.Zipf)
	}
	if o.Writers < 0 || o.Writers > 0 && o.Workload != "counter-get" {
		return fmt.Errorf("%w: writers are %d; they are 0 or more, of counter-get", ErrOptions, o.Writers)
	}
	if o.Prefix == "" {
		o.Prefix = "bench-" + rand.Text()[:8] + "-"
	}
	for _, f := range []struct {
		name     string
		v        *int
		def, max int
	}{
		{"callers", &o.Callers, callers, 65_536}, {"value bytes", &o.ValueBytes, 100, 1 << 20}, {"records", &o.Records, 100_000, 100_000_000},
		{"batch items", &o.BatchItems, batch, maxBatch}, {"page bytes", &o.PageBytes, 1 << 20, 4 << 20},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 1 || *f.v > f.max {
			return fmt.Errorf("%w: %s is %d; it may be 1 to %d", ErrOptions, f.name, *f.v, f.max)
		}
	}
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
	}
	if o.Duration < 0 {
		return fmt.Errorf("%w: the duration is negative", ErrOptions)
	}
	return nil
}

// Report is what a run found. Rates and latencies are of calls that were
// answered.
type Report struct {
	Workload  string           `json:"workload"`
	Namespace string           `json:"namespace"`
	Callers   int              `json:"callers"`
	Seconds   float64          `json:"seconds"`
	Calls     int64            `json:"calls"`
	Items     int64            `json:"items"`
	PerSecond float64          `json:"itemsPerSecond"`
	P50       Millis           `json:"p50Ms"`
	P99       Millis           `json:"p99Ms"`
	P999      Millis           `json:"p999Ms"`
	Max       Millis           `json:"maxMs"`
	Errors    map[string]int64 `json:"errors"`
	// Durable counts acknowledged calls by what the acknowledgement is worth; empty
	// for reads.
	Durable map[client.Durability]int64 `json:"durable"`
	// UnknownOutcome counts writes that may or may not have happened.
	UnknownOutcome int64 `json:"unknownOutcome"`
	// Writers is the load that Options.Writers made meanwhile; nil: none.
	Writers *Report `json:"writers,omitempty"`
}

// Millis is a latency in milliseconds.
type Millis float64

func millis(d time.Duration) Millis { return Millis(float64(d.Microseconds()) / 1000) }

func (m Millis) String() string { return fmt.Sprintf("%.2f ms", float64(m)) }

// run is one load in the making.
type run struct {
	c       *client.Client
	o       Options
	value   []byte
	seq     atomic.Uint64 // spreads ids
	durable [3]atomic.Int64
	unknown atomic.Int64

	names  []string       // of counters
	adders []counterAdder // by caller

	note   string    // of events
	newest time.Time // event of the series that is read
}

var durabilities = [3]client.Durability{client.Sync, client.Quorum, client.Buffered}

// Run makes the load that o asks for and reports. Workloads that read write what
// they read first, which is not measured. An error means that the load could not
// be made; errors of single calls are in the report.
func Run(ctx context.Context, c *client.Client, o Options) (*Report, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	r := &run{c: c, o: o, value: make([]byte, o.ValueBytes)}
	if _, err := rand.Read(r.value); err != nil {
		return nil, fmt.Errorf("draw a value: %w", err)
	}
	var call Call
	switch o.Workload {
	case "kv-put":
		call = r.put
	case "kv-put-batch":
		call = r.putBatch
	case "log-write":
		call = r.logWrite
	case "kv-get":
		if err := r.fill(ctx); err != nil {
			return nil, err
		}
		call = r.get
	case "kv-page":
		if err := r.fillPage(ctx); err != nil {
			return nil, err
		}
		call = r.page
	case "ts-write":
		r.note = noteOf(o.ValueBytes)
		call = r.writeEvents
	case "ts-read":
		r.note = noteOf(o.ValueBytes)
		if err := r.fillSeries(ctx); err != nil {
			return nil, err
		}
		call = r.readNewest
	case "counter-batch":
		r.prepareCounters(o.Callers)
		call = r.addAll
	case "counter-single":
		r.prepareCounters(o.Callers)
		call = r.add
	case "counter-addget":
		r.prepareCounters(o.Callers)
		call = r.addGet
	case "counter-get":
		r.prepareCounters(max(o.Callers, o.Writers))
		if err := r.fillCounters(ctx); err != nil {
			return nil, err
		}
		if o.Writers > 0 {
			return r.getWhileWriting(ctx), nil
		}
		call = r.getCount
	}
	return r.report(Loop(ctx, o.Callers, o.Duration, errorName, call)), nil
}

// report is what a loop of r's workload found.
func (r *run) report(m *Measured) *Report {
	o := r.o
	rep := &Report{
		Workload: o.Workload, Namespace: o.Namespace, Callers: o.Callers, Seconds: m.Elapsed.Seconds(), Calls: m.Calls, Items: m.Items,
		PerSecond: m.PerSecond(), P50: millis(m.Latency.Quantile(0.5)), P99: millis(m.Latency.Quantile(0.99)),
		P999: millis(m.Latency.Quantile(0.999)), Max: millis(m.Latency.Quantile(1)), Errors: m.Errors,
		Durable: make(map[client.Durability]int64), UnknownOutcome: r.unknown.Load(),
	}
	for i, d := range durabilities {
		if n := r.durable[i].Load(); n > 0 {
			rep.Durable[d] = n
		}
	}
	return rep
}

// errorName counts errors by their reason, not by their text, which may name ids.
func errorName(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return strings.TrimSpace(fmt.Sprintf("%s %s", e.Code, e.Reason))
	}
	return err.Error()
}

// wrote notes what a write was worth.
func (r *run) wrote(res client.WriteResult, err error) error {
	if err == nil {
		for i, d := range durabilities {
			if res.Durability == d {
				r.durable[i].Add(1)
			}
		}
		return nil
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.Outcome == client.Unknown {
		r.unknown.Add(1)
	}
	return err
}

// id is a record: the numbers of all callers together go through the records in
// an order that jumps about.
func (r *run) id(n uint64) string {
	return fmt.Sprintf("%s%d", r.o.Prefix, n*2654435761%uint64(r.o.Records))
}

// fresh is a value that no other call puts, and that does not compress.
func (r *run) fresh(n uint64) []byte {
	v := slices.Clone(r.value)
	if len(v) >= 8 {
		binary.BigEndian.PutUint64(v, n)
	}
	return v
}

func (r *run) put(ctx context.Context, _, _ int) (int, error) {
	n := r.seq.Add(1)
	return 1, r.wrote(r.c.KV(r.o.Namespace).Put(ctx, r.id(n), "item", r.fresh(n)))
}

func (r *run) items(n uint64, count int) []client.PutItem {
	items := make([]client.PutItem, count)
	v := r.fresh(n)
	for i := range items {
		items[i] = client.PutItem{Key: fmt.Sprintf("%08d", i), Value: v}
	}
	return items
}

func (r *run) putBatch(ctx context.Context, _, _ int) (int, error) {
	n := r.seq.Add(1)
	return r.o.BatchItems, r.wrote(r.c.KV(r.o.Namespace).PutItems(ctx, r.id(n), r.items(n, r.o.BatchItems), client.WriteOptions{}))
}

func (r *run) logWrite(ctx context.Context, _, _ int) (int, error) {
	n := r.seq.Add(1)
	return 1, r.wrote(r.c.Log(r.o.Namespace).Write(ctx, r.id(n), r.fresh(n)))
}

// fill writes every record with one item.
func (r *run) fill(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				if n >= int64(r.o.Records) {
					return
				}
				id := fmt.Sprintf("%s%d", r.o.Prefix, n)
				if _, err := r.c.KV(r.o.Namespace).Put(ctx, id, "item", r.value); err != nil {
					cancel(fmt.Errorf("write what will be read: %w", err))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (r *run) get(ctx context.Context, _, _ int) (int, error) {
	_, err := r.c.KV(r.o.Namespace).Get(ctx, r.id(r.seq.Add(1)), "item")
	return 1, err
}

// fillPage writes one record that is larger than a page.
func (r *run) fillPage(ctx context.Context) error {
	for written, from := 0, 0; written < 2*r.o.PageBytes; {
		items := r.items(0, max(1, min(1000, (4<<20)/(len(r.value)+16))))
		for i := range items {
			items[i].Key = fmt.Sprintf("%08d", from+i)
			written += len(items[i].Key) + len(items[i].Value)
		}
		from += len(items)
		if _, err := r.c.KV(r.o.Namespace).PutItems(ctx, r.o.Prefix+"page", items, client.WriteOptions{}); err != nil {
			return fmt.Errorf("write what will be read: %w", err)
		}
	}
	return nil
}

func (r *run) page(ctx context.Context, _, _ int) (int, error) {
	p, err := r.c.KV(r.o.Namespace).Page(ctx, r.o.Prefix+"page", client.ReadOptions{PageBytes: r.o.PageBytes}, "")
	if err == nil && p.Next == "" {
		err = errors.New("the record ended before the page was full")
	}
	return len(p.Items), err
}
