package namespace

import (
	"errors"
	"flag"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// TestBadDocuments compares the problems of the documents in
// testdata/documents.txt with what stands under each:
//
//	=== name
//	the document
//	+++ its problems, one a line; none: the document is valid
func TestBadDocuments(t *testing.T) {
	t.Parallel()
	const file = "testdata/documents.txt"
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cases := 0
	for _, c := range strings.Split(string(golden), "=== ")[1:] {
		name, rest, ok := strings.Cut(c, "\n")
		text, want, ok2 := strings.Cut(rest, "+++\n")
		if !ok || !ok2 {
			t.Fatalf("case %q has no +++ line", name)
		}
		cases++
		// What an editor would not keep is written as a Go escape.
		text = strings.NewReplacer(`\xff`, "\xff", `\x00`, "\x00").Replace(text)
		_, err := Parse(text, Defaults{Partitions: 4})
		var got strings.Builder
		var invalid *InvalidError
		switch {
		case errors.As(err, &invalid):
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: not ErrInvalid", name)
			}
			for _, p := range invalid.Problems {
				got.WriteString(p.String() + "\n")
			}
		case err != nil:
			t.Errorf("%s: %v is not an *InvalidError", name, err)
		}
		if got.String() != strings.TrimRight(want, "\n")+newlineIf(want) && !*update {
			t.Errorf("%s:\n%sgot:\n%s\nwant:\n%s", name, text, got.String(), want)
		}
		out.WriteString("=== " + name + "\n" + rest[:strings.Index(rest, "+++\n")] + "+++\n" + got.String() + "\n")
	}
	if cases < 40 {
		t.Errorf("only %d cases were read", cases)
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func newlineIf(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return "\n"
}

func TestDefaultsAreFilledIn(t *testing.T) {
	t.Parallel()
	d, err := Parse("namespace: a\nabstraction: kv\n", Defaults{Partitions: 12})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Name: "a", Abstraction: KV, Partitions: 12, Retention: 168 * time.Hour, MaxLogBytes: 50 << 30, Durability: "sync",
		Limits: Limits{MaxValue: 64 << 20},
		Tokens: TokenConfig{Window: 15 * time.Minute, MaxDriftPast: 10 * time.Minute, MaxDriftFuture: 10 * time.Second, MaxLive: 100_000_000},
		SLO: SLO{
			Read:  Objective{Target: 10 * time.Millisecond, Max: 500 * time.Millisecond},
			Write: Objective{Target: 20 * time.Millisecond, Max: time.Second},
		},
		Storage: []StoreConfig{{Role: "PRIMARY", Type: "pebble"}},
		KV:      KVConfig{Consistency: "read_your_writes", ChunkThreshold: 1 << 20},

		DeadLetters: DeadLetterConfig{Retention: 720 * time.Hour, MaxBytes: 1 << 30},
	}
	if !reflect.DeepEqual(d.Config, want) {
		t.Errorf("got  %+v\nwant %+v", d.Config, want)
	}
	if d, err := Parse("namespace: a\nabstraction: kv\ntokens: { max_live: 5000000 }\n", Defaults{}); err != nil || d.Config.Tokens.MaxLive != 5_000_000 {
		t.Errorf("what is set is not kept: %+v, %v", d.Config.Tokens, err)
	}
	if d.Sets("log.partitions") || !d.Sets("abstraction") {
		t.Error("Sets does not tell what the document sets")
	}
}

func TestDefaultsOfACounter(t *testing.T) {
	t.Parallel()
	c := mustParse(t, "namespace: a\nabstraction: counter\n")
	want := CounterConfig{Accuracy: "eventual", Windows: []time.Duration{time.Minute, time.Hour, 24 * time.Hour}, EventRetention: 720 * time.Hour}
	if !reflect.DeepEqual(c.Counter, want) || len(c.Storage) != 1 || c.SLO.Read.Max != 500*time.Millisecond || c.KV != (KVConfig{}) {
		t.Errorf("got %+v", c)
	}
	c = mustParse(t, "namespace: a\nabstraction: counter\ncounter: {floor: 0}\n")
	if c.Counter.Floor == nil || *c.Counter.Floor != 0 || c.Counter.Ceiling != nil || c.Counter.OnViolation != "reject" {
		t.Errorf("a floor of 0: %+v", c.Counter)
	}
}

func TestEverySettingIsReadAsJSONToo(t *testing.T) {
	t.Parallel()
	d, err := Parse(`{"namespace": "a", "abstraction": "kv", "description": "d", "owners": ["x@y"],
		"log": {"partitions": 8, "retention": "1h30m", "max_bytes": "2GiB", "durability": "sync"},
		"slo": {"read": {"target": "5ms", "max": "100ms"}, "write": {"max": "2s"}},
		"limits": {"write_per_second": 5, "bytes_per_second": 1048576, "max_value": "1KiB"},
		"tokens": {"window": "768h", "max_drift_past": "700h", "max_drift_future": "5s", "max_live": 7},
		"storage": [{"role": "PRIMARY", "type": "pebble"}],
		"kv": {"order": "descending", "default_ttl": "24h", "chunk_threshold": "64KiB", "consistency": "latest"}, "access": [],
		"dead_letters": {"retention": "48h", "max_bytes": "2MiB"}}`, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Name: "a", Abstraction: KV, Description: "d", Owners: []string{"x@y"},
		Partitions: 8, Retention: 90 * time.Minute, MaxLogBytes: 2 << 30, Durability: "sync",
		Limits: Limits{WritePerSecond: 5, BytesPerSecond: 1 << 20, MaxValue: 1 << 10},
		Tokens: TokenConfig{Window: 768 * time.Hour, MaxDriftPast: 700 * time.Hour, MaxDriftFuture: 5 * time.Second, MaxLive: 7},
		SLO: SLO{
			Read:  Objective{Target: 5 * time.Millisecond, Max: 100 * time.Millisecond},
			Write: Objective{Target: 20 * time.Millisecond, Max: 2 * time.Second},
		},
		Storage: []StoreConfig{{Role: "PRIMARY", Type: "pebble"}},
		KV:      KVConfig{Descending: true, Consistency: "latest", DefaultTTL: 24 * time.Hour, ChunkThreshold: 64 << 10},

		DeadLetters: DeadLetterConfig{Retention: 48 * time.Hour, MaxBytes: 2 << 20},
	}
	if !reflect.DeepEqual(d.Config, want) {
		t.Errorf("got  %+v\nwant %+v", d.Config, want)
	}
}

// drawConfig draws a configuration that a document can ask for.
func drawConfig(t *rapid.T, name string) *Config {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("ab: #\n\t-'\"0é{[&*!|>%@`~,")), 0, 30, 60)
	dur := func(label string, lo, hi time.Duration) time.Duration {
		return time.Duration(rapid.Int64Range(int64(lo), int64(hi)).Draw(t, label))
	}
	c := &Config{
		Name: name, Abstraction: rapid.SampledFrom([]Abstraction{KV, Counter, Log, TimeSeries}).Draw(t, "abstraction"),
		Description: text.Draw(t, "description"), Owners: rapid.SliceOfN(text.Filter(func(s string) bool { return s != "" }), 0, 3).Draw(t, "owners"),
		Partitions: rapid.IntRange(1, 256).Draw(t, "partitions"), Retention: dur("retention", 0, tenYears),
		MaxLogBytes: rapid.Int64Range(mib, tib).Draw(t, "max_bytes"), Durability: "sync",
		Limits: Limits{
			WritePerSecond: rapid.Int64Range(0, 1e9).Draw(t, "wps"), BytesPerSecond: rapid.SampledFrom([]int64{0, kib, 64 * mib, tib}).Draw(t, "bps"),
			MaxValue: rapid.Int64Range(1, 64*mib).Draw(t, "max_value"),
		},
		Tokens: TokenConfig{
			MaxDriftPast: dur("past", time.Second, 300*time.Hour), MaxDriftFuture: dur("future", time.Second, time.Hour),
			MaxLive: rapid.Int64Range(1, 1e9).Draw(t, "max_live"),
		},
	}
	if len(c.Owners) == 0 {
		c.Owners = nil
	}
	c.Tokens.Window = dur("window", c.Tokens.MaxDriftPast+c.Tokens.MaxDriftFuture+maxDeadline, maxWindow)
	if c.Abstraction != Log {
		c.SLO.Read.Max = dur("read.max", time.Millisecond, maxDeadline)
		c.SLO.Read.Target = dur("read.target", time.Millisecond, c.SLO.Read.Max)
		c.SLO.Write.Max = dur("write.max", time.Millisecond, maxDeadline)
		c.SLO.Write.Target = dur("write.target", time.Millisecond, c.SLO.Write.Max)
	}
	c.Storage = []StoreConfig{{Role: "PRIMARY", Type: "pebble"}}
	c.DeadLetters = DeadLetterConfig{Retention: dur("letters", time.Minute, tenYears), MaxBytes: rapid.SampledFrom([]int64{0, mib, tib}).Draw(t, "letter bytes")}
	switch c.Abstraction {
	case Counter:
		c.Counter = drawCounter(t, dur)
	case TimeSeries:
		c.TimeSeries = TimeSeriesConfig{
			Slice: dur("slice", time.Minute, tenYears), Bucket: dur("bucket", time.Second, tenYears), EventBuckets: rapid.IntRange(1, 1024).Draw(t, "buckets"),
			AcceptLimit: rapid.SampledFrom([]time.Duration{0, time.Second, millionHours}).Draw(t, "accept limit"), AcceptFuture: dur("accept future", time.Second, millionHours),
			Blocked: rapid.SampledFrom([][]string{nil, {"a", "b, c"}}).Draw(t, "blocked"),
		}
		if rapid.Bool().Draw(t, "lifecycle") {
			c.Lifecycle.CloseAfter = dur("close", time.Second, tenYears)
			c.Lifecycle.DeleteAfter = rapid.SampledFrom([]time.Duration{0, c.Lifecycle.CloseAfter, tenYears}).Draw(t, "delete")
		}
	case KV:
		c.KV = KVConfig{
			Descending: rapid.Bool().Draw(t, "descending"), ChunkThreshold: rapid.IntRange(64<<10, 1<<20).Draw(t, "chunk"),
			DefaultTTL:  rapid.SampledFrom([]time.Duration{0, time.Second, tenYears}).Draw(t, "ttl"),
			Consistency: rapid.SampledFrom(consistencyWords).Draw(t, "consistency"),
		}
	}
	return c
}

func drawCounter(t *rapid.T, dur func(label string, lo, hi time.Duration) time.Duration) CounterConfig {
	c := CounterConfig{
		Accuracy: rapid.SampledFrom(accuracyWords).Draw(t, "accuracy"), EventRetention: dur("events", 0, tenYears),
		TTL: rapid.SampledFrom([]time.Duration{0, time.Second, 90 * time.Minute, tenYears}).Draw(t, "ttl"),
	}
	w := time.Duration(rapid.IntRange(1, 90).Draw(t, "window")) * time.Second
	for range rapid.IntRange(1, maxWindows).Draw(t, "windows") {
		c.Windows = append(c.Windows, w)
		w *= time.Duration(rapid.IntRange(2, 60).Draw(t, "times"))
	}
	bounds := rapid.SampledFrom([][]int64{nil, {math.MinInt64, math.MaxInt64}, {-3, -3}, {0, 100}}).Draw(t, "bounds")
	if bounds == nil {
		return c
	}
	which := rapid.IntRange(1, 3).Draw(t, "which")
	if which&1 != 0 {
		c.Floor = &bounds[0]
	}
	if which&2 != 0 {
		c.Ceiling = &bounds[1]
	}
	c.OnViolation = rapid.SampledFrom(violationWords).Draw(t, "violation")
	return c
}

func TestMarshalIsADocumentOfTheSameConfig(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t, "a")
		text := c.Marshal()
		d, err := Parse(text, Defaults{Partitions: 3})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(d.Config, c) {
			t.Fatalf("got  %+v\nwant %+v\n%s", d.Config, c, text)
		}
		if again := d.Config.Marshal(); again != text {
			t.Fatalf("not canonical:\n%s\n%s", text, again)
		}
		if changes, err := Diff(c, d.Config); len(changes) != 0 || err != nil {
			t.Fatalf("equal configurations differ: %v, %v", changes, err)
		}
	})
}

// TestDiffSeesEveryField changes each field of a Config by reflection, so that a
// new one cannot be forgotten in settings.
func TestDiffSeesEveryField(t *testing.T) {
	t.Parallel()
	for doc, least := range map[string]int{
		"namespace: a\nabstraction: kv\nowners: [x]\n":                                                                                                                                      25,
		"namespace: a\nabstraction: counter\nowners: [x]\ncounter: {floor: 1, ceiling: 2}\n":                                                                                                29,
		"namespace: a\nabstraction: timeseries\nowners: [x]\ntimeseries: {blocked: [b]}\nlifecycle: {close_after: 1h, delete_after: 2h}\n":                                                  29,
		"namespace: a\nabstraction: log\nowners: [x]\ndelivery: {targets: [{name: x, http: {url: 'http://example.com/', method: PUT, headers: {a: b}, secret: s}}], allow: {hosts: [h]}}\n": 40,
	} {
		t.Run(mustParse(t, doc).Name+" "+string(mustParse(t, doc).Abstraction), func(t *testing.T) {
			t.Parallel()
			diffSeesEveryField(t, mustParse(t, doc), least)
		})
	}
}

func diffSeesEveryField(t *testing.T, d *Config, least int) {
	fields := 0
	var walk func(v reflect.Value, path string, c *Config)
	walk = func(v reflect.Value, path string, c *Config) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name, c)
			}
			return
		case reflect.Slice:
			if v.Len() > 0 {
				walk(v.Index(0), path+"[0]", c)
			}
			return
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem(), path, c)
			}
			return
		}
		if path == ".Version" || d.Abstraction != KV && strings.HasPrefix(path, ".KV.") || d.Abstraction != Counter && strings.HasPrefix(path, ".Counter.") ||
			d.Abstraction != TimeSeries && (strings.HasPrefix(path, ".TimeSeries.") || strings.HasPrefix(path, ".Lifecycle.")) ||
			d.Abstraction != Log && strings.HasPrefix(path, ".Delivery.") || d.Abstraction == Log && strings.HasPrefix(path, ".SLO.") {
			return // not in force for it
		}
		fields++
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		switch v.Kind() {
		case reflect.String:
			v.SetString("other")
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Float64:
			v.SetFloat(v.Float() + 1)
		case reflect.Map:
			v.Set(reflect.ValueOf(map[string]string{"a": "other"}))
		default:
			t.Fatalf("%s: what is a %s?", path, v.Kind())
		}
		if changes, _ := Diff(d, c); len(changes) == 0 {
			t.Errorf("%s changes without a trace", path)
		}
		v.Set(before)
	}
	c := *d
	c.Owners, c.Storage, c.Counter.Windows = slices.Clone(c.Owners), slices.Clone(c.Storage), slices.Clone(c.Counter.Windows)
	c.TimeSeries.Blocked, c.Delivery.Targets, c.Delivery.Allow.Hosts = slices.Clone(c.TimeSeries.Blocked), slices.Clone(c.Delivery.Targets), slices.Clone(c.Delivery.Allow.Hosts)
	if c.Counter.Floor != nil {
		floor, ceiling := *c.Counter.Floor, *c.Counter.Ceiling
		c.Counter.Floor, c.Counter.Ceiling = &floor, &ceiling
	}
	walk(reflect.ValueOf(&c).Elem(), "", &c)
	if fields < least {
		t.Errorf("only %d fields were changed", fields)
	}
}

func TestDiffRefusesWhatCannotBeLive(t *testing.T) {
	t.Parallel()
	base := "namespace: a\nabstraction: kv\n"
	for _, c := range []struct{ to, want string }{
		{"namespace: a\nabstraction: log\n", "abstraction from kv to log: a namespace keeps its abstraction; make a new namespace and copy the data into it, or delete this one first"},
		{base + "log: {partitions: 5}\n", "log.partitions from 4 to 5: keys would move to other partitions; make a new namespace and copy the data into it"},
		{base + "kv: {order: descending, default_ttl: 1h}\n", "kv.order from ascending to descending: items are stored in this order; read with descending in the call, or make a new namespace and copy the data into it"},
	} {
		before, err := Parse(base, Defaults{})
		if err != nil {
			t.Fatal(err)
		}
		after, err := Parse(c.to, Defaults{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Diff(before.Config, after.Config)
		if !errors.Is(err, ErrNotLive) || err.Error() != ErrNotLive.Error()+": a: "+c.want {
			t.Errorf("%q: %v", c.to, err)
		}
	}
	counter := "namespace: a\nabstraction: counter\n"
	_, err := Diff(mustParse(t, counter), mustParse(t, counter+"counter: {windows: [1m, 1h], ttl: 1h}\n"))
	if !errors.Is(err, ErrNotLive) || err.Error() != ErrNotLive.Error()+": a: counter.windows from 1m, 1h, 24h to 1m, 1h: "+
		"adds are counted in these windows as they come; make a new namespace with the windows that you need, and add to it from then on" {
		t.Errorf("other windows: %v", err)
	}
	live := "counter: {accuracy: best_effort, ttl: 1h, event_retention: 0, floor: 0, ceiling: 9, on_violation: saturate, windows: [24h, 1h, 1m]}\n"
	if changes, err := Diff(mustParse(t, counter), mustParse(t, counter+live)); err != nil || len(changes) != 6 {
		t.Errorf("what is live of a counter: %+v, %v", changes, err)
	}
	after := *mustParse(t, base)
	after.Storage = []StoreConfig{{Role: "PRIMARY", Type: "cassandra", Cluster: "main"}}
	if _, err := Diff(mustParse(t, base), &after); !errors.Is(err, ErrNotLive) {
		t.Errorf("another store: %v", err)
	}
	changes, err := Diff(mustParse(t, base), mustParse(t, base+"tokens: {window: 12m}\ndescription: x\n"))
	if err != nil || len(changes) != 2 || changes[0].Path != "description" || changes[1] != (Change{Path: "tokens.window", From: "15m", To: "12m"}) {
		t.Errorf("a shorter window: %+v, %v", changes, err)
	}
}

func mustParse(t testing.TB, doc string) *Config {
	t.Helper()
	d, err := Parse(doc, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return d.Config
}

func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile("testdata/documents.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range strings.Split(string(golden), "=== ")[1:] {
		if _, rest, ok := strings.Cut(c, "\n"); ok {
			text, _, _ := strings.Cut(rest, "+++\n")
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text, Defaults{Partitions: 4})
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 || len(invalid.Problems) > maxProblems {
				t.Fatalf("%v", err)
			}
			for _, p := range invalid.Problems {
				if p.Reason == "" || strings.ContainsAny(p.String(), "\n\r\x00\x1b") || len(p.String()) > 600 {
					t.Fatalf("problem %q", p.String())
				}
			}
			return
		}
		c := d.Config
		if CheckName(c.Name) != nil || c.Partitions < 1 || c.Partitions > 256 || c.Tokens.Window < c.Tokens.MaxDriftPast+c.Tokens.MaxDriftFuture+maxDeadline {
			t.Fatalf("accepted %+v", c)
		}
		again, err := Parse(c.Marshal(), Defaults{Partitions: 7})
		if err != nil {
			t.Fatalf("%v\n%s", err, c.Marshal())
		}
		if changes, err := Diff(c, again.Config); len(changes) != 0 || err != nil {
			t.Fatalf("%v, %v", changes, err)
		}
	})
}
