package namespace

import "time"

// The longest times that a document may ask for.
const (
	tenYears     = 87600 * time.Hour
	millionHours = 1_000_000 * time.Hour
	maxWindow    = 768 * time.Hour
	// maxDeadline is the longest that a write may be under way.
	maxDeadline = 60 * time.Second
)

// The words of a document.
var (
	abstractionWords = []string{"kv", "counter", "timeseries", "log"}
	durabilityWords  = []string{"sync", "buffered"}
	roleWords        = []string{"PRIMARY", "CACHE", "EVENTS", "INDEX", "SHADOW", "REPLICA"}
	typeWords        = []string{"pebble", "cassandra", "clickhouse"}
	grantWords       = []string{"read", "write", "delete", "admin"}
	orderWords       = []string{"ascending", "descending"}
	consistencyWords = []string{readYourWrites, "latest", "eventual"}
	accuracyWords    = []string{"best_effort", "eventual", "accurate"}
	violationWords   = []string{"reject", "saturate"}
)

// readYourWrites is the consistency of reads where nothing else is said.
const readYourWrites = "read_your_writes"

// knownPaths are the keys of all blocks, to recognise one that stands in the
// wrong place.
var knownPaths = []string{
	"namespace", "abstraction", "description", "owners", "log", "access", "slo", "limits", "tokens", "storage",
	"counter", "timeseries", "kv", "lifecycle", "delivery",
	"log.partitions", "log.retention", "log.max_bytes", "log.durability",
	"limits.write_per_second", "limits.bytes_per_second", "limits.max_value",
	"tokens.window", "tokens.max_drift_past", "tokens.max_drift_future", "tokens.max_live",
	"slo.read", "slo.write", "kv.order", "kv.default_ttl", "kv.chunk_threshold", "kv.consistency",
	"counter.accuracy", "counter.windows", "counter.event_retention", "counter.floor", "counter.ceiling", "counter.on_violation",
	"timeseries.slice", "timeseries.bucket", "timeseries.event_buckets", "timeseries.accept_limit", "timeseries.accept_future",
	"timeseries.index", "timeseries.blocked",
	"lifecycle.close_after", "lifecycle.delete_after",
	"dead_letters", "dead_letters.retention", "dead_letters.max_bytes",
	"delivery.targets", "delivery.retry", "delivery.keep_done", "delivery.allow",
}

// raw holds the values whose text is not their type in Config, until finish.
type raw struct {
	d           *Document
	abstraction string
	order       string
	consistency string
	partitions  int64
	chunk       int64
	counter     CounterConfig
	letters     DeadLetterConfig
	series      TimeSeriesConfig
	buckets     int64
	lifecycle   LifecycleConfig
	delivery    rawDelivery
}

// defaultDeadLetters is how long dead letters are kept unless a document says.
var defaultDeadLetters = DeadLetterConfig{Retention: 720 * time.Hour, MaxBytes: gib}

func newRaw(d *Document) *raw {
	return &raw{d: d, order: "ascending", consistency: readYourWrites, partitions: int64(d.Config.Partitions), chunk: mib, letters: defaultDeadLetters, counter: CounterConfig{Accuracy: "eventual", EventRetention: 720 * time.Hour},
		series: TimeSeriesConfig{Slice: 24 * time.Hour, Bucket: time.Hour, AcceptFuture: 5 * time.Second}, buckets: 4, delivery: newRawDelivery()}
}

// finish fills in what depends on the abstraction.
func (r *raw) finish() {
	c := r.d.Config
	c.Abstraction = Abstraction(r.abstraction)
	c.Partitions = int(r.partitions)
	switch c.Abstraction {
	case KV:
		c.KV.Descending = r.order == "descending"
		c.KV.ChunkThreshold = int(r.chunk)
		c.KV.Consistency = r.consistency
	case Counter:
		c.Counter = r.counter
		if !r.d.Sets("counter.windows") {
			c.Counter.Windows = []time.Duration{time.Minute, time.Hour, 24 * time.Hour}
		}
		if (c.Counter.Floor != nil || c.Counter.Ceiling != nil) && c.Counter.OnViolation == "" {
			c.Counter.OnViolation = "reject"
		}
	case TimeSeries:
		r.finishSeries()
	case Log:
		r.finishDelivery()
	default:
		return
	}
	c.DeadLetters = r.letters
	if c.Abstraction != Log {
		defaultObjective(&c.SLO.Read, 10*time.Millisecond, 500*time.Millisecond)
		defaultObjective(&c.SLO.Write, 20*time.Millisecond, time.Second)
	}
	if len(c.Storage) == 0 && !r.d.Sets("storage") {
		c.Storage = []StoreConfig{{Role: "PRIMARY", Type: "pebble"}}
	}
}

// finishSeries fills in what a time-series namespace has. Without a lifecycle old events
// are taken; with one, those are not that come so late that their slice might be closed.
func (r *raw) finishSeries() {
	c := r.d.Config
	c.TimeSeries, c.Lifecycle = r.series, r.lifecycle
	c.TimeSeries.EventBuckets = int(r.buckets)
	if c.Lifecycle.CloseAfter == 0 {
		c.Lifecycle.CloseAfter = c.Lifecycle.DeleteAfter
	}
	if c.Lifecycle.CloseAfter > 0 && !r.d.Sets("timeseries.accept_limit") {
		c.TimeSeries.AcceptLimit = 10 * time.Minute
	}
}

func defaultObjective(o *Objective, target, atMost time.Duration) {
	if o.Max == 0 {
		o.Max = max(atMost, o.Target)
	}
	if o.Target == 0 {
		o.Target = min(target, o.Max)
	}
}

// documentSchema is every key that a document may have.
func documentSchema(r *raw) reader {
	d, c := r.d, r.d.Config
	return mapping(
		field{"namespace", text(&c.Name, 0, 4096)}, // checked by CheckName
		field{"abstraction", oneOf(&r.abstraction, abstractionWords...)},
		field{"description", text(&c.Description, 0, 1024)},
		field{"owners", texts(&c.Owners, maxOwners, 256)},
		field{"log", mapping(
			field{"partitions", integer(&r.partitions, 1, 256)},
			field{"retention", duration(&c.Retention, 0, tenYears, false)},
			field{"max_bytes", size(&c.MaxLogBytes, mib, 1024*tib, true)},
			field{"durability", oneOf(&c.Durability, durabilityWords...)},
		)},
		field{"access", list(maxGrants, func(n int) { d.Access = make([]Grant, n) }, func(i int) reader {
			g := &d.Access[i]
			return mapping(
				field{"principal", text(&g.Principal, 1, 256)},
				field{"grants", list(len(grantWords), func(n int) { g.Grants = make([]string, n) }, func(j int) reader { return oneOf(&g.Grants[j], grantWords...) })},
			)
		})},
		field{"slo", mapping(
			field{"read", objective(&c.SLO.Read)},
			field{"write", objective(&c.SLO.Write)},
		)},
		field{"limits", mapping(
			field{"write_per_second", integer(&c.Limits.WritePerSecond, 0, 1_000_000_000)},
			field{"bytes_per_second", size(&c.Limits.BytesPerSecond, kib, tib, true)},
			field{"max_value", size(&c.Limits.MaxValue, 1, 64*mib, false)},
		)},
		field{"tokens", mapping(
			field{"window", duration(&c.Tokens.Window, time.Minute, maxWindow, false)},
			field{"max_drift_past", duration(&c.Tokens.MaxDriftPast, time.Second, maxWindow, false)},
			field{"max_drift_future", duration(&c.Tokens.MaxDriftFuture, time.Second, time.Hour, false)},
			field{"max_live", integer(&c.Tokens.MaxLive, 1, 1_000_000_000)},
		)},
		field{"storage", list(maxStores, func(n int) { c.Storage = make([]StoreConfig, n) }, func(i int) reader {
			s := &c.Storage[i]
			return mapping(
				field{"name", text(&s.Name, 1, 48)},
				field{"role", oneOf(&s.Role, roleWords...)},
				field{"type", oneOf(&s.Type, typeWords...)},
				field{"cluster", text(&s.Cluster, 1, 64)},
				field{"dataset", text(&s.Dataset, 1, 64)},
				field{"ttl", duration(&s.TTL, time.Second, tenYears, true)},
				field{"max_lag", size(&s.MaxLag, mib, 1024*tib, false)},
				field{"max_bytes", size(&s.MaxBytes, mib, 1024*tib, false)},
			)
		})},
		field{"counter", counterSchema(&r.counter)},
		field{"timeseries", timeSeriesSchema(r)},
		field{"kv", mapping(
			field{"order", oneOf(&r.order, orderWords...)},
			field{"default_ttl", duration(&c.KV.DefaultTTL, time.Second, tenYears, true)},
			field{"chunk_threshold", size(&r.chunk, 64*kib, mib, false)},
			field{"consistency", oneOf(&r.consistency, consistencyWords...)},
		)},
		field{"lifecycle", mapping(
			field{"close_after", duration(&r.lifecycle.CloseAfter, time.Second, tenYears, false)},
			field{"delete_after", duration(&r.lifecycle.DeleteAfter, time.Second, tenYears, false)},
		)},
		field{"dead_letters", mapping(
			field{"retention", duration(&r.letters.Retention, time.Minute, tenYears, true)},
			field{"max_bytes", size(&r.letters.MaxBytes, mib, tib, true)},
		)},
		field{"delivery", deliverySchema(&r.delivery)},
	)
}

func objective(o *Objective) reader {
	return mapping(
		field{"target", duration(&o.Target, time.Millisecond, maxDeadline, false)},
		field{"max", duration(&o.Max, time.Millisecond, maxDeadline, false)},
	)
}

func counterSchema(c *CounterConfig) reader {
	return mapping(
		field{"accuracy", oneOf(&c.Accuracy, accuracyWords...)},
		field{"ttl", duration(&c.TTL, time.Second, tenYears, true)},
		field{"windows", durations(&c.Windows, maxWindows, time.Second, tenYears)},
		field{"event_retention", duration(&c.EventRetention, 0, tenYears, false)},
		field{"floor", optionalInteger(&c.Floor)},
		field{"ceiling", optionalInteger(&c.Ceiling)},
		field{"on_violation", oneOf(&c.OnViolation, violationWords...)},
	)
}

func timeSeriesSchema(r *raw) reader {
	t := &r.series
	return mapping(
		field{"slice", duration(&t.Slice, time.Minute, tenYears, false)},
		field{"bucket", duration(&t.Bucket, time.Second, tenYears, false)},
		field{"event_buckets", integer(&r.buckets, 1, 1024)},
		field{"accept_limit", duration(&t.AcceptLimit, time.Second, millionHours, true)},
		field{"accept_future", duration(&t.AcceptFuture, time.Second, millionHours, true)},
		field{"index", texts(&t.Index, maxIndexKeys, 256)},
		field{"blocked", texts(&t.Blocked, 10_000, 1024)},
	)
}
