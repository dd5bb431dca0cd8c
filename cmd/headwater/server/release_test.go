package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// logLines keeps what processes log. Safe for concurrent use.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		found := true
		for _, w := range words {
			found = found && strings.Contains(line, w)
		}
		if found {
			return true
		}
	}
	return false
}

// homes are processes with data directories of their own on one cluster.
type homes struct {
	t       *testing.T
	brokers []string
	prefix  string
	log     logLines
}

func newHomes(t *testing.T, brokers []string) *homes {
	return &homes{t: t, brokers: brokers, prefix: newPrefix()}
}

func (h *homes) start(dir string) *Server {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, Config{
		DataDir: dir, Demo: true, KafkaBrokers: h.brokers, ReplicationFactor: 1, TopicPrefix: h.prefix, Logger: slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := s.WaitReady(ctx); err != nil {
		h.t.Error(errors.Join(err, s.Close()))
		h.t.FailNow()
	}
	return s
}

func release(t *testing.T, s *Server, name, more string) reply {
	t.Helper()
	return call(t, s, "Admin.ReleaseNamespace", `{"namespace":"`+name+`","confirm":"`+name+`"`+more+`}`)
}

// files are the contents of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		m[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ends are the ends of a namespace's log, and of its dead letters'.
func ends(t *testing.T, s *Server, name string) map[string]wal.Offset {
	t.Helper()
	e, ok := s.names.Get(name)
	if !ok {
		t.Fatalf("no namespace %s", name)
	}
	m := map[string]wal.Offset{}
	for _, topic := range []string{e.Topic, e.DeadLetterTopic} {
		l, err := s.broker.Open(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.Info().Partitions {
			b, err := l.Bounds(t.Context(), wal.Partition(i))
			if err != nil {
				t.Fatal(err)
			}
			m[topic+wal.Partition(i).String()] = b.End
		}
	}
	return m
}

func TestEngineKafkaAnotherDirectoryTakesOverWhatALostHomeHeld(t *testing.T) {
	takesOver(t, kafkaEngine(t))
}

func TestKafkaModeAnotherDirectoryTakesOverWhatALostHomeHeld(t *testing.T) {
	t.Parallel()
	takesOver(t, kafkaFake(t))
}

func takesOver(t *testing.T, brokers []string) {
	h, lost := newHomes(t, brokers), t.TempDir()
	a := h.start(lost)
	home := a.dir.id
	expectBody(t, send(t, a, http.MethodPut, greeting, "mine", "Idempotency-Key", "k1"), http.StatusNoContent, "")
	expectBody(t, send(t, a, http.MethodPost, "/v1/counter/demo-counter/visits?by=3", "", "Idempotency-Key", "c1"), http.StatusOK, `"3"`)
	closeServer(t, a)

	b := h.start(t.TempDir())
	defer closeServer(t, b)
	expectBody(t, send(t, b, http.MethodGet, greeting, ""), http.StatusServiceUnavailable, "HW-1509")

	// What is refused.
	expectBody(t, call(t, b, "Admin.ReleaseNamespace", `{"namespace":"demo-kv","confirm":"demo-counter"}`), http.StatusBadRequest, "HW-1028")
	expectBody(t, release(t, b, "nowhere", ""), http.StatusNotFound, "HW-1101")
	expectBody(t, release(t, b, "demo-log", ""), http.StatusBadRequest, "HW-1212")
	expectBody(t, release(t, b, "demo-kv", `,"undo":true`), http.StatusBadRequest, "HW-1212")

	dry := release(t, b, "demo-kv", `,"dryRun":true`)
	expectBody(t, dry, http.StatusOK, "rebuilds its store from the log, which is whole: ")
	if got := dry.field(t, "home"); got != home {
		t.Errorf("home of a dry run is %v, not %s", got, home)
	}
	if e, _ := b.names.Get("demo-kv"); e.Owner != home {
		t.Errorf("a dry run leaves %q as the owner", e.Owner)
	}
	for _, name := range []string{"demo-kv", "demo-counter"} {
		r := release(t, b, name, "")
		expectBody(t, r, http.StatusOK, "which is whole")
		if got := r.field(t, "home"); got != home {
			t.Errorf("%s was released from %v, not %s", name, got, home)
		}
	}
	if !h.log.has("a namespace was released from its home", "namespace=demo-kv", "home="+home, "by=127.0.0.1:", "rebuilds its store") {
		t.Error("the log does not tell of the release")
	}

	// The process that hears of it takes over by itself, tokens and all.
	eventually(t, http.StatusOK, func() reply { return send(t, b, http.MethodGet, greeting, "") })
	expectBody(t, send(t, b, http.MethodGet, greeting, ""), http.StatusOK, "mine")
	add := eventually(t, http.StatusOK, func() reply {
		return send(t, b, http.MethodPost, "/v1/counter/demo-counter/visits?by=3", "", "Idempotency-Key", "c1")
	})
	expectBody(t, add, http.StatusOK, `"duplicate":true`)
	eventually(t, http.StatusConflict, func() reply { return send(t, b, http.MethodPut, greeting, "other", "Idempotency-Key", "k1") })
	expectBody(t, send(t, b, http.MethodPut, greeting, "theirs"), http.StatusNoContent, "")
	if got := call(t, b, "Namespace.GetNamespace", `{"namespace":"demo-kv"}`).field(t, "home"); got != b.dir.id {
		t.Errorf("home is %v, not %s", got, b.dir.id)
	}

	// The former home comes back: it changes nothing, and says why.
	released := func() (s []map[string]string) {
		for _, name := range []string{"demo-kv", "demo-counter"} {
			e, _ := b.names.Get(name)
			s = append(s, files(t, filepath.Join(lost, "stores", e.Incarnation.String())))
		}
		return s
	}
	stores, logs := released(), ends(t, b, "demo-kv")
	a = h.start(lost)
	put := send(t, a, http.MethodPut, greeting, "mine again")
	expectBody(t, put, http.StatusServiceUnavailable, "HW-1515")
	if got := put.field(t, "outcome"); got != "NOT_APPLIED" {
		t.Errorf("outcome of a refused put is %v", got)
	}
	expectBody(t, put, http.StatusServiceUnavailable, "it belongs to data directory "+b.dir.id)
	expectBody(t, send(t, a, http.MethodGet, greeting, ""), http.StatusServiceUnavailable, "HW-1515")
	expectBody(t, call(t, a, "Admin.Status", `{"namespace":"demo-kv"}`), http.StatusOK, "HW-1515: data directory was released as the home of the namespace: demo-kv: since ")
	expectBody(t, release(t, a, "demo-kv", `,"undo":true`), http.StatusBadRequest, "HW-1212")
	if !h.log.has("a namespace cannot be served", "namespace=demo-kv", "was released as the home") {
		t.Error("the log of the former home does not tell that it was released")
	}
	closeServer(t, a)
	if !slices.EqualFunc(released(), stores, maps.Equal) {
		t.Error("the former home changed its stores")
	}
	if now := ends(t, b, "demo-kv"); !maps.Equal(now, logs) {
		t.Errorf("the former home wrote to the log: it ends at %v, and did at %v", now, logs)
	}
	expectBody(t, send(t, b, http.MethodGet, greeting, ""), http.StatusOK, "theirs")
	dropTopics(t, b)
}

// TestKafkaModeAHomeThatIsReleasedWhileItRunsStops: it was only cut off, as it seemed
// to the operator.
func TestKafkaModeAHomeThatIsReleasedWhileItRunsStops(t *testing.T) {
	t.Parallel()
	h := newHomes(t, kafkaFake(t))
	a, b := h.start(t.TempDir()), h.start(t.TempDir())
	defer closeServer(t, a)
	expectBody(t, send(t, a, http.MethodPut, greeting, "mine"), http.StatusNoContent, "")
	expectBody(t, release(t, a, "demo-kv", ""), http.StatusBadRequest, "this process is the home of namespace demo-kv and serves it")

	expectBody(t, release(t, b, "demo-kv", ""), http.StatusOK, "which is whole")
	refused := eventually(t, http.StatusServiceUnavailable, func() reply { return send(t, a, http.MethodPut, greeting, "mine") })
	expectBody(t, refused, http.StatusServiceUnavailable, "HW-1515")
	eventually(t, http.StatusOK, func() reply { return send(t, b, http.MethodGet, greeting, "") })
	eventually(t, http.StatusNoContent, func() reply { return send(t, b, http.MethodPut, greeting, "theirs") })
	expectBody(t, send(t, a, http.MethodPost, "/v1/counter/demo-counter/visits?by=3", ""), http.StatusOK, "") // it keeps what was not released

	// Back again: what the first home kept is in step with the log. Both directions
	// are decided in the registry, so nobody serves it beside the other.
	closeServer(t, b)
	expectBody(t, release(t, a, "demo-kv", ""), http.StatusOK, b.dir.id)
	expectBody(t, send(t, a, http.MethodGet, greeting, ""), http.StatusServiceUnavailable, "HW-1515")
	c := h.start(t.TempDir())
	defer closeServer(t, c)
	expectBody(t, send(t, c, http.MethodGet, greeting, ""), http.StatusOK, "theirs")
}

func TestKafkaModeTheNextHomeNamesWhatTheLogNoLongerHas(t *testing.T) {
	t.Parallel()
	h, former := newHomes(t, kafkaFake(t)), t.TempDir()
	a := h.start(former)
	expectBody(t, send(t, a, http.MethodPut, greeting, "mine"), http.StatusNoContent, "")
	expectBody(t, send(t, a, http.MethodGet, greeting, ""), http.StatusOK, "mine") // so the store has it
	log := topic(t, a, "demo-kv")
	var cut wal.Partition
	var end wal.Offset
	for i := range log.Info().Partitions {
		if b, err := log.Bounds(t.Context(), wal.Partition(i)); err != nil {
			t.Fatal(err)
		} else if b.End > 0 {
			cut, end = wal.Partition(i), b.End
		}
	}
	closeServer(t, a)
	b := h.start(t.TempDir())
	defer closeServer(t, b)
	if err := topic(t, b, "demo-kv").Trim(t.Context(), cut, end); err != nil {
		t.Fatal(err)
	}

	r := release(t, b, "demo-kv", "")
	expectBody(t, r, http.StatusOK, "refuses it: the log no longer has offsets 0 to "+(end-1).String()+" of partition "+cut.String())
	expectBody(t, r, http.StatusOK, `"missing":[{"partition":`+cut.String()+`,"first":"0","last":"`+(end-1).String()+`"}]`)
	missing := "offsets 0 to " + (end - 1).String() + " are in neither"
	r = eventually(t, http.StatusServiceUnavailable, func() reply {
		r := send(t, b, http.MethodGet, greeting, "")
		if !strings.Contains(r.body, missing) { // it has not tried yet
			r.status = 0
		}
		return r
	})
	expectBody(t, r, http.StatusServiceUnavailable, "HW-1514")
	if e, _ := b.names.Get("demo-kv"); e.Owner != "" {
		t.Errorf("a directory that cannot rebuild the store is the home: %q", e.Owner)
	}

	// The home was not lost after all. It does not take the namespace back by itself.
	a = h.start(former)
	defer closeServer(t, a)
	expectBody(t, send(t, a, http.MethodGet, greeting, ""), http.StatusServiceUnavailable, "no other data directory is its home yet")
	expectBody(t, release(t, a, "demo-kv", ""), http.StatusBadRequest, "HW-1212")
	expectBody(t, release(t, b, "demo-kv", `,"undo":true`), http.StatusBadRequest, "HW-1212")
	expectBody(t, release(t, a, "demo-kv", `,"undo":true,"dryRun":true`), http.StatusOK, `"version":"0"`)
	expectBody(t, release(t, a, "demo-kv", `,"undo":true`), http.StatusOK, a.dir.id)
	eventually(t, http.StatusOK, func() reply { return send(t, a, http.MethodGet, greeting, "") })
	expectBody(t, send(t, a, http.MethodGet, greeting, ""), http.StatusOK, "mine")
	eventually(t, http.StatusNoContent, func() reply { return send(t, a, http.MethodPut, greeting, "more") })
	if !h.log.has("the release of a namespace was taken back", "home="+a.dir.id) {
		t.Error("the log does not tell that the release was taken back")
	}
	expectBody(t, send(t, b, http.MethodGet, greeting, ""), http.StatusServiceUnavailable, "")
}

func TestWhatTheEmbeddedLogHoldsIsNotReleased(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	s := start(t, t.TempDir())
	expectBody(t, release(t, s, "demo-kv", ""), http.StatusBadRequest, "HW-1212")
	expectBody(t, release(t, s, "nowhere", ""), http.StatusNotFound, "HW-1101")
	expectBody(t, send(t, s, http.MethodPut, greeting, "mine"), http.StatusNoContent, "")
}

// TestANamespaceThatIsReleasedWhileItIsOpenedIsNotServed: between the claim and the
// moment at which it would be served.
func TestANamespaceThatIsReleasedWhileItIsOpenedIsNotServed(t *testing.T) {
	t.Parallel()
	h := newHomes(t, kafkaFake(t))
	s := h.start(t.TempDir())
	defer closeServer(t, s)
	e, _ := s.names.Get("demo-kv")
	sp := s.spaces
	sp.mu.Lock()
	x := sp.open["demo-kv"]
	o := &opening{entry: e, cancel: func() {}, settled: make(chan struct{}), done: make(chan struct{})}
	close(o.done)
	sp.opening["demo-kv"] = o
	sp.mu.Unlock()
	if err := sp.serve(o, x); err != nil {
		t.Fatalf("the home is not served: %v", err)
	}
	if _, err := s.names.Release(t.Context(), "demo-kv", namespace.ReleaseOptions{Confirm: "demo-kv"}); err != nil {
		t.Fatal(err)
	}
	if err := sp.serve(o, x); !errors.Is(err, namespace.ErrReleased) && !errors.Is(err, errGivenUp) {
		t.Fatalf("a home that was released is served: %v", err)
	}
	eventually(t, http.StatusServiceUnavailable, func() reply { return send(t, s, http.MethodGet, greeting, "") })
}
