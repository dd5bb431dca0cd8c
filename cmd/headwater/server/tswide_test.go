package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// bucketsOf are the event buckets of the slices of a namespace, oldest first.
func bucketsOf(t *testing.T, s *Server, ns string) (out []string) {
	t.Helper()
	for _, x := range ts(t, s, "ListTimeSlices", `{"namespace":"`+ns+`"}`).field(t, "slices").([]any) {
		out = append(out, fmt.Sprint(x.(map[string]any)["eventBuckets"]))
	}
	return out
}

// TestAWideSeriesGetsMoreEventBuckets: new slices get twice as many as the slice in which a series is wide,
// once for each slice length; those that are there keep theirs.
func TestAWideSeriesGetsMoreEventBuckets(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: wide\nabstraction: timeseries\nlog: {partitions: 1}\ntimeseries: {slice: 1h}\n"))
	day := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	hour := 0
	write := func() {
		t.Helper()
		is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"wide","events":[`+event("s", day.Add(time.Duration(hour)*time.Hour), "e", 1)+`]}`), "accepted", "1")
		hour++
	}
	x := spaceOf(t, s, "wide")
	write()
	for _, next := range []int{8, 16, 32, 64} {
		for range 3 { // many reads of one slice
			x.wide.found(next / 2)
		}
		until(t, fmt.Sprint(next, " buckets"), func() bool { return x.ns.Config().TimeSeries.EventBuckets == next })
		x.wide.found(next / 2) // by a read of the older slice
		write()
	}
	x.wide.found(64)
	write()
	if got := fmt.Sprint(bucketsOf(t, s, "wide")); got != "[4 8 16 32 64 64]" {
		t.Errorf("slices have %s event buckets", got)
	}
	if r := call(t, s, "Namespace.GetNamespace", `{"namespace":"wide"}`); !strings.Contains(r.body, "event_buckets: 64") {
		t.Errorf("the document does not say so: %s", r)
	}
}

// TestEventBucketsChangeNoAnswer: an aggregate of one series is the same into how many parts ever its
// slices are cut.
func TestEventBucketsChangeNoAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	day := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	var events []string
	for i := range 300 {
		events = append(events, event("s", day.Add(time.Duration(i*i%7200)*time.Second), fmt.Sprint(i), i%50))
	}
	answers := make(map[string]string)
	for _, buckets := range []string{"1", "3", "64", "1024"} {
		ns := "cut" + buckets
		is(t, "make", applyDoc(t, s, "namespace: "+ns+"\nabstraction: timeseries\nlog: {partitions: 1}\ntimeseries: {slice: 1h, event_buckets: "+buckets+"}\n"))
		is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"`+ns+`","events":[`+strings.Join(events, ",")+`]}`), "accepted", "300")
		for _, what := range []string{
			`"aggregations":[{"name":"n","op":"COUNT"},{"name":"s","op":"SUM","key":"k"},{"name":"f","op":"FIRST","key":"k"},{"name":"l","op":"LAST","key":"k"},{"name":"d","op":"DISTINCT","key":"k"},{"name":"q","op":"QUANTILE","key":"k","quantile":0.5}]`,
			`"aggregations":[{"name":"a","op":"AVG","key":"k"}],"groupBy":["k"],"timeBucket":"900s","fill":"ZERO"`,
		} {
			for _, interval := range []string{
				`"interval":{"start":"2001-01-01T00:00:00Z","end":"2001-01-02T00:00:00Z"}`, `"interval":{"start":"2001-01-01T00:00:07Z","end":"2001-01-01T01:13:01Z"}`,
				`"interval":{"start":"2001-01-01T00:10:00Z","end":"2001-01-01T00:10:00.000001Z"}`,
			} {
				r := ts(t, s, "AggregateEventRecords", `{"namespace":"`+ns+`","timeSeriesId":"s",`+interval+`,`+what+`}`)
				if r.status != http.StatusOK {
					t.Fatal(r)
				}
				got := fmt.Sprint(r.field(t, "groups"))
				if want, there := answers[interval+what]; !there {
					answers[interval+what] = got
				} else if got != want {
					t.Errorf("with %s event buckets %s %s is\n%s\nand was\n%s", buckets, interval, what, got, want)
				}
			}
		}
	}
}
