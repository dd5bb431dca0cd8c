package server

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/wal"
)

// kafkaEngine returns the address of a real broker, or skips; a skip is a failure
// where HEADWATER_REQUIRE_ENGINES names kafka.
func kafkaEngine(t *testing.T) []string {
	t.Helper()
	if at := os.Getenv("HEADWATER_TEST_KAFKA"); at != "" {
		return strings.Split(at, ",")
	}
	if slices.Contains(strings.Split(os.Getenv("HEADWATER_REQUIRE_ENGINES"), ","), "kafka") {
		t.Fatal("HEADWATER_TEST_KAFKA is not set, and HEADWATER_REQUIRE_ENGINES names kafka")
	}
	t.Skip("no real broker: HEADWATER_TEST_KAFKA is not set")
	return nil
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
