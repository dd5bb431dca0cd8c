package server

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSearchPages: pages of any size, in both orders, over several partitions and slices
// are together what one page is, in the order of time.
func TestSearchPages(t *testing.T) {
	t.Parallel()
	for _, index := range []string{"", ", index: [other, k]"} {
		t.Run("index"+index, func(t *testing.T) {
			t.Parallel()
			searchPages(t, index)
		})
	}
}

func searchPages(t *testing.T, index string) {
	s := start(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: trips\nabstraction: timeseries\nlog: {partitions: 4}\ntimeseries: {slice: 1h, accept_limit: 8784h"+index+"}\nlifecycle: {close_after: 8784h, delete_after: 8790h}\n"))
	r := rand.New(rand.NewPCG(1, 2))
	from := time.Now().Add(-24 * time.Hour).Truncate(time.Hour)
	type written struct {
		at     time.Time
		series string
		id     string
	}
	var want []written
	var events []string
	for i := range 300 {
		// Few times, so that many events are of one.
		w := written{from.Add(time.Duration(r.IntN(40)) * 10 * time.Minute), fmt.Sprint("s", r.IntN(9)), fmt.Sprintf("%03d", i)}
		value := r.IntN(10)
		events = append(events, event(w.series, w.at, w.id, value))
		if value >= 3 {
			want = append(want, w)
		}
	}
	is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"trips","events":[`+strings.Join(events, ",")+`]}`), "accepted", "300")
	newest := func(a, b written) int {
		return 4*b.at.Compare(a.at) + 2*strings.Compare(a.series, b.series) + strings.Compare(a.id, b.id)
	}
	slices.SortFunc(want, newest)
	body := fmt.Sprintf(`{"namespace":"trips","interval":{"start":"%s","end":"%s"},"query":{"range":{"key":"k","lower":{"int":"3"}}},"explain":true`,
		stampOf(from), stampOf(from.Add(24*time.Hour)))
	for _, order := range []string{"NEWEST", "OLDEST"} {
		for _, size := range []int{1, 7, 50, 1000} {
			var got []written
			token := ""
			for pages := 0; ; pages++ {
				page := ts(t, s, "SearchEventRecords", fmt.Sprintf(`%s,"order":"%s","pageSize":%d,"pageToken":"%s"}`, body, order, size, token))
				if page.status != http.StatusOK || pages > 400 {
					t.Fatalf("page %d: %s", pages, page)
				}
				if keys := page.field(t, "explain.indexed").([]any); (index != "") != (len(keys) == 1 && keys[0] == "k") || (index != "") != (fmt.Sprint(page.field(t, "explain.scannedSlices")) == "0") {
					t.Fatalf("page %d: %s", pages, page)
				}
				for _, x := range page.field(t, "records").([]any) {
					e := x.(map[string]any)
					at, err := time.Parse(time.RFC3339Nano, e["eventTime"].(string))
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, written{at.Local(), e["timeSeriesId"].(string), e["eventId"].(string)})
				}
				if scanned := page.field(t, "explain.scannedEvents"); size == 1000 && index == "" && scanned != "300" || size == 1000 && index != "" && scanned != fmt.Sprint(len(want)) {
					t.Errorf("%v events were looked at", scanned)
				}
				if token = page.field(t, "nextPageToken").(string); token == "" {
					break
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, pages of %d: %d events, not the %d that were written, in order", order, size, len(got), len(want))
			}
		}
		slices.Reverse(want)
	}
	limited := ts(t, s, "SearchEventRecords", body+`,"totalRecordLimit":"5","pageSize":3}`)
	if n := len(limited.field(t, "records").([]any)); n != 3 {
		t.Errorf("the first page of a search of 5 has %d", n)
	}
	token := limited.field(t, "nextPageToken").(string)
	last := ts(t, s, "SearchEventRecords", body+`,"totalRecordLimit":"5","pageSize":3,"pageToken":"`+token+`"}`)
	if n := len(last.field(t, "records").([]any)); n != 2 || last.field(t, "nextPageToken") != "" {
		t.Errorf("the last page of a search of 5 has %d and goes on at %q", n, last.field(t, "nextPageToken"))
	}
	other := strings.Replace(body, `"int":"3"`, `"int":"4"`, 1)
	expectBody(t, ts(t, s, "SearchEventRecords", other+`,"totalRecordLimit":"5","pageToken":"`+token+`"}`), http.StatusBadRequest, "HW-1011")
}

// TestBadQueries: each is refused, by a code that says it is the query.
func TestBadQueries(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: q\nabstraction: timeseries\n"))
	search := func(query string) reply {
		return ts(t, s, "SearchEventRecords", `{"namespace":"q","interval":{"start":"2001-01-01T00:00:00Z","end":"2001-01-02T00:00:00Z"},"query":`+query+`}`)
	}
	exists := `{"exists":{"key":"k"}}`
	deep := func(n int) string { return strings.Repeat(`{"not":`, n-1) + exists + strings.Repeat("}", n-1) }
	wide := func(n int) string { return `{"or":[` + strings.Repeat(exists+",", n-2) + exists + `]}` }
	for _, good := range []string{exists, deep(8), wide(64), `{"range":{"key":"k"}}`, `{"range":{"key":"k","lower":{"int":"1"},"upper":{"double":1}}}`, `{"prefix":{"key":"k"}}`, `{"equals":{"key":"k","value":{"double":1}}}`} {
		is(t, good, search(good))
	}
	for _, bad := range []string{
		`{}`, `{"and":[]}`, `{"or":[{}]}`, deep(9), deep(100), wide(65), wide(20000),
		`{"exists":{"key":"k"},"equals":{"key":"k","value":{"int":"1"}}}`,
		`{"and":[` + exists + `],"or":[` + exists + `]}`,
		`{"exists":{}}`, `{"equals":{"key":"k"}}`, `{"equals":{"key":"k","value":{"double":"NaN"}}}`,
		`{"range":{"key":"k","lower":{"int":"2"},"upper":{"int":"1"}}}`,
		`{"range":{"key":"k","lower":{"int":"2"},"upper":{"string":"1"}}}`,
		`{"range":{"key":"k","lower":{}}}`,
		`{"exists":{"key":"` + strings.Repeat("k", 100000) + `"}}`,
	} {
		if r := search(bad); r.status != http.StatusBadRequest || !strings.Contains(r.body, "HW-1047") {
			t.Errorf("%.80s: %s", bad, r)
		}
	}
}
