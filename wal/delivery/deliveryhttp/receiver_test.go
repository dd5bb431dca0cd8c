package deliveryhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/endpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func everywhere(string) bool { return true }

// deliver makes one attempt at an endpoint, within a time.
func deliver(t *testing.T, cfg Config, within time.Duration, a *delivery.Attempt) error {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return r.Deliver(ctx, a)
}

// kindOf is what is to be done about an error.
func kindOf(err error) string {
	_, permanent := errors.AsType[*delivery.PermanentError](err)
	after, waits := errors.AsType[*delivery.RetryAfterError](err)
	switch {
	case err == nil:
		return "done"
	case permanent:
		return "permanent"
	case waits:
		return "after " + after.After.Round(5*time.Second).String()
	default:
		return "again"
	}
}

// TestAnswers says of each what is to be done.
func TestAnswers(t *testing.T) {
	t.Parallel()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "because") // the client may have left
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"200":                {status(200), "done"},
		"202":                {status(202), "done"},
		"204":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "done"},
		"301":                {status(301, "Location", "http://127.0.0.1:1/"), "permanent"},
		"304":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "permanent"},
		"307":                {status(307, "Location", "/"), "permanent"},
		"400":                {status(400), "permanent"},
		"401":                {status(401), "permanent"},
		"404":                {status(404), "permanent"},
		"408":                {status(408), "again"},
		"409":                {status(409), "permanent"},
		"410":                {status(410), "permanent"},
		"425":                {status(425), "again"},
		"429":                {status(429), "again"},
		"429 with a time":    {status(429, "Retry-After", "10"), "after 10s"},
		"503 with a date":    {status(503, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), "after 1h0m0s"},
		"503 with a mistake": {status(503, "Retry-After", "soon"), "again"},
		"503 in the past":    {status(503, "Retry-After", "Mon, 01 Jan 2001 00:00:00 GMT"), "again"},
		"500":                {status(500), "again"},
		"501":                {status(501), "again"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // then it is seen that the client leaves
			<-r.Context().Done()
		}, "again"},
		"closes at once": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "again"},
		"closes in the body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "done"}, // its status says so
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for b := make([]byte, 1<<16); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, "done"},
		"endless head": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, "again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(c.answer)
			t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
			within := time.Minute
			if name == "hangs" {
				within = 50 * time.Millisecond
			}
			err := deliver(t, Config{URL: s.URL, AnyAddress: everywhere}, within, &delivery.Attempt{Payload: []byte("x")})
			if got := kindOf(err); got != c.want {
				t.Errorf("%v: %s, want %s", err, got, c.want)
			}
			if err != nil && strings.Contains(err.Error(), s.URL) {
				t.Errorf("the error repeats the URL: %v", err)
			}
		})
	}
}

// TestPrivateAddresses are refused when they are connected to, also behind a name, unless they are allowed.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a := &delivery.Attempt{Payload: []byte("x")}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		url := "http://" + host + ":" + port
		if err := deliver(t, Config{URL: url}, time.Minute, a); kindOf(err) != "permanent" || !errors.Is(err, endpoint.ErrPrivate) {
			t.Errorf("%s: %v", url, err)
		}
		if err := deliver(t, Config{URL: url, AnyAddress: everywhere}, time.Minute, a); err != nil {
			t.Errorf("%s is allowed: %v", url, err)
		}
		other := func(h string) bool { return h == "elsewhere" }
		if err := deliver(t, Config{URL: url, AnyAddress: other}, time.Minute, a); !errors.Is(err, endpoint.ErrPrivate) {
			t.Errorf("%s, where another host is allowed: %v", url, err)
		}
	}
	for addr, public := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true, "10.1.2.3": false, "172.16.0.1": false, "172.32.0.1": true, "192.168.1.1": false, "169.254.169.254": false,
		"127.8.8.8": false, "0.0.0.0": false, "100.64.0.1": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "::1": false, "::": false,
		"fe80::1": false, "fd00::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "ff02::1": false,
	} {
		if got := endpoint.Public(netip.MustParseAddr(addr)); got != public {
			t.Errorf("%s is public: %v", addr, got)
		}
	}
}

// TestWhatIsSent is what the package comment says.
func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body) // compared below
	}))
	t.Cleanup(s.Close)
	secret, err := endpoint.Secret([]byte(" whsec_MDEyMw== \n"))
	if err != nil || string(secret) != "0123" {
		t.Fatal(secret, err)
	}
	cfg := Config{URL: s.URL + "/in?x=1", Method: "PUT", Headers: map[string]string{"X-Team": "a", "Content-Type": "text/plain"}, Secret: secret, AnyAddress: everywhere}
	err = deliver(t, cfg, time.Minute, &delivery.Attempt{
		ID: "id-1", Key: "käse/1", Token: wal.Token{Nonce: wal.Nonce{0xff, 0xff}}, Payload: []byte("paid"), Number: 3, Time: time.Unix(1700000000, 5),
		Headers: []delivery.Header{{Name: "Trace", Value: "t"}, {Name: "host", Value: "evil"}, {Name: "webhook-id", Value: "other"}, {Name: "Transfer-Encoding", Value: "x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != "PUT" || got.URL.String() != "/in?x=1" || string(body) != "paid" || strings.Contains(got.Host, "evil") || got.ContentLength != 4 {
		t.Errorf("%s %s of %s with %q", got.Method, got.URL, got.Host, body)
	}
	for name, want := range map[string]string{
		"Webhook-Id": "id-1", "Webhook-Timestamp": "1700000000", "Webhook-Signature": "v1," + endpoint.Sign([]byte("0123"), "id-1", "1700000000", []byte("paid")),
		"Idempotency-Key": "//8AAAAAAAAAAAAAAAAAAA==", "Headwater-Key": "k%C3%A4se%2F1", "Headwater-Attempt": "3", "Trace": "t", "X-Team": "a", "Content-Type": "text/plain",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	// The example of Standard Webhooks' own libraries.
	if secret, err = endpoint.Secret([]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")); err != nil {
		t.Fatal(err)
	}
	if got := endpoint.Sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
	for _, bad := range []string{"", " \n", "whsec_", "whsec_!"} {
		if s, err := endpoint.Secret([]byte(bad)); err == nil {
			t.Errorf("%q is a secret: %q", bad, s)
		}
	}
	for _, url := range []string{"", "ftp://a/", "a", "http://", "http://a:b:c/"} {
		if _, err := New(Config{URL: url}); err == nil {
			t.Errorf("%q is taken for a URL", url)
		}
	}
}
