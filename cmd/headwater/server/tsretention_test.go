package server

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
)

// TestRetentionMovesUnderReads: slices close, come back and are dropped while a series is read.
func TestRetentionMovesUnderReads(t *testing.T) {
	t.Parallel()
	retentionUnderReads(t, start(t, t.TempDir()), "pebble", 40)
}

// TestEngineRetentionMovesUnderReads is TestRetentionMovesUnderReads on ClickHouse.
func TestEngineRetentionMovesUnderReads(t *testing.T) {
	t.Parallel()
	retentionUnderReads(t, onClickHouse(t, t.TempDir()), "clickhouse, cluster: main", 6)
}

// agedEvents are the ages of the events that a whole read returns, in minutes, each with how often.
func agedEvents(t *testing.T, s *Server, r *rand.Rand, from, to time.Time) map[int]int {
	got, token := make(map[int]int), ""
	order := []string{"NEWEST", "OLDEST"}[r.IntN(2)]
	for {
		req := fmt.Sprintf(`{"namespace":"moving","timeSeriesId":"s","interval":{"start":"%s","end":"%s"},"pageSize":%d,"order":"%s","consistency":"EVENTUAL"`,
			stampOf(from), stampOf(to), 10+r.IntN(40), order)
		if token != "" {
			req += `,"pageToken":"` + token + `"`
		}
		a := ts(t, s, "ReadEventRecords", req+"}")
		if a.status != http.StatusOK {
			t.Errorf("read: %s", a)
			return got
		}
		for _, x := range a.field(t, "records").([]any) {
			age, _, _ := strings.Cut(fmt.Sprint(x.(map[string]any)["eventId"]), "-")
			n, err := strconv.Atoi(age)
			if err != nil {
				t.Error(err)
			}
			got[n]++
		}
		if token = fmt.Sprint(a.field(t, "nextPageToken")); token == "" {
			return got
		}
	}
}

// retentionUnderReads has events of each of the last thirty minutes. close_after goes between ten and
// twenty minutes: what is younger than the one is always read, whole and once, and what is older than
// the other never.
func retentionUnderReads(t *testing.T, s *Server, kind string, turns int) {
	t.Helper()
	const each, minutes = 5, 30
	doc := "namespace: moving\nabstraction: timeseries\nlog: {partitions: 1}\ntimeseries: {slice: 1m, accept_limit: 0}\n" +
		"lifecycle: {close_after: %s, delete_after: 25m}\nstorage: [{role: PRIMARY, type: " + kind + "}]\n"
	open := "namespace: moving\nabstraction: timeseries\nlog: {partitions: 1}\ntimeseries: {slice: 1m, accept_limit: 0}\nstorage: [{role: PRIMARY, type: " + kind + "}]\n"
	is(t, "make", applyDoc(t, s, open))
	now := time.Now()
	var events []string
	for age := range minutes {
		for i := range each {
			events = append(events, event("s", now.Add(-time.Duration(age)*time.Minute-time.Duration(i)*time.Second), fmt.Sprintf("%d-%d", age, i), age))
		}
	}
	is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"moving","events":[`+strings.Join(events, ",")+`]}`), "accepted", fmt.Sprint(each*minutes))
	if n := len(allEvents(t, s, "moving", "s")); n != each*minutes {
		t.Fatalf("%d events without a lifecycle", n)
	}
	is(t, "a lifecycle", applyDoc(t, s, fmt.Sprintf(doc, "10m")))

	stop := make(chan struct{})
	var work sync.WaitGroup
	beside := func(f func(r *rand.Rand)) {
		r := rand.New(rand.NewPCG(1, uint64(len(events))))
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f(r)
				}
			}
		})
	}
	beside(func(r *rand.Rand) {
		got := agedEvents(t, s, r, now.Add(-time.Hour), now.Add(time.Minute))
		for age := range minutes {
			if n := got[age]; age < 9 && n != each || age > 21 && n != 0 || n > each {
				t.Errorf("%d of %d events are read that are %d minutes old", n, each, age)
			}
		}
	})
	beside(func(*rand.Rand) {
		a := ts(t, s, "AggregateEventRecords", fmt.Sprintf(`{"namespace":"moving","interval":{"start":"%s","end":"%s"},"aggregations":[{"name":"n","op":"COUNT"}],"consistency":"EVENTUAL"}`,
			stampOf(now.Add(-time.Hour)), stampOf(now.Add(time.Minute))))
		if a.status != http.StatusOK {
			t.Errorf("aggregate: %s", a)
			return
		}
		groups := a.field(t, "groups").([]any)
		if len(groups) != 1 {
			t.Errorf("%d groups", len(groups))
			return
		}
		n := groups[0].(map[string]any)["values"].(map[string]any)["n"].(float64)
		if n < each*9 || n > each*22 {
			t.Errorf("%v events are counted", n)
		}
	})
	x := spaceOf(t, s, "moving")
	beside(func(*rand.Rand) {
		if _, err := x.sweepPartition(t.Context(), 0, 10); err != nil && !errors.Is(err, consumers.ErrStoreAway) {
			t.Errorf("sweep: %v", err)
		}
	})
	for i := range turns {
		is(t, "turn", applyDoc(t, s, fmt.Sprintf(doc, []string{"20m", "10m"}[i%2])))
		<-time.After(20 * time.Millisecond)
	}
	close(stop)
	work.Wait()
	is(t, "the longer one", applyDoc(t, s, fmt.Sprintf(doc, "20m")))
	if got := len(allEvents(t, s, "moving", "s")); got < each*19 || got > each*22 {
		t.Errorf("%d events are left", got)
	}
}
