package benchload_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

const benchNamespace = "demo-counter"

// counted is what the server has of the counters of a run: their sum, and how many
// there are.
func counted(t *testing.T, c *client.Client, prefix string) (sum int64, counters int) {
	t.Helper()
	for m, err := range c.Counter(benchNamespace).List(t.Context(), client.ListCountsOptions{Prefix: prefix}) {
		if err != nil {
			t.Fatal(err)
		}
		sum += m.Count.Value
		counters++
	}
	return sum, counters
}

// tiny is a run that ends soon.
func tiny(workload string) benchload.Options {
	return benchload.Options{
		Workload: workload, Callers: 4, Duration: 100 * time.Millisecond, Records: 50, BatchItems: 30, Prefix: "run-" + workload + "-",
	}
}

// flawless checks what is true of every run that nothing disturbed.
func flawless(t *testing.T, r *benchload.Report, o benchload.Options) {
	t.Helper()
	if len(r.Errors) != 0 || r.UnknownOutcome != 0 {
		t.Errorf("errors %v, %d of unknown outcome", r.Errors, r.UnknownOutcome)
	}
	if r.Workload != o.Workload || r.Namespace != benchNamespace || r.Callers != o.Callers || r.Calls == 0 {
		t.Errorf("the report is of something else: %+v", r)
	}
	if r.Seconds < o.Duration.Seconds() || r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.P999 || r.P999 > r.Max || float64(r.Max) > 1000*r.Seconds {
		t.Errorf("times do not fit together: %+v", r)
	}
	if rate := float64(r.Items) / r.Seconds; r.PerSecond < 0.999*rate || r.PerSecond > 1.001*rate {
		t.Errorf("%v a second is not %d in %v s", r.PerSecond, r.Items, r.Seconds)
	}
}

// TestWritesThatAreReportedAreCounted: the server has what the report says, no
// more and no less.
func TestWritesThatAreReportedAreCounted(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	for workload, each := range map[string]int64{"counter-batch": 30, "counter-single": 1, "counter-addget": 1} {
		for name, zipf := range map[string]float64{"uniform": 0, "zipf": 1.5} {
			o := tiny(workload)
			o.Zipf, o.Prefix = zipf, o.Prefix+name+"-" // neither is a prefix of the other
			r, err := benchload.Run(t.Context(), c, o)
			if err != nil {
				t.Fatal(err)
			}
			flawless(t, r, o)
			if r.Items != r.Calls*each || len(r.Durable) != 1 || r.Durable[client.Sync] != r.Calls || r.Writers != nil {
				t.Errorf("%s %s: %d items of %d calls, durable %v", workload, name, r.Items, r.Calls, r.Durable)
			}
			sum, counters := counted(t, c, o.Prefix)
			if sum != r.Items || counters == 0 || counters > o.Records {
				t.Errorf("%s %s: the server counted %d in %d counters, the report %d", workload, name, sum, counters, r.Items)
			}
		}
	}
}

// TestZipfPrefersTheFirstCounters of many, by far more than chance.
func TestZipfPrefersTheFirstCounters(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	o := tiny("counter-batch")
	o.Zipf = 2
	r, err := benchload.Run(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Counter(benchNamespace).Get(t.Context(), o.Prefix+"0")
	if err != nil || first.Value < r.Items/4 { // of 50 counters, where it is more than half
		t.Errorf("the first has %d of %d, %v", first.Value, r.Items, err)
	}
}

func TestReadsOfCountersWriteThemOnce(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	o := tiny("counter-get")
	r, err := benchload.Run(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	flawless(t, r, o)
	if r.Items != r.Calls || len(r.Durable) != 0 || r.Writers != nil {
		t.Errorf("%+v", r)
	}
	if sum, counters := counted(t, c, o.Prefix); counters != o.Records || sum != int64(o.Records) {
		t.Errorf("%d counters with %d in all, want each of %d to be 1", counters, sum, o.Records)
	}
}

// TestReadsWhileWritersAdd reports both loads, each for itself.
func TestReadsWhileWritersAdd(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	o := tiny("counter-get")
	o.Writers = 6 // more than callers
	r, err := benchload.Run(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	flawless(t, r, o)
	if r.Writers == nil {
		t.Fatal("no report of the writers")
	}
	w := o
	w.Workload, w.Callers, w.Writers = "counter-batch", 6, 0
	flawless(t, r.Writers, w)
	if len(r.Durable) != 0 || r.Writers.Durable[client.Sync] != r.Writers.Calls {
		t.Errorf("durable %v, of the writers %v of %d", r.Durable, r.Writers.Durable, r.Writers.Calls)
	}
	if sum, _ := counted(t, c, o.Prefix); sum != int64(o.Records)+r.Writers.Items {
		t.Errorf("the server counted %d, the report %d and %d", sum, o.Records, r.Writers.Items)
	}
}

// TestFailedWritesAreCountedAsErrors and not as work done.
func TestFailedWritesAreCountedAsErrors(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	for _, workload := range []string{"counter-batch", "counter-single", "counter-addget"} {
		o := tiny(workload)
		o.Namespace = "nowhere"
		r, err := benchload.Run(t.Context(), c, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Calls != 0 || r.Items != 0 || len(r.Durable) != 0 || r.UnknownOutcome != 0 || r.P50 != 0 || len(r.Errors) != 1 || r.Errors["NotFound HW-1101"] == 0 {
			t.Errorf("%s: %+v", workload, r)
		}
	}
	o := tiny("counter-get")
	o.Namespace = "nowhere"
	if _, err := benchload.Run(t.Context(), c, o); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("what is to be read cannot be written: %v", err)
	}
}

// TestARunThatIsCutOffReportsWhatWasAnswered.
func TestARunThatIsCutOffReportsWhatWasAnswered(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	o := tiny("counter-batch")
	o.Duration = time.Hour
	r, err := benchload.Run(ctx, c, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Errors) != 0 {
		t.Errorf("%v", r.Errors)
	}
	// A call that was cut off may count.
	if sum, _ := counted(t, c, o.Prefix); sum < r.Items || sum > r.Items+int64(o.Callers*o.BatchItems) {
		t.Errorf("the server counted %d, the report %d", sum, r.Items)
	}
}

func TestCounterOptionsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]benchload.Options{
		"no workload":             {},
		"Zipf of 1":               {Workload: "counter-batch", Zipf: 1},
		"negative Zipf":           {Workload: "counter-batch", Zipf: -2},
		"too many adds":           {Workload: "counter-batch", BatchItems: client.MaxAdds + 1},
		"negative callers":        {Workload: "counter-addget", Callers: -1},
		"no counters":             {Workload: "counter-single", Records: -1},
		"writers of another load": {Workload: "counter-batch", Writers: 1},
		"negative writers":        {Workload: "counter-get", Writers: -1},
		"negative duration":       {Workload: "counter-get", Duration: -1},
	} {
		if _, err := benchload.Run(t.Context(), nil, o); !errors.Is(err, benchload.ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
