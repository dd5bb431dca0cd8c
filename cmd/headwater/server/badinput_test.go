package server

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBadInputIsRefusedBeforeTheLog sends what is wrong in every way we know. Each
// must get its code, and nothing may reach the log or change what is stored.
func TestBadInputIsRefusedBeforeTheLog(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	if r := send(t, s, "PUT", "/v1/kv/demo-kv/a/k", "value"); r.status != http.StatusNoContent {
		t.Fatal(r)
	}
	first := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","selection":{"pageSizeBytes":1024}}`)
	appended := func() (n int64) {
		for _, name := range []string{"demo-kv", "demo-log"} {
			l := topic(t, s, name)
			for p := range l.Info().Partitions {
				b, err := l.Bounds(t.Context(), partition(p))
				if err != nil {
					t.Fatal(err)
				}
				n += int64(b.End)
			}
		}
		return n
	}
	before := appended()

	put := func(rest string) string {
		return `{"namespace":"demo-kv","id":"a","items":[{"key":"aw==","value":"dg=="}]` + rest + `}`
	}
	long := strings.Repeat("x", 1025)
	longB64 := strings.Repeat("eHh4", 400)
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for name, c := range map[string]struct {
		method, body, reason string
		status               int
	}{
		"unknown namespace":         {"KeyValue.PutItems", `{"namespace":"nope","id":"a","items":[{"key":"aw=="}]}`, "HW-1101", 404},
		"namespace that cannot be":  {"KeyValue.GetItems", `{"namespace":"../etc","id":"a"}`, "HW-1001", 400},
		"wrong abstraction":         {"KeyValue.PutItems", `{"namespace":"demo-log","id":"a","items":[{"key":"aw=="}]}`, "HW-1102", 400},
		"wrong abstraction of log":  {"Log.WriteToLog", `{"namespace":"demo-kv","payload":"aw=="}`, "HW-1102", 400},
		"unknown field":             {"KeyValue.PutItems", put(`,"tokn":{}`), "HW-1013", 400},
		"trailing data":             {"KeyValue.PutItems", put("") + "{}", "HW-1013", 400},
		"no JSON":                   {"KeyValue.PutItems", "put", "HW-1013", 400},
		"empty id":                  {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"","items":[{"key":"aw=="}]}`, "HW-1002", 400},
		"id too long":               {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"` + long + `","items":[{"key":"aw=="}]}`, "HW-1002", 400},
		"key too long":              {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"` + longB64 + `"}]}`, "HW-1003", 400},
		"no items":                  {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[]}`, "HW-1014", 400},
		"too many items":            {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[` + strings.Repeat(`{},`, 1000) + `{}]}`, "HW-1014", 400},
		"a key twice":               {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"aw=="},{"key":"aw=="}]}`, "HW-1005", 400},
		"value too large":           {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"aw==","value":"` + strings.Repeat("eHh4", 350_000) + `"}]}`, "HW-1004", 400},
		"body too large":            {"KeyValue.PutItems", strings.Repeat(" ", 13<<20) + put(""), "HW-1020", 413},
		"nonce too short":           {"KeyValue.PutItems", put(`,"token":{"nonce":"aw=="}`), "HW-1006", 400},
		"nonce of zeros":            {"KeyValue.PutItems", put(`,"token":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}`), "HW-1006", 400},
		"token key empty":           {"KeyValue.PutItems", put(`,"token":{"key":""}`), "HW-1006", 400},
		"token key too long":        {"KeyValue.PutItems", put(`,"token":{"key":"` + long + `"}`), "HW-1006", 400},
		"token from the future":     {"KeyValue.PutItems", put(`,"token":{"key":"f","generationTime":"` + future + `"}`), "HW-1007", 400},
		"token from the past":       {"KeyValue.PutItems", put(`,"token":{"key":"p","generationTime":"` + past + `"}`), "HW-1007", 400},
		"negative ttl":              {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"aw==","ttl":"-1s"}]}`, "HW-1008", 400},
		"ttl of centuries":          {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"aw==","ttl":"9000000000s"}]}`, "HW-1008", 400},
		"if_absent false":           {"KeyValue.PutItems", put(`,"condition":{"ifAbsent":false}`), "HW-1017", 400},
		"if_version made up":        {"KeyValue.PutItems", put(`,"condition":{"ifVersion":"abc"}`), "HW-1017", 400},
		"unknown compression":       {"KeyValue.PutItems", `{"namespace":"demo-kv","id":"a","items":[{"key":"aw==","compression":"rar"}]}`, "HW-1016", 400},
		"page too small":            {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","selection":{"pageSizeBytes":1023}}`, "HW-1010", 400},
		"page too large":            {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","selection":{"pageSizeBytes":4194305}}`, "HW-1010", 400},
		"page of zero":              {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","selection":{"pageSizeBytes":0}}`, "HW-1010", 400},
		"item limit of zero":        {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","selection":{"itemLimit":0}}`, "HW-1010", 400},
		"page token made up":        {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","pageToken":"AQID"}`, "HW-1011", 400},
		"malformed position":        {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","after":["zzz"]}`, "HW-1012", 400},
		"range backwards":           {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","predicate":{"matchRange":{"start":"Yg==","end":"YQ=="}}}`, "HW-1009", 400},
		"unknown consistency":       {"KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","consistency":"STRONG"}`, "HW-1013", 400},
		"delete without predicate":  {"KeyValue.DeleteItems", `{"namespace":"demo-kv","id":"a"}`, "HW-1009", 400},
		"shard out of range":        {"KeyValue.ScanItems", `{"namespace":"demo-kv","shard":{"index":2,"of":2}}`, "HW-1030", 400},
		"group with a put of a log": {"KeyValue.MutateItems", `{"mutations":[{"put":` + put("") + `},{"put":{"namespace":"demo-log","id":"a","items":[{"key":"aw=="}]}}]}`, "HW-1102", 400},
		"group without a mutation":  {"KeyValue.MutateItems", `{"mutations":[{}]}`, "HW-1031", 400},
		"group with tokens inside":  {"KeyValue.MutateItems", `{"mutations":[{"add":{"namespace":"demo-counter","counter":"c","delta":1,"token":{"key":"k"}}}]}`, "HW-1006", 400},
		"group with two events":     {"KeyValue.MutateItems", `{"mutations":[{"event":{"namespace":"demo-timeseries","events":[{},{}]}}]}`, "HW-1014", 400},
		"group with an old event":   {"KeyValue.MutateItems", `{"mutations":[{"event":{"namespace":"demo-timeseries","events":[{"timeSeriesId":"s","eventTime":"2090-01-01T00:00:00Z","items":[{"key":"a","value":{"int":"1"}}]}]}},` + added("c", 1) + `]}`, "HW-1214", 400},
		"group with a condition":    {"KeyValue.MutateItems", `{"mutations":[{"put":` + put(`,"condition":{"ifAbsent":true}`) + `},` + added("c", 1) + `]}`, "HW-1017", 400},
		"group with a target":       {"KeyValue.MutateItems", `{"mutations":[{"message":{"namespace":"demo-log","targets":["x"]}}]}`, "HW-1051", 400},
		"group of nowhere":          {"KeyValue.MutateItems", `{"mutations":[{"add":{"namespace":"nowhere","counter":"c"}}]}`, "HW-1101", 404},
		"group named by nothing":    {"Log.GetGroup", `{}`, "HW-1053", 400},
		"group named by a message":  {"Log.GetGroup", `{"groupId":"abcdefabcdef-0-1"}`, "HW-1111", 404},
		"group that is not":         {"Log.GetGroup", `{"groupId":"abcdefabcdef-0-1-5"}`, "HW-1111", 404},
		"group with a key twice":    {"KeyValue.MutateItems", `{"mutations":[{"put":` + put("") + `},{"put":` + put("") + `}]}`, "HW-1005", 400},
		"upload that is too large":  {"KeyValue.BeginUpload", `{"namespace":"demo-kv","id":"a","key":"aw==","size":"67108865"}`, "HW-1004", 400},
		"upload that never began":   {"KeyValue.CommitUpload", `{"namespace":"demo-kv","uploadId":"00112233445566778899aabbccddeeff","chunks":1,"size":"1","sha256":"AA=="}`, "HW-1104", 404},
		"log read from nowhere":     {"Log.ReadLog", `{"namespace":"demo-log"}`, "HW-1027", 400},
		"document with a typo":      {"Namespace.ApplyNamespace", `{"config":"namespace: x\nabstraction: kv\ntokns: {window: 15m}\n"}`, "HW-1019", 400},
		"document with a bad value": {"Namespace.ApplyNamespace", `{"config":"namespace: demo-kv\nabstraction: kv\ntokens: {window: 1s}\n"}`, "HW-1019", 400},
		"change that is not live":   {"Namespace.ApplyNamespace", `{"config":"namespace: demo-kv\nabstraction: kv\nlog: {partitions: 9}\n"}`, "HW-1204", 400},
		"delete unconfirmed":        {"Namespace.DeleteNamespace", `{"namespace":"demo-kv","confirm":"yes"}`, "HW-1028", 400},
	} {
		t.Run(name, func(t *testing.T) {
			r := call(t, s, c.method, c.body)
			if r.status != c.status || r.field(t, "reason") != c.reason {
				t.Fatalf("got %s, want %d %s", r, c.status, c.reason)
			}
			for _, f := range []string{"code", "message", "requestId"} {
				if v, ok := r.field(t, f).(string); !ok || v == "" {
					t.Errorf("no %s in %s", f, r)
				}
			}
			if !strings.Contains(c.method, "Get") && !strings.Contains(c.method, "Scan") && !strings.Contains(c.method, "Read") && r.field(t, "outcome") != "NOT_APPLIED" {
				t.Errorf("outcome of a refused write: %s", r)
			}
		})
	}
	if after := appended(); after != before {
		t.Errorf("the log grew from %d to %d records", before, after)
	}
	if r := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"a","selection":{"pageSizeBytes":1024}}`); r.field(t, "items") == nil || fmt.Sprint(r.field(t, "items")) != fmt.Sprint(first.field(t, "items")) {
		t.Errorf("what is stored has changed: %s", r)
	}
}

// TestPageTokensAreBound: a token continues its own request, also after a
// restart, and no other.
func TestPageTokensAreBound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 30 {
		if r := send(t, s, "PUT", fmt.Sprintf("/v1/kv/demo-kv/a/k%02d", i), strings.Repeat("v", 200)); r.status != http.StatusNoContent {
			t.Fatal(r)
		}
	}
	page := func(s *Server, id, token string) reply {
		return call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"`+id+`","selection":{"pageSizeBytes":1024},"pageToken":"`+token+`"}`)
	}
	one := page(s, "a", "")
	token, ok := one.field(t, "nextPageToken").(string)
	if !ok || token == "" {
		t.Fatalf("no next page: %s", one)
	}
	for i := range token {
		changed := token[:i] + string("AB"[btoi(token[i] == 'A')]) + token[i+1:]
		if r := page(s, "a", changed); r.status != 400 || r.field(t, "reason") != "HW-1011" {
			t.Fatalf("token changed at %d: %s", i, r)
		}
	}
	if r := page(s, "b", token); r.status != 400 {
		t.Errorf("token of another record: %s", r)
	}
	two := page(s, "a", token)
	if two.status != 200 {
		t.Fatal(two)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := page(start(t, dir), "a", token)
	if again.status != 200 || fmt.Sprint(again.field(t, "items")) != fmt.Sprint(two.field(t, "items")) {
		t.Errorf("after a restart: %s, want %s", again, two)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Open(t.Context(), Config{DataDir: t.TempDir(), GRPC: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "--grpc") {
		t.Errorf("got %v, want the address and the flag", err)
	}
}

func TestOneProcessHoldsADataDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir)
	_, err := Open(t.Context(), Config{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "is held by process") {
		t.Errorf("got %v, want who holds it", err)
	}
}
