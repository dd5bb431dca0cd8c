package httpjson

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// FuzzRequest sends anything and expects either success or the error body, and
// never a panic (which the handler would turn into HW-1902).
func FuzzRequest(f *testing.F) {
	f.Add("POST", putPath, "", `{"namespace":"n"}`, "Idempotency-Key", "k")
	f.Add("POST", chunkPath, "", "{}\n{\"data\":\"QQ==\"}\n", "Request-Timeout-Ms", "7")
	f.Add("POST", readPath, "", `{"from":{"earliest":{}}}`, "X-Request-Id", "\x00")
	f.Add("GET", "/v1/kv/n/i/%2F", "after=p&consistency=LATEST", "", "Headwater-TTL", "1h")
	f.Add("PUT", "/v1/kv/n/i/", "", "body", "If-Match", `"v"`)
	f.Add("DELETE", "/v1/kv/n/%ff", "", "", "If-None-Match", "*")
	f.Add("GET", "/v1/log/n", "from=2026-01-01T00:00:00Z&follow=true", "", "Origin", "null")
	f.Add("POST", putPath, "", packed(f, "zstd", []byte(`{"namespace":"n"}`)), "Content-Encoding", "zstd")
	f.Add("POST", chunkPath, "", packed(f, "gzip", []byte("{}\n")), "Content-Encoding", "gzip")
	f.Add("GET", "/openapi.json", "", "", "Content-Encoding", "gzip")
	f.Add("POST", putPath, "", `{"token":{"key":"\ud83d\ude00"},"items":[{"ttl":"-1s"}]}`, "", "")
	fx := newFixture(f, Config{MaxMessageBytes: 4 << 10, MaxStreamBytes: 16 << 10})
	fx.log.read = func(_ *headwaterv1.ReadLogRequest, out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
		return out.Send(&headwaterv1.ReadLogResponse{})
	}
	fx.log.write = func(*headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
		return &headwaterv1.WriteToLogResponse{Durable: headwaterv1.WriteToLogResponse_SUCCEEDED}, nil
	}
	f.Fuzz(func(t *testing.T, method, path, query, body, headerName, headerValue string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" {
			t.Skip("net/http refuses it")
		}
		u.RawQuery = query
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		if headerName != "" {
			r.Header[http.CanonicalHeaderKey(headerName)] = []string{headerValue}
		}
		w := httptest.NewRecorder()
		fx.handler.ServeHTTP(w, r)
		if w.Code < 400 {
			return
		}
		got := map[string]any{}
		if err := json.Unmarshal(bytes.TrimSpace(w.Body.Bytes()), &got); err != nil {
			t.Fatalf("%d with %q: %v", w.Code, w.Body, err)
		}
		if got["reason"] == "HW-1902" {
			t.Fatalf("a handler panicked: %s", w.Body)
		}
		if err := checkErrorBody(got); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
	})
}
