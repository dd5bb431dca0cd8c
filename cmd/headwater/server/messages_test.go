package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
)

// messageLine is a line of ReadLog.
type messageLine struct {
	Partition int               `json:"partition"`
	Key       string            `json:"key"`
	Payload   []byte            `json:"payload"`
	Headers   map[string]string `json:"headers"`
}

func messagesOf(t *testing.T, s *Server, query string) (ms []messageLine) {
	t.Helper()
	r := send(t, s, "GET", "/v1/log/demo-log?"+query, "")
	if r.status != 200 {
		t.Fatal(r)
	}
	for _, line := range r.lines() {
		var m messageLine
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		ms = append(ms, m)
	}
	return ms
}

// TestHeadersOfMessages: what a message tells beside its payload comes back with it, by each way in, and belongs to what its
// token is used for.
func TestHeadersOfMessages(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "by JSON", call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","key":"json","payload":"cGFpZA==","headers":{"trace":"7","empty":""},"token":{"key":"t"}}`), "durable", "SUCCEEDED")
	is(t, "plain", send(t, s, "POST", "/v1/log/demo-log/plain", "paid", "Headwater-Header-Trace-Id", "7; \"quoted\"", "headwater-header-other", "x"))
	is(t, "without", send(t, s, "POST", "/v1/log/demo-log/none", "paid"))
	for key, want := range map[string]map[string]string{
		"json": {"trace": "7", "empty": ""}, "plain": {"Trace-Id": `7; "quoted"`, "Other": "x"}, "none": {},
	} {
		ms := messagesOf(t, s, "kind=message&key="+key)
		if len(ms) != 1 || string(ms[0].Payload) != "paid" || !maps.Equal(ms[0].Headers, want) {
			t.Errorf("%s: %+v, want headers %v", key, ms, want)
		}
	}
	is(t, "a copy", call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","key":"json","payload":"cGFpZA==","headers":{"empty":"","trace":"7"},"token":{"key":"t"}}`), "result.duplicate", "YES")
	for _, headers := range []string{"", `"headers":{"trace":"8","empty":""},`, `"headers":{"trace":"7"},`} {
		refused(t, "other headers under the token", call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","key":"json","payload":"cGFpZA==",`+headers+`"token":{"key":"t"}}`), 409, "HW-1201", "NOT_APPLIED")
	}
	for _, headers := range []string{`{"a b":"x"}`, `{"a":"x\r\ny"}`, `{"a":"1","A":"2"}`, `{"":"x"}`, fmt.Sprintf(`{"a":%q}`, strings.Repeat("x", 5000))} {
		refused(t, headers[:8], call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","key":"bad","headers":`+headers+`}`), 400, "HW-1050", "NOT_APPLIED")
		refused(t, "in a batch", call(t, s, "Log.WriteToLogBatch", `{"namespace":"demo-log","messages":[{"key":"bad"},{"key":"bad","headers":`+headers+`}]}`), 400, "HW-1050", "NOT_APPLIED")
	}
	if ms := messagesOf(t, s, "key=bad"); len(ms) != 0 {
		t.Errorf("a refused message is in the log: %+v", ms)
	}
}

// TestABatchOfMessages: each has its place and its answer, those of a key their order, and the batch sent again changes nothing.
func TestABatchOfMessages(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprintf(`{"key":"k%d","payload":%q}`, i%7, b64(fmt.Appendf(nil, "%d", i))))
	}
	body := `{"namespace":"demo-log","messages":[` + strings.Join(all, ",") + `],"token":{"key":"batch"}}`
	outcomes := func(what, duplicate string, r reply, n int) {
		t.Helper()
		results := r.field(t, "results").([]any)
		if r.status != 200 || len(results) != n {
			t.Fatalf("%s: %d results, %.300s", what, len(results), r.body)
		}
		seen := make(map[string]bool)
		for i, x := range results {
			m := x.(map[string]any)
			res := m["result"].(map[string]any)
			if m["durable"] != "SUCCEEDED" || res["duplicate"] != duplicate || seen[res["position"].(string)] {
				t.Fatalf("%s: message %d: %v", what, i, x)
			}
			seen[res["position"].(string)] = true
		}
	}
	outcomes("the batch", "NO", call(t, s, "Log.WriteToLogBatch", body), 1000)
	outcomes("again", "YES", call(t, s, "Log.WriteToLogBatch", body), 1000)
	next := make(map[string]int)
	ms := messagesOf(t, s, "from=earliest")
	for _, m := range ms {
		n := 0
		if _, err := fmt.Sscan(string(m.Payload), &n); err != nil || m.Key != fmt.Sprintf("k%d", n%7) || n < next[m.Key] {
			t.Fatalf("message %s of key %s after %d", m.Payload, m.Key, next[m.Key]-7)
		}
		next[m.Key] = n + 7
	}
	if len(ms) != 1000 {
		t.Errorf("%d messages are in the log", len(ms))
	}
	// Two copies in one batch, and tokens of their own.
	twice := call(t, s, "Log.WriteToLogBatch", `{"namespace":"demo-log","messages":[{"key":"own","payload":"AAAA","token":{"key":"x"}},{"key":"own","payload":"AAAA","token":{"key":"x"}},{"key":"own","payload":"AAAA"}]}`)
	results := twice.field(t, "results").([]any)
	for i, want := range []string{"NO", "YES", "NO"} {
		if got := results[i].(map[string]any)["result"].(map[string]any)["duplicate"]; got != want {
			t.Errorf("message %d: duplicate %v, not %s", i, got, want)
		}
	}
	if ms := messagesOf(t, s, "key=own"); len(ms) != 2 {
		t.Errorf("%d messages, of which one is a copy", len(ms))
	}
	is(t, "by itself", call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","key":"own","payload":"AAAA","token":{"key":"x"}}`), "result.duplicate", "YES")
	// Another message under a token: the others are written.
	mixed := call(t, s, "Log.WriteToLogBatch", `{"namespace":"demo-log","messages":[{"key":"own","payload":"BBBB","token":{"key":"x"}},{"key":"beside","payload":"BBBB"}]}`)
	results = mixed.field(t, "results").([]any)
	if first, second := results[0].(map[string]any), results[1].(map[string]any); first["durable"] != "FAILED" || first["reason"] != "HW-1201" || second["durable"] != "SUCCEEDED" {
		t.Errorf("%s", mixed)
	}
	for what, c := range map[string]struct{ body, reason string }{
		"none":              {`{"namespace":"demo-log"}`, "HW-1014"},
		"too many":          {`{"namespace":"demo-log","messages":[` + strings.Join(append(all, all[0]), ",") + `]}`, "HW-1014"},
		"another namespace": {`{"namespace":"demo-kv","messages":[{}]}`, "HW-1102"},
		"a long key":        {fmt.Sprintf(`{"namespace":"demo-log","messages":[{},{"key":%q}]}`, strings.Repeat("k", 1025)), "HW-1026"},
		"a wrong token":     {`{"namespace":"demo-log","messages":[{}],"token":{"nonce":"AAAA"}}`, "HW-1006"},
		"one of a message":  {`{"namespace":"demo-log","messages":[{"token":{"nonce":"AAAA"}}]}`, "HW-1006"},
	} {
		r := call(t, s, "Log.WriteToLogBatch", c.body)
		if r.status != 400 || r.field(t, "reason") != c.reason || r.field(t, "outcome") != "NOT_APPLIED" {
			t.Errorf("%s: %s, want %s", what, r, c.reason)
		}
	}
}

// TestTheClientWritesMessages: the client's batch, and messages with headers.
func TestTheClientWritesMessages(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	c, err := client.Dial(s.GRPCAddr(), client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	log := c.Log("demo-log")
	ms := make([]client.NewMessage, 300)
	for i := range ms {
		ms[i] = client.NewMessage{Key: "k", Payload: fmt.Append(nil, i), Headers: map[string]string{"n": fmt.Sprint(i)}}
	}
	rs, err := log.WriteMessages(t.Context(), ms)
	if err != nil || len(rs) != len(ms) || rs[7].Position == "" || rs[7].Err != nil {
		t.Fatalf("%d results, %v", len(rs), err)
	}
	n := 0
	for m, err := range log.Tail(t.Context(), client.TailOptions{}) {
		if err != nil || m.Headers["n"] != fmt.Sprint(n) || string(m.Payload) != fmt.Sprint(n) {
			t.Fatalf("message %d: %+v, %v", n, m, err)
		}
		n++
	}
	if n != len(ms) {
		t.Errorf("%d messages", n)
	}
	var e *client.Error
	if rs, err := log.WriteMessages(t.Context(), []client.NewMessage{{Headers: map[string]string{"a b": ""}}}); rs != nil || !errors.As(err, &e) || e.Reason != "HW-1050" {
		t.Errorf("%v, %v", rs, err)
	}
	// A field of a newer build is not passed over.
	cc, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	odd := &headwaterv1.LogMessage{Key: "k"}
	odd.ProtoReflect().SetUnknown([]byte("\xfa\x06\x01x")) // field 111
	if _, err := headwaterv1.NewLogServiceClient(cc).WriteToLogBatch(context.Background(), &headwaterv1.WriteToLogBatchRequest{Namespace: "demo-log", Messages: []*headwaterv1.LogMessage{odd}}); err == nil {
		t.Error("a field that is not known was passed over")
	}
}
