package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/wal"
)

// kafkaEngine returns the address of a real broker, or skips; a skip is a failure
// where HEADWATER_REQUIRE_ENGINES names kafka.
func kafkaEngine(t *testing.T) []string {
	t.Helper()
	return strings.Split(enginetest.Need(t, "HEADWATER_TEST_KAFKA", "kafka"), ",")
}

func kafkaFake(t *testing.T) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// onKafka is a process on a cluster. Each test has topics of its own by prefix.
func onKafka(t *testing.T, brokers []string, prefix, dir string) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, Config{DataDir: dir, Demo: true, KafkaBrokers: brokers, ReplicationFactor: 1, TopicPrefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(ctx); err != nil {
		t.Error(errors.Join(err, s.Close()))
		t.FailNow()
	}
	return s
}

func newPrefix() string { return "headwater-test-" + wal.NewIncarnation().String() }

func closeServer(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// dropTopics removes what a test has left on a cluster that outlives it.
func dropTopics(t *testing.T, s *Server) {
	t.Helper()
	topics, err := s.broker.Topics(t.Context())
	if err != nil {
		t.Errorf("list topics: %v", err)
	}
	for _, topic := range topics {
		if err := s.broker.Delete(t.Context(), topic.Name); err != nil {
			t.Errorf("delete topic: %v", err)
		}
	}
}

func expectBody(t *testing.T, r reply, status int, body string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, body) {
		t.Fatalf("answer is %v, not %d with %q", r, status, body)
	}
}

const greeting = "/v1/kv/demo-kv/greeting/en"

func TestEngineKafkaRoundTripAndRestart(t *testing.T) { roundTripAndRestart(t, kafkaEngine(t)) }

func TestKafkaModeRoundTripAndRestart(t *testing.T) { roundTripAndRestart(t, kafkaFake(t)) }

func roundTripAndRestart(t *testing.T, brokers []string) {
	prefix, dir := newPrefix(), t.TempDir()
	s := onKafka(t, brokers, prefix, dir)
	expectBody(t, send(t, s, http.MethodPut, greeting, "good morning", "Idempotency-Key", "k1"), http.StatusNoContent, "")
	expectBody(t, send(t, s, http.MethodGet, greeting, ""), http.StatusOK, "good morning")
	expectBody(t, send(t, s, http.MethodPost, "/v1/log/demo-log/k", "hello"), http.StatusOK, "SUCCEEDED")
	closeServer(t, s)

	s = onKafka(t, brokers, prefix, dir)
	expectBody(t, send(t, s, http.MethodGet, greeting, ""), http.StatusOK, "good morning")
	expectBody(t, send(t, s, http.MethodGet, "/v1/log/demo-log?from=earliest", ""), http.StatusOK, "aGVsbG8=")
	// The token is known to the new process too: the same key, another value.
	expectBody(t, send(t, s, http.MethodPut, greeting, "good night", "Idempotency-Key", "k1"), http.StatusConflict, "already_exists")
	expectBody(t, send(t, s, http.MethodGet, greeting, ""), http.StatusOK, "good morning")
	dropTopics(t, s)
	closeServer(t, s)
}

func TestEngineKafkaSecondDataDirectoryIsRefused(t *testing.T) {
	secondDataDirectory(t, kafkaEngine(t))
}

func TestKafkaModeSecondDataDirectoryIsRefused(t *testing.T) {
	secondDataDirectory(t, kafkaFake(t))
}

func secondDataDirectory(t *testing.T, brokers []string) {
	prefix := newPrefix()
	owner := onKafka(t, brokers, prefix, t.TempDir())
	expectBody(t, send(t, owner, http.MethodPut, greeting, "mine"), http.StatusNoContent, "")
	other := onKafka(t, brokers, prefix, t.TempDir())

	put := send(t, other, http.MethodPut, greeting, "theirs")
	expectBody(t, put, http.StatusServiceUnavailable, "HW-1509")
	if got := put.field(t, "outcome"); got != "NOT_APPLIED" {
		t.Errorf("outcome of a refused put is %v", got)
	}
	if got := put.field(t, "metadata.owner"); got != owner.dir.id {
		t.Errorf("owner of a refused put is %v, not %s", got, owner.dir.id)
	}
	expectBody(t, send(t, other, http.MethodGet, greeting, ""), http.StatusServiceUnavailable, "HW-1509")
	status := call(t, other, "Admin.Status", "{}")
	if !strings.Contains(status.body, "HW-1509") || !strings.Contains(status.body, owner.dir.id) {
		t.Errorf("status does not say who owns the namespace: %s", status.body)
	}
	// A namespace without an embedded store is everybody's.
	expectBody(t, send(t, other, http.MethodPost, "/v1/log/demo-log/k", "hello"), http.StatusOK, "SUCCEEDED")
	closeServer(t, other)

	expectBody(t, send(t, owner, http.MethodGet, greeting, ""), http.StatusOK, "mine")
	dropTopics(t, owner)
	closeServer(t, owner)
}

func TestKafkaModeNamesBrokersThatDoNotAnswer(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	brokers := c.ListenAddrs()
	c.Close()
	_, err = Open(t.Context(), Config{DataDir: t.TempDir(), KafkaBrokers: brokers, ReplicationFactor: 1, StartTimeout: 300 * time.Millisecond})
	if !errors.Is(err, wal.ErrUnavailable) || !strings.Contains(err.Error(), brokers[0]) || !strings.Contains(err.Error(), "--kafka-brokers") {
		t.Fatalf("error is %v", err)
	}
}

// TestKafkaModeReapsTopicsOfDeletedNamespaces puts the topic of a deleted
// namespace back, as a crash between the delete and the cleaning up leaves it.
func TestKafkaModeReapsTopicsOfDeletedNamespaces(t *testing.T) {
	t.Parallel()
	brokers, prefix, dir := kafkaFake(t), newPrefix(), t.TempDir()
	s := onKafka(t, brokers, prefix, dir)
	e, _ := s.names.Get("demo-kv")
	expectBody(t, call(t, s, "Namespace.DeleteNamespace", `{"namespace":"demo-kv","confirm":"demo-kv"}`), http.StatusOK, "")
	if _, err := s.broker.Create(t.Context(), wal.TopicSpec{Name: e.Topic, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	closeServer(t, s)

	s = onKafka(t, brokers, prefix, dir) // makes demo-kv again, in its second life
	defer closeServer(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.reap(ctx) // after it, that of the start has ended or has nothing left to do
	if _, err := s.broker.Open(ctx, e.Topic); !errors.Is(err, wal.ErrTopicNotFound) {
		t.Fatalf("topic %s of a deleted namespace: %v", e.Topic, err)
	}
}

// TestEngineKafkaCounters and its twin on kfake follow counters over partitions
// through their whole life: everything here comes back from Kafka alone.
func TestEngineKafkaCounters(t *testing.T) { countersOnKafka(t, kafkaEngine(t)) }

func TestKafkaModeCounters(t *testing.T) { countersOnKafka(t, kafkaFake(t)) }

const (
	kafkaCounters  = 40 // of which every partition has some
	kafkaBatch     = 1000
	kafkaDelta     = 3
	kafkaEventTime = "2026-01-01T00:00:30Z"
)

// addsOnKafka is a call of 1,000 adds, 25 of kafkaDelta to each counter.
func addsOnKafka() string {
	var b strings.Builder
	b.WriteString(`"adds":[`)
	for i := range kafkaBatch {
		fmt.Fprintf(&b, `{"counter":"c%d","delta":%d,"eventTime":"%s"},`, i%kafkaCounters, kafkaDelta, kafkaEventTime)
	}
	return strings.TrimSuffix(b.String(), ",") + `]`
}

func countersOnKafka(t *testing.T, brokers []string) {
	prefix, dir := newPrefix(), t.TempDir()
	s := onKafka(t, brokers, prefix, dir)
	for _, doc := range []string{
		"namespace: plays\nabstraction: counter\nlog: {partitions: 4}\n",
		"namespace: loose\nabstraction: counter\nlog: {partitions: 2}\ncounter: {accuracy: best_effort}\n",
	} {
		is(t, "apply", call(t, s, "Namespace.ApplyNamespace", fmt.Sprintf(`{"config":%q}`, doc)))
	}
	on := func(s *Server, method, body string) reply {
		t.Helper()
		return call(t, s, "Counter."+method, `{"namespace":"plays",`+body+`}`)
	}
	adds := addsOnKafka()
	is(t, "batch", on(s, "AddCounts", adds+`,"token":{"key":"batch"}`), "result.duplicate", "NO", "result.durability", string(s.Guarantee()))
	is(t, "batch again", on(s, "AddCounts", adds+`,"token":{"key":"batch"}`), "result.duplicate", "YES")
	l := topic(t, s, "plays")
	for p := range l.Info().Partitions {
		if b, err := l.Bounds(t.Context(), partition(p)); err != nil || b.End == b.Start {
			t.Errorf("partition %d has %v, %v: the batch is to reach every one", p, b, err)
		}
	}

	capped := `"counter":"c0","delta":100,"bounds":{"ceiling":100,"onViolation":"SATURATE"},"token":{"key":"capped"}`
	const each = kafkaBatch / kafkaCounters * kafkaDelta
	for _, dup := range []string{"false", "true"} {
		is(t, "add and get", on(s, "AddAndGetCount", capped), "count.value", "100", "appliedDelta", strconv.Itoa(100-each), "violation", "CEILING", "duplicate", dup)
	}
	reserve := `"counter":"c1","amount":10,"lease":"3600s","token":{"key":"settled"}`
	id := on(s, "ReserveCount", reserve).field(t, "reservationId").(string)
	is(t, "settle", on(s, "SettleReservation", `"reservationId":"`+id+`","amount":4,"token":{"key":"s"}`), "count.value", strconv.Itoa(each-4), "count.held", "0")
	is(t, "clear", on(s, "ClearCount", `"counter":"c2"`), "result.duplicate", "NO")
	is(t, "after the clear", on(s, "AddAndGetCount", `"counter":"c2","delta":5`), "count.value", "5")
	held := on(s, "ReserveCount", `"counter":"c3","amount":10,"lease":"3600s","token":{"key":"held"}`).field(t, "reservationId").(string)

	loose := call(t, s, "Counter.AddCounts", `{"namespace":"loose",`+adds+`}`)
	is(t, "best effort", loose, "result.durability", "BUFFERED", "result.position", "", "result.duplicate", "UNKNOWN")
	if w := loose.field(t, "result.lossWindow"); w == nil || w == "0s" {
		t.Errorf("what can be lost: %s", loose)
	}

	check := func(s *Server, when string) {
		t.Helper()
		for i := range kafkaCounters {
			name, want, reserved := fmt.Sprintf("c%d", i), each, 0
			switch i {
			case 0:
				want = 100
			case 1:
				want = each - 4
			case 2:
				want = 5
			case 3:
				reserved = 10
			}
			is(t, when+": "+name, on(s, "GetCount", `"counter":"`+name+`","accuracy":"ACCURATE"`),
				"count.value", strconv.Itoa(want), "count.held", strconv.Itoa(reserved), "count.accuracy", "ACCURATE", "count.pending", "0")
			is(t, when+": verify "+name, on(s, "VerifyCount", `"counter":"`+name+`"`), "stored.value", strconv.Itoa(want), "recounted", strconv.Itoa(want), "drift", "0")
		}
		series := on(s, "GetCountSeries", `"counter":"c7","interval":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:02:00Z"},"granularity":"60s"`)
		if got := fmt.Sprint(series.field(t, "points")); got != fmt.Sprintf("[map[adds:25 start:2026-01-01T00:00:00Z sum:%d] map[adds:0 start:2026-01-01T00:01:00Z sum:0]]", each) {
			t.Errorf("%s: series: %s", when, got)
		}
		is(t, when, on(s, "AddCounts", adds+`,"token":{"key":"batch"}`), "result.duplicate", "YES")
		refused(t, when, on(s, "AddCounts", `"adds":[{"counter":"c0","delta":1}],"token":{"key":"batch"}`), 409, "HW-1201", "NOT_APPLIED")
		is(t, when, on(s, "AddAndGetCount", capped), "count.value", "100", "appliedDelta", strconv.Itoa(100-each), "duplicate", "true")
		is(t, when, on(s, "ReserveCount", reserve), "reservationId", id, "result.duplicate", "YES")
		refused(t, when, on(s, "CancelReservation", `"reservationId":"`+id+`"`), 400, "HW-1210", "NOT_APPLIED")
		eventually(t, http.StatusOK, func() reply {
			// An answer at once: what is buffered arrives when the log has it.
			r := call(t, s, "Counter.GetCount", `{"namespace":"loose","counter":"c0"}`)
			if r.status == http.StatusOK && r.field(t, "count.value") != strconv.Itoa(each) {
				r.status = http.StatusAccepted
			}
			return r
		})
	}
	check(s, "at first")
	closeServer(t, s)

	s = onKafka(t, brokers, prefix, dir)
	check(s, "after a restart")
	closeServer(t, s)

	if err := os.RemoveAll(filepath.Join(dir, "stores")); err != nil {
		t.Fatal(err)
	}
	s = onKafka(t, brokers, prefix, dir)
	check(s, "after a rebuild")
	is(t, "a hold outlives the store", on(s, "CancelReservation", `"reservationId":"`+held+`"`), "count.value", strconv.Itoa(each), "count.held", "0")
	dropTopics(t, s)
	closeServer(t, s)
}

// TestKafkaModeStatusKnowsNoDisk: the brokers' disks are not this machine's.
func TestKafkaModeStatusKnowsNoDisk(t *testing.T) {
	t.Parallel()
	s := onKafka(t, kafkaFake(t), newPrefix(), t.TempDir())
	defer closeServer(t, s)
	is(t, "status on Kafka", call(t, s, "Admin.Status", "{}"), "log.type", "kafka", "log.diskFreeBytes", "-1")
}

// TestKafkaModeSaysWhatAnAcknowledgementIsWorth on one broker and on three, to all
// who are acknowledged, and in Status and the log.
func TestKafkaModeSaysWhatAnAcknowledgementIsWorth(t *testing.T) {
	t.Parallel()
	for brokers, want := range map[int]string{1: "UNREPLICATED", 3: "QUORUM"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c, err := kfake.NewCluster(kfake.NumBrokers(brokers))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			var log lines
			s, err := Open(t.Context(), Config{
				DataDir: t.TempDir(), Demo: true, KafkaBrokers: c.ListenAddrs(), ReplicationFactor: brokers, TopicPrefix: newPrefix(),
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer closeServer(t, s)
			if err := s.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			write := map[string]reply{
				"put":       call(t, s, "KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"aw==","value":"dg=="}]}`),
				"delete":    call(t, s, "KeyValue.DeleteItems", `{"namespace":"demo-kv","id":"a","predicate":{"matchAll":{}}}`),
				"add":       call(t, s, "Counter.AddCount", `{"namespace":"demo-counter","counter":"a","delta":1}`),
				"clear":     call(t, s, "Counter.ClearCount", `{"namespace":"demo-counter","counter":"a"}`),
				"message":   call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","payload":"dg=="}`),
				"add again": call(t, s, "Counter.AddAndGetCount", `{"namespace":"demo-counter","counter":"a","delta":1}`),
			}
			for what, r := range write {
				is(t, what, r, "result.durability", want)
			}
			status := call(t, s, "Admin.Status", "{}")
			is(t, "status", status, "durability", want)
			if got := strings.Count(status.body, `"durability":"`+want+`"`); got != 1+len(s.spaces.opened()) {
				t.Errorf("%d times %s in %s", got, want, status.body)
			}
			warned := strings.Contains(status.body, "demo-counter, demo-kv, demo-log, demo-timeseries, the namespace registry may be lost with one broker")
			if warned != (brokers == 1) || warned != (len(s.Warnings()) == 1) {
				t.Errorf("status warns: %v: %s", warned, status.body)
			}
			s.lookForWarnings(make(map[string]string)) // as the one at the start may be under way
			if said := strings.Contains(log.String(), "UNREPLICATED"); said != (brokers == 1) {
				t.Errorf("the log warns: %v: %s", said, log.String())
			}
		})
	}
}

// lines is a log that several goroutines write and a test reads.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
