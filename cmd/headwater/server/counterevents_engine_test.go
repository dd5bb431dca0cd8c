package server

import (
	"fmt"
	"net/http"
	"testing"
)

const eventsRemote = "type: clickhouse, cluster: main"

// TestEngineEventsOfCounters: what a store of role EVENTS promises, on a real ClickHouse.
func TestEngineEventsOfCounters(t *testing.T) {
	t.Parallel()
	eventsOfCounters(t, t.TempDir(), eventsRemote, onClickHouse)
}

// TestEngineEventsOfCountersAway: while ClickHouse does not answer, also over a restart, adds and counts
// go on and recounts say what is missing. When it is back, every event is there once.
func TestEngineEventsOfCountersAway(t *testing.T) {
	t.Parallel()
	way, at := cuttableClickHouse(t)
	dir := t.TempDir()
	s := withCluster(t, dir, Cluster{Type: clickhouseType, URL: at})
	doc := stored["tally"] + fmt.Sprintf(withEvents, eventsRemote)
	is(t, "make", applyDoc(t, s, doc))
	storeOf(t, s, "tally", "events", "SERVING")
	sum := 0
	add := func() {
		t.Helper()
		sum++
		is(t, "add", send(t, s, "POST", "/v1/counter/tally/c?by=1", "", "Idempotency-Key", fmt.Sprint("k", sum)), "appliedDelta", "1", "count.value", fmt.Sprint(sum))
	}
	const verify = `{"namespace":"tally","counter":"c"}`
	for range 5 {
		add()
	}
	is(t, "verify", call(t, s, "Counter.VerifyCount", verify), "recounted", "5", "drift", "0")
	way.set(true)
	for range 20 {
		add()
	}
	refused(t, "verify without ClickHouse", call(t, s, "Counter.VerifyCount", verify), http.StatusServiceUnavailable, "HW-1516", "")
	is(t, "count", send(t, s, "GET", "/v1/counter/tally/c?accuracy=accurate", ""), "count.value", "25")
	sweepAll(t, spaceOf(t, s, "tally"))
	if n := eventRows(t, spaceOf(t, s, "tally").primary()); n < 20 {
		t.Errorf("the PRIMARY keeps %d rows of events while EVENTS lacks 20", n)
	}
	closeServer(t, s)
	s = withCluster(t, dir, Cluster{Type: clickhouseType, URL: at})
	for range 20 {
		add()
	}
	way.set(false)
	until(t, "ClickHouse is asked again", func() bool {
		return call(t, s, "Counter.VerifyCount", verify).status == http.StatusOK
	})
	is(t, "verify", call(t, s, "Counter.VerifyCount", verify), "recounted", "45", "drift", "0")
	sweepAll(t, spaceOf(t, s, "tally"))
	is(t, "verify what the PRIMARY has folded", call(t, s, "Counter.VerifyCount", verify), "recounted", "45", "drift", "0")
	if n := eventRows(t, spaceOf(t, s, "tally").primary()); n != 0 {
		t.Errorf("the PRIMARY keeps %d rows of events that EVENTS has", n)
	}
	closeServer(t, s)
}

// TestEngineEventsWithoutTheirCluster: a start with a configuration that lacks the cluster keeps the store,
// and the log for it; the next start with the cluster goes on.
func TestEngineEventsWithoutTheirCluster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := onClickHouse(t, dir)
	is(t, "make", applyDoc(t, s, "namespace: tally\nabstraction: counter\nlog: {partitions: 1, retention: 0s}\ntokens: {window: 6m, max_drift_past: 4m}\n"+fmt.Sprintf(withEvents, eventsRemote)))
	storeOf(t, s, "tally", "events", "SERVING")
	add := func(want int) {
		t.Helper()
		is(t, "add", send(t, s, "POST", "/v1/counter/tally/c?by=1", ""), "count.value", fmt.Sprint(want))
	}
	const verify = `{"namespace":"tally","counter":"c"}`
	add(1)
	is(t, "verify", call(t, s, "Counter.VerifyCount", verify), "recounted", "1", "drift", "0")
	closeServer(t, s)

	s = open(t, dir)
	add(2)
	x := spaceOf(t, s, "tally")
	if _, ok := x.unopened(); !ok {
		t.Error("no store lacks its cluster")
	}
	if err := x.syncStores(t.Context()); err != nil {
		t.Fatal(err)
	}
	if more, err := x.trimPartition(t.Context(), 0); err != nil || !more {
		t.Errorf("the log is trimmed while a store is not open: %t %v", more, err)
	}
	is(t, "verify by the PRIMARY", call(t, s, "Counter.VerifyCount", verify), "recounted", "2", "drift", "0")
	storeOf(t, s, "tally", "events", "SERVING")
	closeServer(t, s)

	s = onClickHouse(t, dir)
	until(t, "the store is open", func() bool { _, ok := spaceOf(t, s, "tally").unopened(); return !ok })
	add(3)
	is(t, "verify", call(t, s, "Counter.VerifyCount", verify), "recounted", "3", "drift", "0")
	closeServer(t, s)
}
