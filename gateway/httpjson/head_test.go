package httpjson

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestHeadIsGetWithoutItsBody: the same status and the same headers, also of
// errors, and nothing is read that nobody gets.
func TestHeadIsGetWithoutItsBody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.handler.RegisterPlainCounter(countService{})
	f.kv.items[itemName("n", "i", []byte("k"))] = &headwaterv1.Item{
		Value: []byte("value"), Version: "v1", ContentType: "text/plain",
	}
	f.kv.items[itemName("n", "i", []byte("large"))] = &headwaterv1.Item{Version: "v5", Chunked: true, Size: 9}
	f.kv.pieces = [][]byte{[]byte("abc")}
	sent := 0
	f.log.read = func(req *headwaterv1.ReadLogRequest,
		out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
		if req.GetNamespace() == "nowhere" {
			return apierrors.New(apierrors.NamespaceNotFound, "there is none; make it")
		}
		for range map[string]int{"some": 3, "none": 0}[req.GetNamespace()] {
			if err := out.Send(&headwaterv1.ReadLogResponse{}); err != nil {
				return err
			}
			sent++
		}
		if req.GetFollow() {
			<-out.Context().Done()
		}
		return nil
	}
	for _, path := range []string{
		"/openapi.json", "/v1/kv/n/i/k", "/v1/kv/n/i/absent", "/v1/kv/n/i/k?consistency=x", "/v1/kv/n/i/large",
		"/v1/counter/n/c", "/v1/counter/n/c?accuracy=x", "/v1/log/some", "/v1/log/none", "/v1/log/nowhere",
		"/v1/log/some?from=earliest", "/v1/log/some?follow=x", "/v1/kv/n/i", "/v1/log/n/k", "/nothing", putPath,
	} {
		get := f.do("GET", path, "")
		sent = 0
		head := f.do("HEAD", path, "")
		if head.StatusCode != get.StatusCode || len(head.body) != 0 || head.err != nil {
			t.Errorf("%s: %d, %d bytes, %v; GET has %d", path, head.StatusCode, len(head.body), head.err,
				get.StatusCode)
		}
		want, got := get.Header.Clone(), head.Header.Clone()
		for _, h := range []http.Header{want, got} {
			h.Del("X-Request-Id") // its own
			h.Del("Date")
			h.Del("Content-Length") // an error has the request's id in its body
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: headers %v, GET has %v", path, got, want)
		}
		if get.StatusCode >= 400 {
			if body := get.wantError(t, get.StatusCode,
				head.Header.Get("Headwater-Reason")); body["outcome"] != nil && path != putPath {
				t.Errorf("%s: an error of a read has an outcome", path)
			}
		} else if cl := get.Header.Get("Content-Length"); cl > "0" && head.Header.Get("Content-Length") != cl {
			t.Errorf("%s: Content-Length %q, GET has %s", path, head.Header.Get("Content-Length"), cl)
		}
		if sent > 0 {
			t.Errorf("%s: %d messages were sent behind a head", path, sent)
		}
	}
	// It does not wait for messages that nobody gets.
	f.server.Client().Timeout = 30 * time.Second
	for _, path := range []string{"/v1/log/some?follow=true", "/v1/log/none?follow=true"} {
		if a := f.do("HEAD", path, ""); a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s: %d %v", path, a.StatusCode, a.Header)
		}
	}
	if a := f.do("POST", "/v1/kv/n/i/k", ""); a.Header.Get("Allow") != "GET, HEAD, PUT, DELETE" {
		t.Errorf("Allow is %q", a.Header.Get("Allow"))
	}
}

type countService struct {
	headwaterv1.UnimplementedCounterServiceServer
}

func (countService) GetCount(context.Context, *headwaterv1.GetCountRequest) (*headwaterv1.GetCountResponse, error) {
	return &headwaterv1.GetCountResponse{Count: &headwaterv1.Count{Value: 1}}, nil
}
