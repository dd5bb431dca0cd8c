package server

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// partly is a cluster that does not know where the log of demo-kv begins and
// ends while away is true, and knows all else.
func partly(t *testing.T) (brokers []string, away *atomic.Bool) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	away = new(atomic.Bool)
	c.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		found := false
		for _, rt := range req.Topics {
			found = found || strings.Contains(rt.Topic, ".kv.demo-kv.")
			st := kmsg.NewListOffsetsResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewListOffsetsResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, kerr.LeaderNotAvailable.Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, found && away.Load()
	})
	return c.ListenAddrs(), away
}

// eventually asks until the answer has the status, which is what the test waits
// for; it fails when the test's time is over.
func eventually(t *testing.T, status int, ask func() reply) reply {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		r := ask()
		if r.status == status {
			return r
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("the answer stays %v, and does not become %d", r, status)
		}
	}
}

func TestKafkaModeServesANamespaceOnceItsLogAnswers(t *testing.T) {
	t.Parallel()
	brokers, away := partly(t)
	prefix, dir := newPrefix(), t.TempDir()
	s := onKafka(t, brokers, prefix, dir)
	expectBody(t, send(t, s, http.MethodPut, greeting, "good morning"), http.StatusNoContent, "")
	closeServer(t, s)

	away.Store(true)
	s, err := Open(t.Context(), Config{DataDir: dir, Demo: true, KafkaBrokers: brokers, ReplicationFactor: 1, TopicPrefix: prefix, StartTimeout: 6 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer closeServer(t, s)
	if err := s.WaitReady(t.Context()); err != nil { // one namespace does not keep the others from being served
		t.Fatal(err)
	}
	put := send(t, s, http.MethodPut, greeting, "good night")
	expectBody(t, put, http.StatusServiceUnavailable, "HW-1501")
	if got := put.field(t, "outcome"); got != "NOT_APPLIED" {
		t.Errorf("outcome of a refused put is %v", got)
	}
	expectBody(t, call(t, s, "Admin.Status", `{"namespace":"demo-kv"}`), http.StatusOK, `"state":"retrying"`)
	expectBody(t, send(t, s, http.MethodPost, "/v1/log/demo-log/k", "hello"), http.StatusOK, "SUCCEEDED")
	// What is changed meanwhile is in force when it is served.
	doc := `{"config":"namespace: demo-kv\nabstraction: kv\nlimits: {max_value: 13}\n"}`
	call(t, s, "Namespace.ApplyNamespace", doc)

	away.Store(false)
	eventually(t, http.StatusOK, func() reply { return send(t, s, http.MethodGet, greeting, "") })
	expectBody(t, send(t, s, http.MethodGet, greeting, ""), http.StatusOK, "good morning")
	put = eventually(t, http.StatusNoContent, func() reply { return send(t, s, http.MethodPut, greeting, "good night") })
	expectBody(t, put, http.StatusNoContent, "")
	expectBody(t, send(t, s, http.MethodPut, greeting, "fourteen bytes"), http.StatusBadRequest, "HW-1004")
}

// TestKafkaModeGivesUpOpeningWhatIsDeleted: the namespace is deleted while it is
// still being opened, and made again.
func TestKafkaModeGivesUpOpeningWhatIsDeleted(t *testing.T) {
	t.Parallel()
	brokers, away := partly(t)
	prefix, dir := newPrefix(), t.TempDir()
	closeServer(t, onKafka(t, brokers, prefix, dir))
	away.Store(true)
	s, err := Open(t.Context(), Config{DataDir: dir, Demo: true, KafkaBrokers: brokers, ReplicationFactor: 1, TopicPrefix: prefix, StartTimeout: 6 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer closeServer(t, s)
	expectBody(t, call(t, s, "Namespace.DeleteNamespace", `{"namespace":"demo-kv","confirm":"demo-kv"}`), http.StatusOK, "")
	expectBody(t, send(t, s, http.MethodGet, greeting, ""), http.StatusNotFound, "HW-1101")
	away.Store(false)
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", `{"config":"namespace: demo-kv\nabstraction: kv\n"}`), http.StatusOK, "")
	expectBody(t, send(t, s, http.MethodPut, greeting, "again"), http.StatusNoContent, "")
	expectBody(t, send(t, s, http.MethodGet, greeting, ""), http.StatusOK, "again")
}

// TestStatusOfAFailedNamespace: it is asked for because it has failed.
func TestStatusOfAFailedNamespace(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	s := start(t, t.TempDir())
	n, _ := s.spaces.dir.Get("demo-kv")
	n.Fail(wal.ErrCorrupt)
	r := call(t, s, "Admin.Status", `{"namespace":"demo-kv"}`)
	expectBody(t, r, http.StatusOK, `"name":"demo-kv"`)
	expectBody(t, r, http.StatusOK, `"state":"stopped"`)
	expectBody(t, r, http.StatusOK, wal.ErrCorrupt.Error())
	expectBody(t, call(t, s, "Admin.Status", `{"namespace":"nowhere"}`), http.StatusNotFound, "HW-1101")
	expectBody(t, call(t, s, "Admin.Status", `{"namespace":"No Where"}`), http.StatusBadRequest, "HW-1001")
}

// TestProcessIsClosedWhileANamespaceIsBeingOpened leaves nothing behind, which
// the check for goroutines sees.
func TestProcessIsClosedWhileANamespaceIsBeingOpened(t *testing.T) {
	t.Parallel()
	brokers, away := partly(t)
	prefix, dir := newPrefix(), t.TempDir()
	closeServer(t, onKafka(t, brokers, prefix, dir))
	away.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if s, err := Open(ctx, Config{DataDir: dir, KafkaBrokers: brokers, ReplicationFactor: 1, TopicPrefix: prefix}); err == nil {
		closeServer(t, s)
		t.Fatal("opened beyond its context")
	}
	away.Store(false)
	closeServer(t, onKafka(t, brokers, prefix, dir))
}

// TestAnotherFormatIsRefused opens data directories of an older and of a newer build.
func TestAnotherFormatIsRefused(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1", "99"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte("headwater "+version+"\nid 3MjFs1ropdkL4fDsYmgqyP6Cnje\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Config{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "has format "+version) {
			t.Errorf("format %s: %v", version, err)
		}
		if s != nil {
			t.Error("a server came of it")
		}
	}
}
