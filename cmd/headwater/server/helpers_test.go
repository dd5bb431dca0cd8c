package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The default transport's idle connections outlive a test; they are ours, not
		// the server's.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		// A connection of net/http that ends with an error sleeps for half a second,
		// which is longer than goleak waits, and which no Close waits for.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"),
		// A session of gocql that hears of a change of the schema waits for the nodes to agree, up to a minute, also when it
		// is closed.
		goleak.IgnoreAnyFunction("github.com/gocql/gocql.(*Conn).awaitSchemaAgreement"))
}

// start runs a server on a directory and closes it with the test.
func start(t *testing.T, dir string) *Server {
	t.Helper()
	s := open(t, dir)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func open(t *testing.T, dir string) *Server {
	t.Helper()
	if splitAll {
		return splits.open(t, dir, nil)
	}
	s, err := Open(t.Context(), Config{DataDir: dir, Demo: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// reply is an answer over HTTP.
type reply struct {
	status int
	body   string
	header http.Header
}

func (r reply) String() string { return fmt.Sprintf("%d %.300s", r.status, r.body) }

// lines are those of an answer that is a stream.
func (r reply) lines() []string {
	if r.body == "" {
		return nil
	}
	return strings.Split(r.body, "\n")
}

func (r reply) field(t *testing.T, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("answer is not JSON: %v: %s", err, r)
	}
	for _, k := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", path, r)
		}
		v = m[k]
	}
	return v
}

func send(t *testing.T, s *Server, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return exchange(t, req)
}

func exchange(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, string(bytes.TrimSpace(b)), resp.Header}
}

func get(t *testing.T, url string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return exchange(t, req)
}

// call is an RPC over HTTP.
func call(t *testing.T, s *Server, method, body string, header ...string) reply {
	t.Helper()
	return send(t, s, http.MethodPost, "/headwater.v1."+strings.Replace(method, ".", "Service/", 1), body, header...)
}

// topic opens the log of a namespace beside the server, as another producer would.
func topic(t *testing.T, s *Server, name string) wal.Log {
	t.Helper()
	e, ok := s.names.Get(name)
	if !ok {
		t.Fatalf("no namespace %s", name)
	}
	l, err := s.broker.Open(t.Context(), e.Topic)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
