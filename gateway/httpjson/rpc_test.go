package httpjson

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func TestBodiesAreStrict(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for name, body := range map[string]string{
		"unknown field":            `{"namespace":"n","colour":"red"}`,
		"unknown field, nested":    `{"items":[{"key":"aw==","colour":1}]}`,
		"field twice":              `{"namespace":"n","namespace":"n"}`,
		"field twice in two cases": `{"items":[{"contentType":"a","content_type":"b"}]}`,
		"two of a oneof":           `{"token":{"nonce":"AAAA","key":"k"}}`,
		"trailing object":          `{"namespace":"n"}{}`,
		"trailing text":            `{"namespace":"n"} x`,
		"no JSON":                  `namespace=n`,
		"empty":                    ``,
		"a list":                   `[]`,
		"null":                     `null x`,
		"bad base64":               `{"items":[{"key":"***"}]}`,
		"wrong type":               `{"namespace":7}`,
		"bad duration":             `{"items":[{"ttl":"1h"}]}`,
		"bad time":                 `{"token":{"generationTime":"yesterday"}}`,
		"invalid UTF-8":            "{\"namespace\":\"\xff\"}",
		"lone surrogate":           `{"namespace":"\ud800"}`,
		"half an object":           `{"namespace":"n"`,
		"deep":                     strings.Repeat(`{"a":`, 20000),
	} {
		a := f.do("POST", putPath, body)
		got := a.wantError(t, 400, apierrors.MalformedRequest)
		if got["outcome"] != "NOT_APPLIED" {
			t.Errorf("%s: outcome %v", name, got["outcome"])
		}
		if len(got["message"].(string)) > 400 {
			t.Errorf("%s: message echoes the input: %v", name, got["message"])
		}
	}
	if len(f.kv.puts) != 0 {
		t.Errorf("%d bad bodies reached the handler", len(f.kv.puts))
	}
	f.do("POST", getPath, `{"consistency":"STRONG"}`).wantError(t, 400, apierrors.MalformedRequest)
	f.do("POST", getPath, `{"selection":{"itemLimit":2147483648}}`).wantError(t, 400, apierrors.MalformedRequest)
}

func TestAnswersHoldZerosAndInt64AsText(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.kv.items[itemName("n", "i", nil)] = &headwaterv1.Item{Size: 1 << 60}
	a := f.do("POST", getPath, `{"namespace":"n","id":"i","predicate":{"matchKeys":{"keys":[""]}},"selection":{"pageSizeBytes":"2048"}}`)
	for _, want := range []string{
		`"key":""`, `"value":""`, `"version":""`, `"size":"1152921504606846976"`, `"chunked":false`, `"compression":""`, `"contentType":""`,
		`"nextPageToken":""`, `"partial":false`, `"asOf":{"position":"p2","time":"`,
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %q", a.StatusCode, a.Header.Get("Content-Type"))
	}
	// Requests take int64 as text and as a number.
	f.do("POST", getPath, `{"selection":{"pageSizeBytes":2048}}`)
	f.do("POST", getPath, `{"selection":{}}`)
	if len(f.kv.gets) != 3 || f.kv.gets[0].GetSelection().GetPageSizeBytes() != 2048 || f.kv.gets[1].GetSelection().GetPageSizeBytes() != 2048 {
		t.Errorf("requests %v", f.kv.gets)
	}
	if f.kv.gets[2].GetSelection().PageSizeBytes != nil {
		t.Error("an absent page size arrives as zero")
	}
	if b := f.do("POST", putPath, `{"namespace":"n","id":"i","items":[{"key":"","ttl":"180s"}]}`); !strings.Contains(string(b.body), `"durability":"SYNC","duplicate":"NO"`) {
		t.Errorf("enums: %s", b.body)
	}
	if got := f.kv.puts[0].GetItems()[0].GetTtl().AsDuration(); got != 3*time.Minute {
		t.Errorf("ttl %v", got)
	}
}

func TestErrorBodyOfAHandler(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	token := `{"key":"order 17"}`
	for name, c := range map[string]struct {
		err        error
		status     int
		code       string
		reason     string
		outcome    string
		retryAfter any
		retry      string // the header
	}{
		"ours":       {apierrors.New(apierrors.DiskFull, "full; free space").ForWrite(apierrors.NotApplied, nil), 503, "unavailable", apierrors.DiskFull, "NOT_APPLIED", "5s", "5"},
		"short hint": {apierrors.New(apierrors.AppendUnknown, "unknown; resend"), 503, "unavailable", apierrors.AppendUnknown, "UNKNOWN", "0.200s", "1"},
		"conflict":   {apierrors.New(apierrors.TokenReused, "reused; make another"), 409, "already_exists", apierrors.TokenReused, "NOT_APPLIED", nil, ""},
		"as status":  {apierrors.New(apierrors.Overloaded, "busy; wait").GRPCStatus().Err(), 429, "resource_exhausted", apierrors.Overloaded, "NOT_APPLIED", "0.100s", "1"},
		"deadline":   {context.DeadlineExceeded, 504, "deadline_exceeded", apierrors.DeadlineExceeded, "UNKNOWN", nil, ""},
		"plain":      {errors.New("secret"), 500, "internal", apierrors.Internal, "UNKNOWN", nil, ""},
	} {
		f.kv.put = func(context.Context, *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
			return nil, c.err
		}
		a := f.do("POST", putPath, `{"token":`+token+`}`)
		body := a.wantError(t, c.status, c.reason)
		if body["code"] != c.code || body["outcome"] != c.outcome || body["retryAfter"] != c.retryAfter || a.Header.Get("Retry-After") != c.retry {
			t.Errorf("%s: %s, Retry-After %q", name, a.body, a.Header.Get("Retry-After"))
		}
		if got, ok := body["token"].(map[string]any); !ok || got["key"] != "order 17" {
			t.Errorf("%s: token %v", name, body["token"])
		}
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("the cause reaches the caller: %s", a.body)
		}
	}
	// A read's error has no outcome.
	if body := f.do("POST", statusPath, `{}`).wantError(t, 501, apierrors.NotOffered); body["outcome"] != nil {
		t.Errorf("a read has outcome %v", body["outcome"])
	}
}

func TestDeadlineHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	var left time.Duration
	f.kv.put = func(ctx context.Context, _ *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
		d, ok := ctx.Deadline()
		if !ok {
			return nil, errors.New("no deadline")
		}
		left = time.Until(d)
		return &headwaterv1.PutItemsResponse{}, nil
	}
	for value, want := range map[string]time.Duration{"": 5 * time.Second, "60000": time.Minute, "20000": 20 * time.Second} {
		var headers []string
		if value != "" {
			headers = []string{"Request-Timeout-Ms", value}
		}
		if a := f.do("POST", putPath, `{}`, headers...); a.StatusCode != 200 || left > want || left < want-4*time.Second {
			t.Errorf("%q: %s, %v left of %v", value, a.body, left, want)
		}
	}
	for _, bad := range []string{"0", "60001", "-1", "+5", "1.5", "5s", "", "99999999999999999999"} {
		f.do("POST", putPath, `{}`, "Request-Timeout-Ms", bad).wantError(t, 400, apierrors.BadDeadline)
	}
	f.do("POST", putPath, `{}`, "Request-Timeout-Ms", "5", "Request-Timeout-Ms", "6").wantError(t, 400, apierrors.BadDeadline)

	f.kv.put = func(ctx context.Context, _ *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if body := f.do("POST", putPath, `{}`, "Request-Timeout-Ms", "1").wantError(t, 504, apierrors.DeadlineExceeded); body["outcome"] != "UNKNOWN" {
		t.Errorf("outcome %v", body["outcome"])
	}
}

func TestBodyLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{MaxMessageBytes: 1000})
	if a := f.do("POST", putPath, jsonPut(make([]byte, 900))); a.StatusCode != 200 {
		t.Errorf("below the limit: %s", a.body)
	}
	// The JSON is within its limit, the message is not.
	f.do("POST", putPath, jsonPut(make([]byte, 1100))).wantError(t, 413, apierrors.RequestTooLarge)
	// The length alone is enough.
	f.do("POST", putPath, strings.Repeat(" ", 100<<10)).wantError(t, 413, apierrors.RequestTooLarge)
	if len(f.kv.puts) != 1 {
		t.Errorf("%d requests reached the handler", len(f.kv.puts))
	}
	f.do("POST", putPath, `{}`, "Content-Encoding", "br").wantError(t, 400, apierrors.UnsupportedCompression)
	// Without a length, the body is cut off at the limit.
	endless := &endlessReader{}
	req, err := http.NewRequest("POST", f.server.URL+putPath, endless)
	if err != nil {
		t.Fatal(err)
	}
	res, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 413 {
		t.Errorf("endless body: %d", res.StatusCode)
	}
}

// endlessReader is spaces for ever.
type endlessReader struct{}

func (*endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	var seen string
	f.kv.put = func(ctx context.Context, _ *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
		seen = strings.Join(incoming(ctx, "x-request-id"), "|")
		return &headwaterv1.PutItemsResponse{}, nil
	}
	if a := f.do("POST", putPath, `{}`, "X-Request-Id", "abc-1_Z"); a.Header.Get("X-Request-Id") != "abc-1_Z" || seen != "abc-1_Z" {
		t.Errorf("header %q, handler %q", a.Header.Get("X-Request-Id"), seen)
	}
	for _, bad := range []string{"", "a b", strings.Repeat("x", 65), "ä"} {
		a := f.do("POST", putPath, `{}`, "X-Request-Id", bad)
		if id := a.Header.Get("X-Request-Id"); id == bad || id != seen || !requestIDForm.MatchString(id) {
			t.Errorf("%q became %q, handler %q", bad, id, seen)
		}
	}
}

func TestPanicsEndTheirRequestOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.kv.put = func(context.Context, *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
		panic("boom")
	}
	f.log.read = func(_ *headwaterv1.ReadLogRequest, out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
		if err := out.Send(&headwaterv1.ReadLogResponse{Offset: 1}); err != nil {
			return err
		}
		panic("boom")
	}
	// The fixture's lock is released by its defer, so that the second call works.
	for range 2 {
		if body := f.do("POST", putPath, `{}`).wantError(t, 500, apierrors.Panicked); body["outcome"] != "UNKNOWN" {
			t.Errorf("outcome %v", body["outcome"])
		}
	}
	lines := strings.Split(strings.TrimSpace(string(f.do("POST", readPath, `{}`).body)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `{"error":{"code":"internal"`) || !strings.Contains(lines[1], apierrors.Panicked) {
		t.Errorf("stream: %q", lines)
	}
}

func TestMethodsAndPaths(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
		if a := f.do(method, putPath, ""); a.wantError(t, 405, apierrors.BadMethod) == nil || a.Header.Get("Allow") != "POST" {
			t.Errorf("%s: Allow %q", method, a.Header.Get("Allow"))
		}
	}
	for _, path := range []string{"/headwater.v1.KeyValueService/Nope", "/headwater.v1.Nope/Get"} { // as over gRPC
		f.do("POST", path, `{}`).wantError(t, 501, apierrors.NotOffered)
	}
	for _, path := range []string{"/", "/v1", "/headwater.v1.KeyValueService", "/headwater.v1.", putPath + "/", "/" + putPath, "/v1/kv/a", "/v1/kv/a/b/c/d", "/v1/log/a/b/c"} {
		f.do("POST", path, `{}`).wantError(t, 404, apierrors.PathNotFound)
	}
	f.do("POST", putPath, `{}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").wantError(t, 403, apierrors.CrossOrigin)
}

func TestInterceptorsSeeCallsAsUnderGRPC(t *testing.T) {
	t.Parallel()
	var calls []string
	cfg := Config{
		Interceptor: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			calls = append(calls, info.FullMethod+" "+strings.Join(incoming(ctx, "authorization"), "|")+strings.Join(incoming(ctx, "cookie"), "|"))
			if err := grpc.SetHeader(ctx, metadata.Pairs("headwater-test", "yes")); err != nil {
				return nil, err
			}
			if incoming(ctx, "authorization") == nil {
				return nil, status.Error(codes.Unauthenticated, "who are you")
			}
			return next(ctx, req)
		},
		StreamInterceptor: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			calls = append(calls, info.FullMethod)
			return next(srv, ss)
		},
	}
	f := newFixture(t, cfg)
	f.log.read = func(*headwaterv1.ReadLogRequest, grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
		return nil
	}
	if a := f.do("POST", putPath, `{}`); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	a := f.do("PUT", "/v1/kv/n/i/k", "v", "Authorization", "Bearer x", "Cookie", "a=b")
	if a.StatusCode != 204 || a.Header.Get("Headwater-Test") != "yes" {
		t.Errorf("%d %s %v", a.StatusCode, a.body, a.Header)
	}
	f.do("GET", "/v1/log/n", "")
	want := []string{putPath + " ", putPath + " Bearer x", readPath}
	if strings.Join(calls, ";") != strings.Join(want, ";") {
		t.Errorf("calls %q, want %q", calls, want)
	}
}
