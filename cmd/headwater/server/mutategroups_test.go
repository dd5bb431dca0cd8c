package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/wal"
)

// put, added, eventOf and messageOf are mutations of the namespaces of a demo.
func put(id, value string) string {
	return fmt.Sprintf(`{"put":{"namespace":"demo-kv","id":%q,"items":[{"key":"aw==","value":%q}]}}`, id, b64([]byte(value)))
}

func added(counter string, delta int) string {
	return fmt.Sprintf(`{"add":{"namespace":"demo-counter","counter":%q,"delta":"%d"}}`, counter, delta)
}

func messageOf(key, body string) string {
	return fmt.Sprintf(`{"message":{"namespace":"demo-log","key":%q,"payload":%q}}`, key, b64([]byte(body)))
}

func eventOf(series, at string) string {
	return fmt.Sprintf(`{"event":{"namespace":"demo-timeseries","events":[{"timeSeriesId":%q,"eventTime":%q,"items":[{"key":"n","value":{"int":"1"}}]}]}}`, series, at)
}

func mutate(token string, ms ...string) string {
	return fmt.Sprintf(`{"mutations":[%s],"token":{"key":%q}}`, strings.Join(ms, ","), token)
}

func groupDone(t *testing.T, s *Server, id string) {
	t.Helper()
	until(t, "group "+id+" is done", func() bool {
		return call(t, s, "Log.GetGroup", fmt.Sprintf(`{"groupId":%q}`, id)).field(t, "state") == "DONE"
	})
}

// TestAGroupIsOfAllAbstractions: it takes place once however often it is sent, in each partition in the order sent.
func TestAGroupIsOfAllAbstractions(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	now := time.Now().UTC().Format(time.RFC3339)
	var ms []string
	for i := range 40 { // of every partition
		ms = append(ms, put(fmt.Sprint("r", i), "1"), added(fmt.Sprint("c", i%10), 1), messageOf(fmt.Sprint("m", i%5), fmt.Sprint(i)), eventOf(fmt.Sprint("s", i%7), now))
	}
	ms = append(ms, put("again", "old"), added("c0", 1), `{"delete":{"namespace":"demo-kv","id":"again","predicate":{"matchAll":{}}}}`)
	first := ""
	for try := range 3 {
		r := call(t, s, "KeyValue.MutateItems", mutate("one", ms...))
		if r.status != 200 {
			t.Fatal(r)
		}
		id := r.field(t, "groupId").(string)
		groupDone(t, s, id)
		if first == "" {
			first = id
		}
		if results := r.field(t, "results").([]any); id != first || len(results) != 4 || (results[0].(map[string]any)["duplicate"] == "YES") != (try > 0) && !splitAll {
			t.Errorf("try %d is %v", try, r)
		}
	}
	is(t, "state", call(t, s, "Log.GetGroup", fmt.Sprintf(`{"groupId":%q}`, first)), "state", "DONE", "done", "163", "total", "163")
	for i := range 40 {
		r := call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"demo-kv","id":"r%d","consistency":"LATEST"}`, i))
		if items, _ := r.field(t, "items").([]any); len(items) != 1 {
			t.Errorf("record %d is %v", i, r)
		}
	}
	if items, _ := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"again","consistency":"LATEST"}`).field(t, "items").([]any); len(items) != 0 {
		t.Errorf("a record that the group deleted at last is %v", items)
	}
	if c0, c1 := countOf(t, s, "demo-counter", "c0"), countOf(t, s, "demo-counter", "c1"); c0 != "5" || c1 != "4" {
		t.Errorf("the counters are %s and %s, want 5 and 4", c0, c1)
	}
	r := call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"earliest":{}},"filter":{"key":"m1"}}`)
	for i, want := range []string{"1", "6", "11", "16"} {
		if at := strings.Index(r.body, b64([]byte(want))); at < 0 || i > 0 && at < strings.Index(r.body, b64([]byte("1"))) {
			t.Errorf("message %s of key m1 is not in its place: %v", want, r)
		}
	}
	if n := strings.Count(r.body, `"key":"m1"`); n != 8 {
		t.Errorf("%d messages of key m1, want 8", n)
	}
	events := 0
	for i := range 7 {
		r := call(t, s, "TimeSeries.ReadEventRecords", fmt.Sprintf(`{"namespace":"demo-timeseries","timeSeriesId":"s%d","interval":{"start":"2020-01-01T00:00:00Z","end":"2090-01-01T00:00:00Z"},"consistency":"LATEST"}`, i))
		records, _ := r.field(t, "records").([]any)
		events += len(records)
	}
	if events != 40 {
		t.Errorf("%d events, want 40", events)
	}
	r = call(t, s, "KeyValue.MutateItems", mutate("one", ms[:10]...))
	if r.status != 409 || !strings.Contains(r.body, "HW-1201") {
		t.Errorf("another group under the token: %v", r)
	}
}

// TestGroupsGoOnAtAnotherWorker when the one that brought them is lost with its directory: none is lost, and none comes
// twice.
func TestGroupsGoOnAtAnotherWorker(t *testing.T) {
	t.Parallel()
	groupsMove(t, kafkaFake(t))
}

func TestEngineKafkaGroupsGoOnAtAnotherWorker(t *testing.T) { groupsMove(t, kafkaEngine(t)) }

func groupsMove(t *testing.T, brokers []string) {
	t.Helper()
	c := newSplit(t, brokers)
	const n = 60
	var ids []string
	write := func(i int) {
		until(t, "a group is taken", func() bool {
			r := call(t, c.gateway, "KeyValue.MutateItems", mutate(fmt.Sprint("g", i), put(fmt.Sprint("r", i), "1"), added("c", 1), put(fmt.Sprint("s", i), "1")))
			if r.status != http.StatusOK {
				return false
			}
			ids = append(ids, r.field(t, "groupId").(string))
			return true
		})
	}
	write(0) // it makes the namespace
	groupDone(t, c.gateway, ids[0])
	more := []*Server{c.open(t, Worker, t.TempDir()), c.open(t, Worker, t.TempDir())} // of two workers one might have all
	until(t, "another worker has a part", func() bool {
		x, parts := spaceOf(t, c.gateway, gateway.GroupsNamespace), make(map[string]bool)
		for p := range wal.Partition(x.log.Info().Partitions) {
			if h, ok := x.claims.Holder(p); ok {
				parts[h.Process] = true
			} else {
				return false
			}
		}
		return parts[more[0].process] || parts[more[1].process]
	})
	for i := 1; i < n; i++ {
		if i == n/2 {
			for _, s := range more {
				closeServer(t, s)
			}
		}
		write(i)
	}
	for _, id := range ids {
		groupDone(t, c.gateway, id)
	}
	if count := countOf(t, c.gateway, "demo-counter", "c"); count != fmt.Sprint(n) {
		t.Errorf("the count is %s, want %d", count, n)
	}
	for i := range n {
		for _, id := range []string{"r", "s"} {
			r := call(t, c.gateway, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"demo-kv","id":"%s%d","consistency":"LATEST"}`, id, i))
			if items, _ := r.field(t, "items").([]any); len(items) != 1 {
				t.Errorf("record %s%d is %v", id, i, r)
			}
		}
	}
}
