package httpjson

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func decodeObject(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%.300q: %v", data, err)
	}
	return v
}

func TestServerStreamIsOneObjectALine(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for name, c := range map[string]struct {
		messages int
		err      error
		status   int
	}{
		"none":             {0, nil, 200},
		"three":            {3, nil, 200},
		"error at once":    {0, apierrors.New(apierrors.Trimmed, "gone; start at earliest"), 400},
		"error in between": {2, apierrors.New(apierrors.LogUnavailable, "away; retry"), 200},
	} {
		f.log.read = func(_ *headwaterv1.ReadLogRequest, out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
			if _, ok := out.Context().Deadline(); ok {
				t.Errorf("%s: a stream without the header has a deadline", name)
			}
			for i := range c.messages {
				if err := out.Send(&headwaterv1.ReadLogResponse{Offset: int64(i)}); err != nil {
					return err
				}
			}
			return c.err
		}
		a := f.do("POST", readPath, `{"namespace":"n"}`)
		if a.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
		if c.status != 200 {
			a.wantError(t, c.status, apierrors.Trimmed)
			continue
		}
		lines := strings.Split(string(a.body), "\n")
		lines = lines[:len(lines)-1] // after the last newline
		if c.err != nil {
			last := decodeObject(t, []byte(lines[len(lines)-1]))
			if err := checkErrorBody(last["error"].(map[string]any)); err != nil || len(last) != 1 {
				t.Errorf("%s: last line %v: %v", name, last, err)
			}
			lines = lines[:len(lines)-1]
		}
		if len(lines) != c.messages || a.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s: %q", name, lines)
		}
		for i, line := range lines {
			if got := decodeObject(t, []byte(line)); got["offset"] != string(rune('0'+i)) || got["kind"] != "" {
				t.Errorf("%s: line %d is %s", name, i, line)
			}
		}
	}
	f.do("POST", readPath, ``).wantError(t, 400, apierrors.MalformedRequest)
	f.do("POST", readPath, `{"x":1}`).wantError(t, 400, apierrors.MalformedRequest)
}

func TestFollowSendsEachMessageAtOnceAndEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	next, ended := make(chan struct{}), make(chan error, 1)
	f.log.read = func(_ *headwaterv1.ReadLogRequest, out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
		for {
			if err := out.Send(&headwaterv1.ReadLogResponse{}); err != nil {
				ended <- err
				return err
			}
			select {
			case <-next:
			case <-out.Context().Done():
				ended <- out.Context().Err()
				return out.Context().Err()
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", f.server.URL+"/v1/log/n?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for range 3 {
		if _, err := lines.ReadString('\n'); err != nil { // arrives while the handler waits
			t.Fatal(err)
		}
		next <- struct{}{}
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("the stream ended without an error")
	}
}

func TestClientStreamReadsLines(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{MaxMessageBytes: 300_000, MaxStreamBytes: 2_000_000})
	line := `{"namespace":"n","uploadId":"u","index":1,"data":"QUJD","crc32c":7}`
	for name, body := range map[string]string{
		"newline at the end": line + "\n" + line + "\n",
		"none at the end":    line + "\n" + line,
		"empty lines, CRLF":  "\r\n" + line + "\r\n\n  \n" + line + "\r\n",
	} {
		a := f.do("POST", chunkPath, body, "Content-Type", "application/x-ndjson")
		if got := strings.TrimSpace(string(a.body)); a.StatusCode != 200 || got != `{"chunksReceived":2,"bytesReceived":"6"}` {
			t.Errorf("%s: %d %s", name, a.StatusCode, got)
		}
	}
	if a := f.do("POST", chunkPath, ""); strings.TrimSpace(string(a.body)) != `{"chunksReceived":0,"bytesReceived":"0"}` {
		t.Errorf("no lines: %s", a.body)
	}
	// A line longer than the read buffer.
	long := `{"data":"` + strings.Repeat("QUJD", 50_000) + `"}`
	if a := f.do("POST", chunkPath, long+"\n"+long); !strings.Contains(string(a.body), `"bytesReceived":"300000"`) {
		t.Errorf("long lines: %s", a.body)
	}
	f.do("POST", chunkPath, line+"\n{\"x\":1}\n").wantError(t, 400, apierrors.MalformedRequest)
	f.do("POST", chunkPath, line+line).wantError(t, 400, apierrors.MalformedRequest)
	f.do("POST", chunkPath, `{"data":"`+strings.Repeat("QUJD", 130_000)+`"}`).wantError(t, 413, apierrors.RequestTooLarge)
	f.do("POST", chunkPath, strings.Repeat(" ", 2_000_001)).wantError(t, 413, apierrors.RequestTooLarge)
}
