package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/wal"
)

const spreadCounters = "namespace: likes\nabstraction: counter\nlog: {partitions: 4}\ncounter: {windows: [1s, 1m]}\nstorage:\n  - {role: PRIMARY, type: cassandra, cluster: main}\n"

// ask calls until it is answered, for as long as nobody applies the partition.
func (c *spread) ask(t *testing.T, method, body string) *reply {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		r := call(t, c.gateway, method, body)
		switch {
		case r.status == http.StatusOK:
			return &r
		case r.status == http.StatusServiceUnavailable && time.Now().Before(deadline):
			<-time.After(20 * time.Millisecond)
		default:
			t.Errorf("%s %s: %d %s", method, body, r.status, r.body)
			return nil
		}
	}
}

// tally is what one caller has done to its counter.
type tally struct {
	name   string
	value  int64
	held   int64 // by what it has reserved and not ended
	number int
}

// step adds to the counter in some way, and sends each call twice: one effect, one answer.
func (c *spread) step(t *testing.T, w *tally) {
	t.Helper()
	w.number++
	twice := func(method, body string) *reply {
		t.Helper()
		a, b := c.ask(t, method, body), c.ask(t, method, body)
		if a == nil || b == nil {
			return nil
		}
		for _, field := range []string{"count", "appliedDelta", "reservationId"} {
			if x, y := a.part(t, field), b.part(t, field); x != y {
				t.Errorf("%s: %s is %s, and %s of the copy", w.name, field, x, y)
			}
		}
		return a
	}
	token := fmt.Sprintf(`"token":{"key":"%s-%d"}`, w.name, w.number)
	switch w.number % 5 {
	case 0: // an hour ago: the bucket of no window is open
		w.value += 7
		twice("Counter.AddCount", fmt.Sprintf(`{"namespace":"likes","counter":%q,"delta":7,"eventTime":%q,%s}`, w.name, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), token))
	case 1:
		w.value += 30
		twice("Counter.AddCounts", fmt.Sprintf(`{"namespace":"likes","adds":[{"counter":%q,"delta":10},{"counter":%q,"delta":20}],%s}`, w.name, w.name, token))
	case 2:
		w.held += 2
		r := twice("Counter.ReserveCount", fmt.Sprintf(`{"namespace":"likes","counter":%q,"amount":2,"lease":"3600s",%s}`, w.name, token))
		if r == nil || w.number%10 != 2 { // half of them stay
			return
		}
		w.held -= 2
		w.value -= 2
		id := r.field(t, "reservationId")
		twice("Counter.SettleReservation", fmt.Sprintf(`{"namespace":"likes","reservationId":%q,"token":{"key":"%s-%d-end"}}`, id, w.name, w.number))
	default:
		w.value++
		r := twice("Counter.AddAndGetCount", fmt.Sprintf(`{"namespace":"likes","counter":%q,"delta":1,%s}`, w.name, token))
		if r != nil && !strings.Contains(r.part(t, "count"), fmt.Sprintf(`"value":"%d"`, w.value)) {
			t.Errorf("%s: after %d calls %s, not %d", w.name, w.number, r.body, w.value)
		}
	}
}

// part is a field of an answer as it was sent, empty where it is not there.
func (r *reply) part(t *testing.T, field string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	if field == "count" && m[field] != nil {
		var count struct {
			Value string `json:"value"`
			Held  string `json:"held"`
		}
		if err := json.Unmarshal(m[field], &count); err != nil {
			t.Fatalf("%v: %s", err, r.body)
		}
		return fmt.Sprintf(`"value":"%s","held":"%s"`, count.Value, count.Held)
	}
	return string(m[field])
}

// check reads the counter in every way.
func (c *spread) check(t *testing.T, w *tally) {
	t.Helper()
	if r := c.ask(t, "Counter.GetCount", fmt.Sprintf(`{"namespace":"likes","counter":%q,"accuracy":"ACCURATE"}`, w.name)); r != nil {
		held := fmt.Sprint(w.held)
		if w.held == 0 {
			held = ""
		}
		if got, want := r.part(t, "count"), fmt.Sprintf(`"value":"%d","held":%q`, w.value, held); got != want {
			t.Errorf("%s is %s, not %s", w.name, got, want)
		}
	}
	now := time.Now().UTC()
	r := c.ask(t, "Counter.GetCountSeries", fmt.Sprintf(`{"namespace":"likes","counter":%q,"interval":{"start":%q,"end":%q},"granularity":"60s"}`, w.name,
		now.Add(-2*time.Hour).Truncate(time.Minute).Format(time.RFC3339), now.Add(time.Minute).Truncate(time.Minute).Format(time.RFC3339)))
	if r == nil {
		return
	}
	var series struct {
		Points []struct{ Sum string }
	}
	if err := json.Unmarshal([]byte(r.body), &series); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	sum := int64(0)
	for _, p := range series.Points {
		n := int64(0)
		if _, err := fmt.Sscan(p.Sum, &n); err == nil {
			sum += n
		}
	}
	if sum != w.value {
		t.Errorf("%s: the windows come to %d, not %d: %s", w.name, sum, w.value, r.body)
	}
	if r := c.ask(t, "Counter.VerifyCount", fmt.Sprintf(`{"namespace":"likes","counter":%q}`, w.name)); r != nil {
		if drift := r.part(t, "drift"); drift != "" && drift != `"0"` {
			t.Errorf("%s: %s", w.name, r.body)
		}
	}
}

// TestEngineCassandraCountersMove: workers come and go, planned and not, one with an old store and some with none, while
// callers add, reserve and settle: nothing is lost or counted twice, in the counts, what is held, the windows and the
// recounts.
func TestEngineCassandraCountersMove(t *testing.T) {
	t.Parallel()
	c := newSpread(t)
	s, old := c.gateway, t.TempDir()
	c.add(t, old)
	is(t, "make", applyDoc(t, s, spreadCounters))
	c.shares(t, "likes", 4)
	stop := make(chan struct{})
	var work sync.WaitGroup
	tallies := make([]tally, 6)
	for i := range tallies {
		w := &tallies[i]
		w.name = fmt.Sprintf("c%d", i)
		work.Go(func() {
			for !t.Failed() {
				select {
				case <-stop:
					return
				default:
					c.step(t, w)
				}
			}
		})
	}
	pause := func() { <-time.After(1200 * time.Millisecond) } // more than a publication apart
	pause()
	c.add(t, t.TempDir())
	c.shares(t, "likes", 2, 2)
	pause()
	c.stop(t, 0, c.drain(t))
	c.shares(t, "likes", 0, 4)
	pause()
	c.add(t, old)
	c.shares(t, "likes", 0, 2, 2)
	pause()
	c.stop(t, 1, (*Server).Close)
	c.shares(t, "likes", 0, 0, 4)
	pause()
	c.add(t, t.TempDir())
	c.shares(t, "likes", 0, 0, 2, 2)
	pause()
	close(stop)
	work.Wait()
	all := 0
	for i := range tallies {
		c.check(t, &tallies[i])
		all += tallies[i].number
	}
	t.Logf("%d calls, each twice", all)
	list := c.ask(t, "Counter.ListCounts", `{"namespace":"likes"}`)
	for i := range tallies {
		if list != nil && !strings.Contains(list.body, fmt.Sprintf("%q", tallies[i].name)) {
			t.Errorf("%s is not in the list: %s", tallies[i].name, list.body)
		}
	}
	// While nobody applies it, the latest rollup is what was published.
	c.stop(t, 2, c.drain(t))
	c.stop(t, 3, c.drain(t))
	for i := range tallies {
		w := &tallies[i]
		if r := c.ask(t, "Counter.GetCount", fmt.Sprintf(`{"namespace":"likes","counter":%q}`, w.name)); r != nil && !strings.Contains(r.part(t, "count"), fmt.Sprintf(`"value":"%d"`, w.value)) {
			t.Errorf("%s is %s without an owner, not %d", w.name, r.body, w.value)
		}
	}
	c.add(t, t.TempDir())
	c.shares(t, "likes", 0, 0, 0, 0, 4)
	for i := range tallies {
		c.step(t, &tallies[i])
		c.check(t, &tallies[i])
	}
}

// TestEngineCassandraCountersTakenFromATrimmedLog: a worker without a store takes counters over of which the log has the end
// alone, one of which has expired and was dropped.
func TestEngineCassandraCountersTakenFromATrimmedLog(t *testing.T) {
	t.Parallel()
	c := newSpread(t)
	c.add(t, t.TempDir())
	is(t, "make", applyDoc(t, c.gateway, strings.Replace(spreadCounters, "partitions: 4", "partitions: 1", 1)))
	c.shares(t, "likes", 1)
	tallies := make([]tally, 3)
	step := func() {
		t.Helper()
		for i := range tallies {
			tallies[i].name = fmt.Sprintf("c%d", i)
			c.step(t, &tallies[i])
		}
	}
	for range 23 {
		step()
	}
	c.ask(t, "Counter.AddAndGetCount", `{"namespace":"likes","counter":"mortal","delta":5,"ttl":"0.001s"}`)
	c.ask(t, "Counter.AddCount", `{"namespace":"likes","counter":"c0","delta":0}`)
	x := spaceOf(t, c.workers[0], "likes")
	b := x.primary().backend.(*counterBackend)
	until(t, "the counter that has expired is dropped and published", func() bool {
		err := x.primary().doHere(t.Context(), 0, func(ctx context.Context) error {
			_, err := b.applier.Sweep(ctx, 0, time.Hour, b.fold(0), 1000)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.replica().SaveAll(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if err := b.publishNow(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		step()
		snap, err := b.pebble.Snapshot(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		_, there, err := snap.Counter([]byte("mortal"))
		if err != nil || snap.Close() != nil {
			t.Fatal(err)
		}
		return !there && x.claims.Standing(0).Applied > 40
	})
	end := x.claims.Standing(0).Applied
	if err := x.log.Trim(t.Context(), 0, end-30); err != nil {
		t.Fatal(err)
	}
	step()
	c.add(t, t.TempDir())
	c.stop(t, 0, (*Server).Close)
	c.shares(t, "likes", 0, 1)
	for i := range tallies {
		c.check(t, &tallies[i])
	}
	step()
	for i := range tallies {
		c.check(t, &tallies[i])
	}
	if p := spaceOf(t, c.workers[1], "likes").primary(); p.ledgerAt(t.Context(), 0) == wal.NoOffset {
		t.Error("nothing is applied")
	}
	if r := c.ask(t, "Counter.GetCount", `{"namespace":"likes","counter":"mortal","accuracy":"ACCURATE"}`); r != nil && strings.Contains(r.part(t, "count"), `"value":"5"`) {
		t.Errorf("a counter that was dropped is back: %s", r.body)
	}
}

// TestEngineCassandraCountersAway: while Cassandra does not answer, counters go on where they are applied, and no worker takes
// them from there; where nobody applies them adds are taken. When it is back all is there.
func TestEngineCassandraCountersAway(t *testing.T) {
	t.Parallel()
	main := cassandraCluster(t)
	way := newCuttable(t, main.Hosts[0])
	main.Hosts = []string{way.l.Addr().String()}
	c := newSpreadOn(t, main)
	c.add(t, t.TempDir())
	is(t, "make", applyDoc(t, c.gateway, spreadCounters))
	c.shares(t, "likes", 4)
	tallies := make([]tally, 4)
	step := func() {
		t.Helper()
		for i := range tallies {
			tallies[i].name = fmt.Sprintf("c%d", i)
			c.step(t, &tallies[i])
		}
	}
	check := func() {
		t.Helper()
		for i := range tallies {
			c.check(t, &tallies[i])
		}
	}
	for range 12 {
		step()
	}
	check()
	// The log begins where it is told that all is published: a worker without a store needs that.
	x := spaceOf(t, c.workers[0], "likes")
	partitions := wal.Partition(x.log.Info().Partitions)
	until(t, "it is told that something of every partition is published", func() bool {
		step()
		for p := range partitions {
			if b, err := x.log.Bounds(t.Context(), p); err != nil || b.End > 0 && x.claims.Standing(p).Applied < 0 {
				return false
			}
		}
		return true
	})
	trimmed := 0
	for p := range partitions {
		if told := x.claims.Standing(p).Applied; told > 0 {
			if err := x.log.Trim(t.Context(), p, told); err != nil {
				t.Fatal(err)
			}
			trimmed++
		}
	}
	way.set(true)
	for range 120 { // more than what a claim leaves to be read after it
		step()
	}
	check()
	c.add(t, t.TempDir())
	<-time.After(2 * time.Second) // it is assigned some by now
	if got := c.held("likes"); got[0] < trimmed {
		t.Errorf("the workers have %v, and the second cannot have what is not in the log", got)
	}
	step()
	check()
	way.set(false)
	c.shares(t, "likes", 2, 2)
	step()
	check()
	way.set(true)
	step()
	c.stop(t, 0, (*Server).Close)
	for i := range tallies {
		w := &tallies[i]
		w.value += 3
		c.ask(t, "Counter.AddCount", fmt.Sprintf(`{"namespace":"likes","counter":%q,"delta":3}`, w.name))
	}
	way.set(false)
	c.shares(t, "likes", 0, 4)
	check()
	step()
	check()
}

// TestEngineCassandraCountersOfOneProcess: with an embedded log counters on Cassandra have a home, and are published; what was
// published goes with the namespace.
func TestEngineCassandraCountersOfOneProcess(t *testing.T) {
	t.Parallel()
	main, dir := cassandraCluster(t), t.TempDir()
	s := withCluster(t, dir, main)
	refused(t, "a second store", applyDoc(t, s, spreadCounters+"  - {role: SHADOW, type: pebble}\n"), http.StatusBadRequest, "HW-1019", "NOT_APPLIED")
	is(t, "make", applyDoc(t, s, spreadCounters))
	add := func(s *Server, token string) {
		t.Helper()
		is(t, "add", call(t, s, "Counter.AddCount", fmt.Sprintf(`{"namespace":"likes","counter":"it''s; DROP","delta":3,"token":{"key":%q}}`, token)))
	}
	add(s, "one")
	db, err := gocql.NewCluster(enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra")).CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows := func() (n int) {
		t.Helper()
		if err := db.Query("SELECT count(*) FROM " + main.Keyspace + ".counter_rows_1 WHERE bucket >= 0 ALLOW FILTERING").Scan(&n); err != nil {
			return -1 // the tables are made with the first row
		}
		return n
	}
	until(t, "the counter is published", func() bool { return rows() == 1 })
	closeServer(t, s)
	s = withCluster(t, dir, main)
	add(s, "one")
	add(s, "two")
	is(t, "read", call(t, s, "Counter.GetCount", `{"namespace":"likes","counter":"it''s; DROP","accuracy":"ACCURATE"}`), "count.value", "6")
	refused(t, "a rebuild", call(t, s, "Admin.Rebuild", `{"namespace":"likes"}`), http.StatusNotImplemented, "HW-1107", "NOT_APPLIED")
	is(t, "delete", call(t, s, "Namespace.DeleteNamespace", `{"namespace":"likes","confirm":"likes"}`))
	until(t, "its rows are gone", func() bool { return rows() == 0 })
}
