package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// logged keeps what a server logs.
type logged struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// says is an answer when the log has the text, for eventually.
func (l *logged) says(text string) func() reply {
	return func() reply {
		if strings.Contains(l.String(), text) {
			return reply{status: http.StatusOK}
		}
		return reply{body: l.String()}
	}
}

func admin(t *testing.T, s *Server, path string) reply {
	t.Helper()
	return get(t, "http://"+inside(s).AdminAddr()+path)
}

// TestNamespaceThatShedsForTokensSaysSo: it is ready, so its store, its readiness
// and the log must tell.
func TestNamespaceThatShedsForTokensSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out logged
	serve := func() *Server {
		s, err := Open(t.Context(), Config{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := serve()
	apply := func(limit int) {
		t.Helper()
		expectBody(t, call(t, s, "Namespace.ApplyNamespace", fmt.Sprintf(`{"config":"namespace: few\nabstraction: kv\ntokens: {max_live: %d}\n"}`, limit)), http.StatusOK, "")
	}
	apply(3)
	if r := admin(t, s, "/readyz?namespace=few"); r.status != http.StatusOK {
		t.Errorf("ready before: %v", r)
	}
	n := 0
	put := func() reply { n++; return send(t, s, http.MethodPut, fmt.Sprintf("/v1/kv/few/id/%d", n), "v") }
	eventually(t, http.StatusTooManyRequests, put)

	told := func() {
		t.Helper()
		status := call(t, s, "Admin.Status", `{"namespace":"few"}`)
		store := status.field(t, "namespaces").([]any)[0].(map[string]any)
		if store["tokensLimit"] != "3" || store["tokensLive"] == "0" {
			t.Errorf("tokens are %v of %v", store["tokensLive"], store["tokensLimit"])
		}
		expectBody(t, status, http.StatusOK, "writes are shed (HW-1403)")
		expectBody(t, admin(t, s, "/readyz?namespace=few"), http.StatusServiceUnavailable, "HW-1403")
		if r := admin(t, s, "/readyz"); r.status != http.StatusOK {
			t.Errorf("one namespace makes the process unready: %v", r)
		}
		eventually(t, http.StatusOK, out.says("a namespace sheds writes"))
	}
	told()
	closeServer(t, s)

	// A directory that has more than the limit, as of the start.
	out.mu.Lock()
	out.text.Reset()
	out.mu.Unlock()
	s = serve()
	defer closeServer(t, s)
	told()

	apply(1000)
	eventually(t, http.StatusNoContent, put)
	eventually(t, http.StatusOK, out.says("has room for tokens again"))
	if r := admin(t, s, "/readyz?namespace=few"); r.status != http.StatusOK {
		t.Errorf("ready afterwards: %v", r)
	}
	if got := s.spaces.liveTokens(context.Background(), "few"); got < 3 {
		t.Errorf("%d tokens are live", got)
	}
}
