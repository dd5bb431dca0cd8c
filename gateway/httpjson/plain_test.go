package httpjson

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func TestPlainKVRoundTrip(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	a := f.do("PUT", "/v1/kv/n/i/k", "hello\x00\xff", "Idempotency-Key", "once", "Headwater-TTL", "1h", "Content-Type", "text/html", "If-None-Match", "*")
	if a.StatusCode != 204 || a.Header.Get("ETag") != `"v1"` || a.Header.Get("Headwater-Position") != "p1" || len(a.body) != 0 {
		t.Fatalf("%d %s %v", a.StatusCode, a.body, a.Header)
	}
	put := f.kv.puts[0]
	if put.GetToken().GetKey() != "once" || put.GetItems()[0].GetTtl().AsDuration() != time.Hour || !put.GetCondition().GetIfAbsent() ||
		put.GetItems()[0].GetContentType() != "text/html" {
		t.Errorf("request %v", put)
	}
	a = f.do("GET", "/v1/kv/n/i/k?after=p1&after=p9&consistency=latest", "")
	if a.StatusCode != 200 || string(a.body) != "hello\x00\xff" || a.Header.Get("ETag") != `"v1"` || a.Header.Get("Headwater-Position") != "p2" ||
		a.Header.Get("Content-Type") != "text/html" || !strings.Contains(a.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%d %q %v", a.StatusCode, a.body, a.Header)
	}
	if get := f.kv.gets[0]; len(get.GetAfter()) != 2 || get.GetConsistency() != headwaterv1.Consistency_LATEST {
		t.Errorf("request %v", get)
	}
	body := f.do("PUT", "/v1/kv/n/i/k", "again", "If-None-Match", "*", "Idempotency-Key", "twice").wantError(t, 409, apierrors.ConditionFailed)
	if body["metadata"].(map[string]any)["currentVersion"] != "v1" || body["outcome"] != "NOT_APPLIED" || body["token"].(map[string]any)["key"] != "twice" {
		t.Errorf("conflict: %v", body)
	}
	if f.do("PUT", "/v1/kv/n/i/k", "", "If-Match", `"v1"`); f.kv.puts[2].GetCondition().GetIfVersion() != "v1" {
		t.Errorf("request %v", f.kv.puts[2])
	}
	if a := f.do("GET", "/v1/kv/n/i/k", ""); a.StatusCode != 200 || len(a.body) != 0 || a.Header.Get("Content-Length") != "0" {
		t.Errorf("empty value: %d %q %v", a.StatusCode, a.body, a.Header)
	}
	absent := f.do("GET", "/v1/kv/n/i/none", "")
	absent.wantError(t, 404, apierrors.ItemNotFound)
	if absent.Header.Get("Headwater-Position") != "p2" {
		t.Error("an absent item has no position")
	}
}

func TestPlainKVDeletes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for path, check := range map[string]func(*headwaterv1.DeleteItemsRequest) bool{
		"/v1/kv/n/i/k": func(r *headwaterv1.DeleteItemsRequest) bool {
			return string(r.GetPredicate().GetMatchKeys().GetKeys()[0]) == "k" && r.GetCondition().GetIfVersion() == "v7"
		},
		"/v1/kv/n/i/": func(r *headwaterv1.DeleteItemsRequest) bool {
			return len(r.GetPredicate().GetMatchKeys().GetKeys()) == 1 && len(r.GetPredicate().GetMatchKeys().GetKeys()[0]) == 0
		},
		"/v1/kv/n/i": func(r *headwaterv1.DeleteItemsRequest) bool { return r.GetPredicate().GetMatchAll() != nil },
	} {
		a := f.do("DELETE", path, "", "If-Match", `"v7"`)
		if got := f.kv.dels[len(f.kv.dels)-1]; a.StatusCode != 204 || a.Header.Get("Headwater-Position") != "p3" || got.GetId() != "i" || !check(got) {
			t.Errorf("%s: %d %s, request %v", path, a.StatusCode, a.body, got)
		}
	}
}

func TestPlainPathsAreDecodedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for path, want := range map[string][2]string{
		"/v1/kv/n/a%2Fb/c%2Fd":          {"a/b", "c/d"},
		"/v1/kv/n/a%252Fb/%25":          {"a%2Fb", "%"},
		"/v1/kv/n/a+b/c%20d":            {"a+b", "c d"},
		"/v1/kv/n/i/":                   {"i", ""},
		"/v1/kv/n/%E2%82%AC/%FF%00":     {"€", "\xff\x00"},
		"/v1/kv/n/%2E%2E/%2e":           {"..", "."},
		"/v1/kv/n/a;b=c/d&e":            {"a;b=c", "d&e"},
		"/v1/kv/n/%3Fq/%23" + "?after=": {"?q", "#"},
	} {
		method := "PUT"
		if strings.Contains(path, "?") {
			method = "GET"
		}
		f.do(method, path, "v")
		var id, key string
		if method == "PUT" {
			r := f.kv.puts[len(f.kv.puts)-1]
			id, key = r.GetId(), string(r.GetItems()[0].GetKey())
		} else {
			r := f.kv.gets[len(f.kv.gets)-1]
			id, key = r.GetId(), string(r.GetPredicate().GetMatchKeys().GetKeys()[0])
		}
		if id != want[0] || key != want[1] {
			t.Errorf("%s: id %q key %q, want %q", path, id, key, want)
		}
	}
	f.do("PUT", "/v1/kv/n/%FF/k", "v").wantError(t, 400, apierrors.BadUTF8)
	f.do("PUT", "/v1/kv/%FF/i/k", "v").wantError(t, 400, apierrors.BadUTF8)
}

func TestPlainKVRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{MaxValueBytes: 10})
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		reason             string
	}{
		"large value":         {"PUT", "/v1/kv/n/i/k", "12345678901", nil, 413, apierrors.RequestTooLarge},
		"zero ttl":            {"PUT", "/v1/kv/n/i/k", "", []string{"Headwater-TTL", "0s"}, 400, apierrors.BadTTL},
		"negative ttl":        {"PUT", "/v1/kv/n/i/k", "", []string{"Headwater-TTL", "-1h"}, 400, apierrors.BadTTL},
		"ttl without unit":    {"PUT", "/v1/kv/n/i/k", "", []string{"Headwater-TTL", "60"}, 400, apierrors.BadTTL},
		"ttl twice":           {"PUT", "/v1/kv/n/i/k", "", []string{"Headwater-TTL", "1h", "Headwater-TTL", "2h"}, 400, apierrors.BadParameter},
		"empty token":         {"PUT", "/v1/kv/n/i/k", "", []string{"Idempotency-Key", ""}, 400, apierrors.BadToken},
		"If-None-Match a tag": {"PUT", "/v1/kv/n/i/k", "", []string{"If-None-Match", `"v1"`}, 400, apierrors.BadCondition},
		"weak If-Match":       {"PUT", "/v1/kv/n/i/k", "", []string{"If-Match", `W/"v1"`}, 400, apierrors.BadCondition},
		"bare If-Match":       {"PUT", "/v1/kv/n/i/k", "", []string{"If-Match", `v1`}, 400, apierrors.BadCondition},
		"If-Match *":          {"PUT", "/v1/kv/n/i/k", "", []string{"If-Match", `*`}, 400, apierrors.BadCondition},
		"one quote":           {"PUT", "/v1/kv/n/i/k", "", []string{"If-Match", `"`}, 400, apierrors.BadCondition},
		"two tags":            {"PUT", "/v1/kv/n/i/k", "", []string{"If-Match", `"v1", "v2"`}, 400, apierrors.BadCondition},
		"both conditions":     {"PUT", "/v1/kv/n/i/k", "", []string{"If-Match", `"v1"`, "If-None-Match", "*"}, 400, apierrors.BadCondition},
		"absent and delete":   {"DELETE", "/v1/kv/n/i/k", "", []string{"If-None-Match", "*"}, 400, apierrors.BadCondition},
		"unknown parameter":   {"GET", "/v1/kv/n/i/k?aftr=p", "", nil, 400, apierrors.BadParameter},
		"parameter on put":    {"PUT", "/v1/kv/n/i/k?after=p", "", nil, 400, apierrors.BadParameter},
		"consistency twice":   {"GET", "/v1/kv/n/i/k?consistency=LATEST&consistency=LATEST", "", nil, 400, apierrors.BadParameter},
		"unknown consistency": {"GET", "/v1/kv/n/i/k?consistency=strong", "", nil, 400, apierrors.BadConsistency},
		"unspecified":         {"GET", "/v1/kv/n/i/k?consistency=CONSISTENCY_UNSPECIFIED", "", nil, 400, apierrors.BadConsistency},
		"bad query":           {"GET", "/v1/kv/n/i/k?after=%zz", "", nil, 400, apierrors.BadParameter},
		"post":                {"POST", "/v1/kv/n/i/k", "", nil, 405, apierrors.BadMethod},
		"get of a record":     {"GET", "/v1/kv/n/i", "", nil, 405, apierrors.BadMethod},
		"deadline":            {"GET", "/v1/kv/n/i/k", "", []string{"Request-Timeout-Ms", "x"}, 400, apierrors.BadDeadline},
		"brotli":              {"PUT", "/v1/kv/n/i/k", "", []string{"Content-Encoding", "br"}, 400, apierrors.UnsupportedCompression},
	} {
		t.Run(name, func(t *testing.T) {
			body := f.do(c.method, c.path, c.body, c.headers...).wantError(t, c.status, c.reason)
			if _, has := body["outcome"]; has != (c.method != "GET") {
				t.Errorf("outcome on %s: %v", c.method, body["outcome"])
			}
		})
	}
	if len(f.kv.puts)+len(f.kv.gets)+len(f.kv.dels) != 0 {
		t.Error("a refused request reached the handler")
	}
}

func TestLargeValuesAreStreamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.kv.items[itemName("n", "i", []byte("k"))] = &headwaterv1.Item{Version: "v5", Chunked: true, Size: 9}
	f.kv.pieces = [][]byte{[]byte("abc"), bytes.Repeat([]byte("d"), 3<<20), []byte("e")}
	a := f.do("GET", "/v1/kv/n/i/k", "")
	if a.StatusCode != 200 || a.err != nil || len(a.body) != 3<<20+4 || a.Header.Get("ETag") != `"v5"` || a.Header.Get("Headwater-Position") != "p4" {
		t.Errorf("%d %v, %d bytes, %v", a.StatusCode, a.err, len(a.body), a.Header)
	}
	f.kv.piecesErr = apierrors.New(apierrors.Corrupt, "corrupt; restore")
	if a := f.do("GET", "/v1/kv/n/i/k", ""); a.err == nil {
		t.Errorf("half a value reads as a whole one: %d bytes", len(a.body))
	}
}

func TestPlainLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	var wrote *headwaterv1.WriteToLogRequest
	var durable headwaterv1.WriteToLogResponse_Durable
	f.log.write = func(r *headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
		wrote = r
		return &headwaterv1.WriteToLogResponse{Durable: durable, Message: "why", Result: &headwaterv1.WriteResult{Position: "p8", Token: r.GetToken()}}, nil
	}
	durable = headwaterv1.WriteToLogResponse_SUCCEEDED
	a := f.do("POST", "/v1/log/n/a%2Fb", "payload\xff", "Idempotency-Key", "m1")
	if a.StatusCode != 200 || wrote.GetKey() != "a/b" || string(wrote.GetPayload()) != "payload\xff" || wrote.GetToken().GetKey() != "m1" ||
		decodeObject(t, a.body)["durable"] != "SUCCEEDED" || a.Header.Get("Headwater-Position") != "p8" {
		t.Errorf("%d %s %v", a.StatusCode, a.body, wrote)
	}
	durable = headwaterv1.WriteToLogResponse_FAILED
	if body := f.do("POST", "/v1/log/n/k", "x").wantError(t, 503, apierrors.LogUnavailable); body["outcome"] != "NOT_APPLIED" {
		t.Errorf("%v", body)
	}
	durable = headwaterv1.WriteToLogResponse_UNKNOWN
	if body := f.do("POST", "/v1/log/n/k", "x", "Idempotency-Key", "m2").wantError(t, 503, apierrors.AppendUnknown); body["outcome"] != "UNKNOWN" || body["token"].(map[string]any)["key"] != "m2" {
		t.Errorf("%v", body)
	}

	var read *headwaterv1.ReadLogRequest
	f.log.read = func(r *headwaterv1.ReadLogRequest, out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
		read = r
		return out.Send(&headwaterv1.ReadLogResponse{Payload: []byte("x")})
	}
	for query, want := range map[string]func() bool{
		"": func() bool {
			return read.GetFrom().GetEarliest() != nil && !read.GetFollow() && read.GetFilter() == nil
		},
		"?from=": func() bool { // which the service refuses
			p, ok := read.GetFrom().GetStart().(*headwaterv1.LogStart_Position)
			return ok && p.Position == ""
		},
		"?from=earliest":           func() bool { return read.GetFrom().GetEarliest() != nil },
		"?from=latest&follow=true": func() bool { return read.GetFrom().GetLatest() != nil && read.GetFollow() },
		"?from=2026-01-02T03:04:05Z&follow=false": func() bool {
			return read.GetFrom().GetTime().AsTime().Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) && !read.GetFollow()
		},
		"?from=AAEC&key=": func() bool {
			return read.GetFrom().GetPosition() == "AAEC" && read.GetFilter().Key != nil && read.GetFilter().Kind == nil
		},
		"?key=k&kind=some": func() bool { return read.GetFilter().GetKey() == "k" && read.GetFilter().GetKind() == "some" },
	} {
		if a := f.do("GET", "/v1/log/n"+query, ""); a.StatusCode != 200 || !want() || decodeObject(t, a.body)["payload"] != "eA==" {
			t.Errorf("%s: %d %s, request %v", query, a.StatusCode, a.body, read)
		}
	}
	f.do("GET", "/v1/log/n?follow=perhaps", "").wantError(t, 400, apierrors.BadParameter)
	f.do("GET", "/v1/log/n?form=earliest", "").wantError(t, 400, apierrors.BadParameter)
	f.do("GET", "/v1/log/n/k", "").wantError(t, 405, apierrors.BadMethod)
	f.do("POST", "/v1/log/n", "x").wantError(t, 405, apierrors.BadMethod)
}
