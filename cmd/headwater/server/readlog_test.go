package server

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestAReadOfTheLogThatBeginsNowhereIsRefused: over HTTP, with a status.
func TestAReadOfTheLogThatBeginsNowhereIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	other := send(t, s, "PUT", "/v1/kv/demo-kv/id/key", "value").header.Get("Headwater-Position")
	own := send(t, s, "POST", "/v1/log/demo-log/k", "first").header.Get("Headwater-Position")
	send(t, s, "POST", "/v1/log/demo-log/k", "second")
	for from, want := range map[string]string{
		"": "HW-1012", "yesterday": "HW-1012", "2026-13-01T00:00:00Z": "HW-1012", other: "HW-1012", own[1:]: "HW-1012",
	} {
		for _, follow := range []string{"", "&follow=true"} {
			if r := send(t, s, "GET", "/v1/log/demo-log?from="+from+follow, ""); r.status != 400 || r.field(t, "reason") != want {
				t.Errorf("from=%q: %s", from, r)
			}
		}
	}
	if r := call(t, s, "Log.ReadLog", `{"namespace": "demo-log"}`); r.status != 400 || r.field(t, "reason") != "HW-1027" {
		t.Errorf("without from: %s", r)
	}
	for from, lines := range map[string]int{"earliest": 2, "latest": 0, "2026-01-01T00:00:00Z": 2, own: 1} {
		r := send(t, s, "GET", "/v1/log/demo-log?from="+from, "")
		if got := len(r.lines()); r.status != 200 || got != lines {
			t.Errorf("from=%q: %d lines, want %d: %s", from, got, lines, r)
		}
	}
}

// TestAFollowerOfWhatIsQuietHasItsHeaders: before there is anything to send, so
// that it knows that it is served, and where its read has begun.
func TestAFollowerOfWhatIsQuietHasItsHeaders(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	send(t, s, "POST", "/v1/log/demo-log/k", "old")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for hangs, not to measure
	defer cancel()
	say := func(payload string) {
		t.Helper()
		if r := send(t, s, "POST", "/v1/log/demo-log/k", payload); r.status != 200 {
			t.Fatal(r)
		}
	}
	// goesOn: behind where a read began, there is what it was to be sent and no more.
	goesOn := func(what, position, want string) {
		t.Helper()
		r := send(t, s, "GET", "/v1/log/demo-log?from="+position, "")
		if r.status != 200 || len(r.lines()) != 1 || !strings.Contains(r.body, b64([]byte(want))) {
			t.Errorf("%s: behind %q there is %s; want %s alone", what, position, r, want)
		}
	}

	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	latest := &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Latest_{Latest: &headwaterv1.LogStart_Latest{}}}
	tail, err := headwaterv1.NewLogServiceClient(conn).ReadLog(ctx, &headwaterv1.ReadLogRequest{Namespace: "demo-log", From: latest, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	md, err := tail.Header()
	if err != nil || len(md.Get("headwater-position")) != 1 {
		t.Fatalf("headers over gRPC: %v, %v", md, err)
	}
	say("one")
	goesOn("gRPC", md.Get("headwater-position")[0], "one")
	if m, err := tail.Recv(); err != nil || string(m.GetPayload()) != "one" {
		t.Errorf("%v, %v", m, err)
	}
	watch, err := headwaterv1.NewNamespaceServiceClient(conn).WatchNamespaces(ctx, &headwaterv1.WatchNamespacesRequest{SinceVersion: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Header(); err != nil {
		t.Errorf("headers of a watch: %v", err)
	}

	get := func(method, path, body string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+s.HTTPAddr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req) // returns with the headers
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s: %s %v", path, res.Status, res.Header)
		}
		return res
	}
	for path, body := range map[string]string{
		"/v1/log/demo-log?from=latest&follow=true": "",
		"/headwater.v1.LogService/ReadLog":         `{"namespace": "demo-log", "from": {"latest": {}}, "follow": true}`,
	} {
		method := "GET"
		if body != "" {
			method = "POST"
		}
		res := get(method, path, body)
		say("two " + path)
		goesOn(path, res.Header.Get("Headwater-Position"), "two "+path)
		if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.Contains(line, b64([]byte("two "+path))) {
			t.Errorf("%s: %q, %v", path, line, err)
		}
		res.Body.Close()
	}
	get("POST", "/headwater.v1.NamespaceService/WatchNamespaces", `{"sinceVersion": "4"}`).Body.Close()
}

// TestReadLogByHeader leaves out what has not each header.
func TestReadLogByHeader(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 1}\n")
	write(t, s, "mail", "a", "1", "Headwater-Header-Kind", "x", "Headwater-Header-To", "me")
	write(t, s, "mail", "a", "2", "Headwater-Header-Kind", "x")
	write(t, s, "mail", "a", "3")
	for filter, want := range map[string]int{
		`{}`: 3, `{"headers":{"Kind":"x"}}`: 2, `{"headers":{"Kind":"x","To":"me"}}`: 1, `{"headers":{"Kind":"y"}}`: 0, `{"headers":{"Kind":""}}`: 0, `{"key":"b","headers":{"Kind":"x"}}`: 0,
	} {
		r := call(t, s, "Log.ReadLog", fmt.Sprintf(`{"namespace":"mail","from":{"earliest":{}},"filter":%s}`, filter))
		if lines := r.lines(); r.status != http.StatusOK || len(lines) != want {
			t.Errorf("%s: %d records, want %d: %s", filter, len(lines), want, r)
		}
	}
	var many []string
	for i := range 17 {
		many = append(many, fmt.Sprintf(`"h%d":"x"`, i))
	}
	refused(t, "many headers", call(t, s, "Log.ReadLog", fmt.Sprintf(`{"namespace":"mail","from":{"earliest":{}},"filter":{"headers":{%s}}}`, strings.Join(many, ","))), 400, "HW-1021", "")
}

// TestReadLogDecodes: writes are shown as the requests that they were.
func TestReadLogDecodes(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	for _, doc := range []string{"namespace: items\nabstraction: kv\n", "namespace: counts\nabstraction: counter\n", "namespace: events\nabstraction: timeseries\n"} {
		document(t, s, doc)
	}
	is(t, "put", call(t, s, "KeyValue.PutItems", `{"namespace":"items","id":"u","items":[{"key":"YQ==","value":"MQ==","ttl":"3600s"}]}`))
	is(t, "add", call(t, s, "Counter.AddAndGetCount", `{"namespace":"counts","counter":"c","delta":"-9223372036854775808","bounds":{"ceiling":"5"}}`))
	is(t, "event", send(t, s, "POST", "/v1/ts/events/s", `{"eventTime":"`+time.Now().UTC().Format(time.RFC3339Nano)+`","items":{"n":1,"d":2.5,"s":"x"}}`))
	for ns, want := range map[string][]string{
		"items":  {`"method":"PutItems"`, `"id":"u"`, `"value":"MQ=="`, `"ttl":"3600s"`},
		"counts": {`"method":"AddAndGetCount"`, `"delta":"-9223372036854775808"`, `"ceiling":"5"`, `"counter":"c"`},
		"events": {`"method":"WriteEventRecordsSync"`, `"timeSeriesId":"s"`, `"double":2.5`, `"int":"1"`},
	} {
		r := call(t, s, "Log.ReadLog", fmt.Sprintf(`{"namespace":%q,"from":{"earliest":{}},"decode":true,"filter":{"kind":%q}}`, ns, map[string]string{"items": "kv", "counts": "counter", "events": "timeseries"}[ns]))
		text := strings.ReplaceAll(r.body, " ", "")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %s in %s", ns, w, r)
			}
		}
	}
}
