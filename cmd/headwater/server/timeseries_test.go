package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// ts calls the TimeSeriesService.
func ts(t *testing.T, s *Server, method, body string) reply {
	t.Helper()
	return call(t, s, "TimeSeries."+method, body)
}

func stampOf(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// event is an event as JSON.
func event(series string, at time.Time, id string, value int) string {
	return fmt.Sprintf(`{"timeSeriesId":"%s","eventTime":"%s","eventId":"%s","items":[{"key":"k","value":{"int":%d}}]}`, series, stampOf(at), id, value)
}

// allEvents reads a series from the year 1 to 9999.
func allEvents(t *testing.T, s *Server, ns, series string) []any {
	t.Helper()
	r := ts(t, s, "ReadEventRecords", fmt.Sprintf(`{"namespace":"%s","timeSeriesId":"%s","interval":{"start":"0001-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}}`, ns, series))
	if r.status != http.StatusOK {
		t.Fatalf("read %s of %s: %s", series, ns, r)
	}
	return r.field(t, "records").([]any)
}

// TestWhatIsLeftOutOfACall: by its limits, and told to a copy as to the first, also when
// the limits have changed, and when a part of the first call is missing.
func TestWhatIsLeftOutOfACall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	doc := "namespace: live\nabstraction: timeseries\nlog: {partitions: 4}\ntimeseries: {accept_limit: %s, accept_future: 1m, blocked: [noise]}\n"
	is(t, "make", applyDoc(t, s, fmt.Sprintf(doc, "10m")))
	now := time.Now()
	var events []string
	for i := range 6 {
		events = append(events, event(fmt.Sprint("s", i), now, "1", i))
	}
	events = append(events, event("s0", now.Add(-time.Hour), "2", 1), event("s1", now.Add(time.Hour), "3", 1), event("noise", now, "4", 1))
	write := `{"namespace":"live","events":[` + strings.Join(events, ",") + `],"token":{"key":"call"}}`
	first := ts(t, s, "WriteEventRecordsSync", write)
	is(t, "write", first, "accepted", "6", "result.duplicate", "NO")
	refused := fmt.Sprint(first.field(t, "refused"))
	for _, want := range []string{"index:6", "HW-1213", "index:7", "HW-1214", "index:8", "HW-1215"} {
		if !strings.Contains(refused, want) {
			t.Errorf("left out is %s, without %s", refused, want)
		}
	}
	is(t, "raise the limit", applyDoc(t, s, fmt.Sprintf(doc, "2h")))
	for range 2 {
		again := ts(t, s, "WriteEventRecordsSync", write)
		is(t, "a copy", again, "accepted", "6", "result.duplicate", "YES")
		if got := fmt.Sprint(again.field(t, "refused")); got != refused {
			t.Errorf("a copy leaves out %s, the first left out %s", got, refused)
		}
		if n := len(allEvents(t, s, "live", "s0")); n != 1 {
			t.Errorf("s0 has %d events", n)
		}
		expectBody(t, ts(t, s, "WriteEventRecordsSync", strings.Replace(write, `"int":3`, `"int":4`, 1)), http.StatusConflict, "HW-1201")
		closeServer(t, s)
		s = open(t, dir)
	}
	is(t, "the old event by itself", ts(t, s, "WriteEventRecordsSync", `{"namespace":"live","events":[`+events[6]+`]}`), "accepted", "1")
	expectBody(t, ts(t, s, "WriteEventRecordsSync", `{"namespace":"live","events":[`+events[8]+`]}`), http.StatusBadRequest, "HW-1215")
	is(t, "buffered", ts(t, s, "WriteEventRecords", `{"namespace":"live","events":[`+event("b", now, "1", 1)+`]}`), "accepted", "1", "result.durability", "BUFFERED", "result.position", "")
	until(t, "what was buffered is read", func() bool { return len(allEvents(t, s, "live", "b")) == 1 })
	closeServer(t, s)
}

// TestSlicesCloseAndAreDropped: what is closed is invisible at once and comes back when
// close_after is raised; what was dropped does not.
func TestSlicesCloseAndAreDropped(t *testing.T) {
	t.Parallel()
	slicesCloseAndAreDropped(t, start(t, t.TempDir()), "pebble")
}

func slicesCloseAndAreDropped(t *testing.T, s *Server, kind string) {
	t.Helper()
	doc := "namespace: short\nabstraction: timeseries\nlog: {partitions: 1}\ntimeseries: {slice: 1m, accept_limit: 0}\nlifecycle: {close_after: %s, delete_after: %s}\nstorage: [{role: PRIMARY, type: " + kind + "}]\n"
	is(t, "make", applyDoc(t, s, fmt.Sprintf(doc, "2h", "3h")))
	now := time.Now()
	at := []time.Time{now.Add(-90 * time.Minute), now}
	is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"short","events":[`+event("s", at[0], "old", 1)+","+event("s", at[1], "new", 1)+`]}`), "accepted", "2")
	if n := len(allEvents(t, s, "short", "s")); n != 2 {
		t.Errorf("%d events are open, not 2", n)
	}
	is(t, "close sooner", applyDoc(t, s, fmt.Sprintf(doc, "1h", "3h")))
	if n := len(allEvents(t, s, "short", "s")); n != 1 {
		t.Errorf("%d events are open after their slice was closed, not 1", n)
	}
	expectSlices(t, s, "short", "CLOSED 1", "OPEN 1")
	expectBody(t, ts(t, s, "WriteEventRecordsSync", `{"namespace":"short","events":[`+event("s", at[0], "late", 1)+`]}`), http.StatusBadRequest, "HW-1216")
	is(t, "close later", applyDoc(t, s, fmt.Sprintf(doc, "2h", "3h")))
	if n := len(allEvents(t, s, "short", "s")); n != 2 {
		t.Errorf("%d events are open after close_after was raised, not 2", n)
	}
	is(t, "drop sooner", applyDoc(t, s, fmt.Sprintf(doc, "1h", "1h")))
	expectSlices(t, s, "short", "DROPPED 1", "OPEN 1")
	x := spaceOf(t, s, "short")
	for more := true; more; {
		var err error
		if more, err = x.sweepPartition(t.Context(), 0, 100); err != nil {
			t.Fatal(err)
		}
	}
	is(t, "close later again", applyDoc(t, s, fmt.Sprintf(doc, "2h", "3h")))
	if n := len(allEvents(t, s, "short", "s")); n != 1 {
		t.Errorf("%d events are open after a slice was dropped, not 1", n)
	}
	expectSlices(t, s, "short", "OPEN 1")
}

// expectSlices compares the states and events of the slices of a namespace.
func expectSlices(t *testing.T, s *Server, ns string, want ...string) {
	t.Helper()
	var got []string
	for _, x := range ts(t, s, "ListTimeSlices", `{"namespace":"`+ns+`"}`).field(t, "slices").([]any) {
		m := x.(map[string]any)
		got = append(got, fmt.Sprint(m["state"], " ", m["events"]))
		if n, _ := strconv.Atoi(fmt.Sprint(m["bytes"])); n < 10 {
			t.Errorf("a slice has %v bytes", m["bytes"])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("slices are %q, not %q", got, want)
	}
}

// TestAnEventThatTheLogFindsTooLate is a dead letter, as it was acknowledged.
func TestAnEventThatTheLogFindsTooLate(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: live\nabstraction: timeseries\nlog: {partitions: 1}\n"))
	is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"live","events":[`+event("s", time.Now().Add(-time.Hour), "1", 1)+`],"token":{"key":"a"}}`))
	is(t, "limit", applyDoc(t, s, "namespace: live\nabstraction: timeseries\nlog: {partitions: 1}\ntimeseries: {accept_limit: 10m}\n"))
	log := topic(t, s, "live")
	err := wal.ReadOne(t.Context(), log, 0, 0, func(e *wal.Entry) error {
		var rec wal.Record
		if err := wal.DecodeRecord(e.Data, &rec); err != nil {
			return err
		}
		rec.Token.Nonce[0]++
		entry, _ := s.names.Get("live")
		rec.NamespaceVersion = entry.Config.Version
		return log.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: 0, Data: wal.AppendRecord(nil, &rec)}})[0].Err
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the letter is there", func() bool {
		r := call(t, s, "Log.ListDeadLetters", `{"namespace":"live"}`)
		return strings.Contains(r.body, `"not_accepted"`) && strings.Contains(r.body, "accept_limit")
	})
}

// TestBadEvents: each is refused before the log, with a code, and nothing is written.
func TestBadEvents(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	good := event("s", time.Unix(1, 0), "1", 1)
	many := strings.TrimSuffix(strings.Repeat(good+",", 10_001), ",")
	items := strings.TrimSuffix(strings.Repeat(`{"key":"k","value":{"int":1}},`, 65), ",")
	for body, want := range map[string]string{
		`[]`:             "HW-1014",
		`[` + many + `]`: "HW-1014",
		`[{"timeSeriesId":"","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k","value":{"int":1}}]}]`:                                               "HW-1045",
		`[{"timeSeriesId":"` + strings.Repeat("s", 1025) + `","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k","value":{"int":1}}]}]`:              "HW-1045",
		`[` + good + `,{"timeSeriesId":"s","items":[{"key":"k","value":{"int":1}}]}]`:                                                                    "HW-1034",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[]}]`:                                                                           "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[` + items + `]}]`:                                                              "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"","value":{"int":1}}]}]`:                                               "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k"}]}]`:                                                                "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k","value":{"double":"NaN"}}]}]`:                                       "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k","value":{"double":"-Infinity"}}]}]`:                                 "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k","value":{"int":1}},{"key":"k","value":{"int":1}}]}]`:                "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"k","value":{"string":"` + strings.Repeat("x", 64<<10+1) + `"}}]}]`:     "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","eventId":"` + strings.Repeat("i", 257) + `","items":[{"key":"k","value":{"int":1}}]}]`: "HW-1046",
		`[{"timeSeriesId":"s","eventTime":"12000-01-01T00:00:00Z","items":[{"key":"k","value":{"int":1}}]}]`:                                             "HW-1013",
	} {
		r := ts(t, s, "WriteEventRecordsSync", `{"namespace":"demo-timeseries","events":`+body+`}`)
		if r.status != http.StatusBadRequest || r.field(t, "reason") != want || r.field(t, "outcome") != "NOT_APPLIED" {
			t.Errorf("%.120s: %s, want %s", body, r, want)
		}
	}
	for body, want := range map[string]string{
		`"timeSeriesId":"s"`: "HW-1036",
		`"timeSeriesId":"s","interval":{"start":"2001-01-01T00:00:00Z","end":"2001-01-01T00:00:00Z"}`:                         "HW-1036",
		`"timeSeriesId":"s","interval":{"start":"2001-01-01T00:00:00Z","end":"2000-01-01T00:00:00Z"}`:                         "HW-1036",
		`"interval":{"start":"2001-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"}`:                                            "HW-1045",
		`"timeSeriesId":"s","pageSize":0,"interval":{"start":"2001-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"}`:            "HW-1010",
		`"timeSeriesId":"s","pageSize":10001,"interval":{"start":"2001-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"}`:        "HW-1010",
		`"timeSeriesId":"s","totalRecordLimit":"0","interval":{"start":"2001-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"}`:  "HW-1010",
		`"timeSeriesId":"s","pageToken":"x","interval":{"start":"2001-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"}`:         "HW-1011",
		`"timeSeriesId":"s","filters":[{"key":"k"}],"interval":{"start":"2001-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"}`: "HW-1046",
	} {
		if r := ts(t, s, "ReadEventRecords", `{"namespace":"demo-timeseries",`+body+`}`); r.status != http.StatusBadRequest || r.field(t, "reason") != want {
			t.Errorf("%s: %s, want %s", body, r, want)
		}
	}
	expectBody(t, ts(t, s, "ListTimeSlices", `{"namespace":"demo-kv"}`), http.StatusBadRequest, "HW-1102")
	expectBody(t, ts(t, s, "ListTimeSlices", `{"namespace":"nowhere"}`), http.StatusNotFound, "HW-1101")
	expectBody(t, ts(t, s, "WriteEventRecordsSync", `{"namespace":"demo-kv","events":[`+good+`]}`), http.StatusBadRequest, "HW-1102")
	if list := ts(t, s, "ListTimeSeries", `{"namespace":"demo-timeseries"}`).field(t, "series").([]any); len(list) != 0 {
		t.Errorf("bad events were written: %v", list)
	}
	// The edges are taken.
	is(t, "make", applyDoc(t, s, "namespace: any\nabstraction: timeseries\ntimeseries: {accept_future: 0}\n"))
	for _, year := range []string{"0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1600-02-29T12:00:00Z"} {
		is(t, year, ts(t, s, "WriteEventRecordsSync", `{"namespace":"any","events":[{"timeSeriesId":"; DROP TABLE x --'\"","eventTime":"`+year+`","items":[{"key":"`+"\\u0000"+`","value":{"bytes":""}}]}]}`),
			"accepted", "1")
	}
}

// TestPagesOfEvents reads in pages of every size, both ways: every event once.
func TestPagesOfEvents(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	base := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf(`{"eventTime":"%s","eventId":"%03d","items":{"n":%d,"half":%d.5}}`, stampOf(base.Add(time.Duration(i/3)*7*time.Hour)), i, i, i))
	}
	expectBody(t, send(t, s, "POST", "/v1/ts/demo-timeseries/a%2Fb", strings.Join(lines, "\n"), "Idempotency-Key", "all"), 200, `"accepted":100`)
	expectBody(t, send(t, s, "POST", "/v1/ts/demo-timeseries/a%2Fb", strings.Join(lines, "\n"), "Idempotency-Key", "all"), 200, `"duplicate":"YES"`)
	expectBody(t, send(t, s, "POST", "/v1/ts/demo-timeseries/a%2Fb", lines[0]+"\nnonsense"), 400, "event 2 of the body")
	for _, order := range []string{"newest", "oldest"} {
		for _, limit := range []int{1, 7, 33, 100, 10_000} {
			seen, token := 0, ""
			for pages := 0; ; pages++ {
				r := send(t, s, "GET", fmt.Sprintf("/v1/ts/demo-timeseries/a%%2Fb?start=2000-01-01T00:00:00Z&limit=%d&order=%s&page_token=%s", limit, order, url.QueryEscape(token)), "")
				if r.status != 200 {
					t.Fatal(r)
				}
				for _, line := range r.lines() {
					n := newestFirst(seen)
					if order == "oldest" { // the other way round
						n = newestFirst(99 - seen)
					}
					if !strings.Contains(line, fmt.Sprintf(`"items":{"half":%d.5,"n":%d}`, n, n)) {
						t.Fatalf("%s, limit %d: event %d is %s", order, limit, seen, line)
					}
					seen++
				}
				if token = r.header.Get("Headwater-Next-Page-Token"); token == "" {
					break
				}
			}
			if seen != 100 {
				t.Errorf("%s, limit %d: %d events", order, limit, seen)
			}
		}
	}
	r := ts(t, s, "ReadEventRecords", `{"namespace":"demo-timeseries","timeSeriesId":"a/b","interval":{"start":"2000-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"},"filters":[{"key":"half","equals":{"double":7.5}}]}`)
	if n := len(r.field(t, "records").([]any)); n != 1 {
		t.Errorf("a filter lets %d events through", n)
	}
	total := 0
	for token := ""; ; {
		r := ts(t, s, "ReadEventRecords", `{"namespace":"demo-timeseries","timeSeriesId":"a/b","interval":{"start":"2000-01-01T00:00:00Z","end":"2002-01-01T00:00:00Z"},"pageSize":8,"totalRecordLimit":"20","pageToken":"`+token+`"}`)
		total += len(r.field(t, "records").([]any))
		if token = r.field(t, "nextPageToken").(string); token == "" {
			break
		}
	}
	if total != 20 {
		t.Errorf("a total limit of 20 gives %d", total)
	}
	is(t, "delete", ts(t, s, "DeleteTimeSeries", `{"namespace":"demo-timeseries","timeSeriesId":"a/b"}`), "result.duplicate", "NO")
	if n := len(allEvents(t, s, "demo-timeseries", "a/b")); n != 0 {
		t.Errorf("%d events after the deletion", n)
	}
	is(t, "head", send(t, s, "HEAD", "/v1/ts/demo-timeseries/a%2Fb", ""))
}

// newestFirst is the number of the i-th event of TestPagesOfEvents, newest first: three
// share a time, and stand by id.
func newestFirst(i int) int {
	if i == 0 {
		return 99 // alone at its time
	}
	return 96 - (i-1)/3*3 + (i-1)%3
}

// TestEventsThatDifferAreCounted: a copy is none, another value is one, an item more is none.
func TestEventsThatDifferAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	at := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, e := range []string{
		event("s", at, "1", 1), event("s", at, "1", 1), event("s", at, "1", 2), event("s", at, "2", 2),
		strings.Replace(event("s", at, "1", 3), `"key":"k"`, `"key":"other"`, 1), event("s", at, "1", 4),
	} {
		is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"demo-timeseries","events":[`+e+`]}`), "accepted", "1")
	}
	if n := len(allEvents(t, s, "demo-timeseries", "s")); n != 2 {
		t.Errorf("%d events, not 2", n)
	}
	if got := metric(t, s, `headwater_ts_conflicts_total{namespace="demo-timeseries"}`); got != 2 {
		t.Errorf("%v events differ, not 2", got)
	}
}
