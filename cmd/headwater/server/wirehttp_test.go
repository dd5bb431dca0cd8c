package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/api/apierrors"
)

// raw sends bytes, ends its side where it is told to, and reads the answers.
func raw(t *testing.T, s *Server, request string, end bool, answers int) []reply {
	t.Helper()
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	if end {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	var all []reply
	in := bufio.NewReader(conn)
	for range answers {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%.80q: answer %d: %v", request, len(all), err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%.80q: %v", request, err)
		}
		all = append(all, reply{resp.StatusCode, string(bytes.TrimSpace(b)), resp.Header})
	}
	return all
}

// TestEveryErrorOfHTTPHasItsCode: also those of requests that are no HTTP, and of
// bodies that break.
func TestEveryErrorOfHTTPHasItsCode(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	const (
		host   = "Host: localhost\r\n"
		put    = "PUT /v1/kv/demo-kv/i/k HTTP/1.1\r\n" + host
		rpc    = "POST /headwater.v1.CounterService/AddCount HTTP/1.1\r\n" + host
		piece  = "Transfer-Encoding: chunked\r\n\r\n"
		upload = "POST /headwater.v1.KeyValueService/UploadChunk HTTP/1.1\r\n" + host
	)
	for _, c := range []struct {
		name, request string
		end           bool
		status        int
		reason        string
	}{
		{"%zz", "PUT /v1/kv/demo-kv/i/%zz HTTP/1.1\r\n" + host + "\r\n", false, 400, apierrors.MalformedRequest},
		{"no version", "GET /\r\n\r\n", false, 400, apierrors.MalformedRequest},
		{"HTTP/3", "GET / HTTP/3.0\r\n" + host + "\r\n", false, 501, apierrors.NotOffered},
		{"HTTP/2 by knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, 404, apierrors.PathNotFound},
		{"no host", "GET / HTTP/1.1\r\n\r\n", false, 400, apierrors.MalformedRequest},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", false, 400, apierrors.MalformedRequest},
		{"a header that is none", put + "a b: c\r\n\r\n", false, 400, apierrors.MalformedRequest},
		{"a header with a line break", put + "A: b\x00c\r\n\r\n", false, 400, apierrors.MalformedRequest},
		{"large headers", put + "A: " + strings.Repeat("a", 32<<10) + "\r\n\r\n", false, 413,
			apierrors.RequestTooLarge},
		{"unknown transfer", put + "Transfer-Encoding: gzip\r\n\r\n", false, 501, apierrors.NotOffered},
		{"two lengths", put + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", false, 400, apierrors.MalformedRequest},
		{"negative length", put + "Content-Length: -1\r\n\r\n", false, 400, apierrors.MalformedRequest},
		{"unknown expectation", put + "Expect: cake\r\nContent-Length: 1\r\n\r\n", false, 400,
			apierrors.MalformedRequest},
		{"all of the server", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", false, 404, apierrors.PathNotFound},
		{"a tunnel", "CONNECT localhost:80 HTTP/1.1\r\n" + host + "\r\n", false, 404, apierrors.PathNotFound},
		{"broken chunk", put + piece + "zz\r\n", false, 400, apierrors.MalformedRequest},
		{"broken chunk of JSON", rpc + piece + "2\r\n{}xx", false, 400, apierrors.MalformedRequest},
		{"broken chunk of a stream", upload + piece + "2\r\n{}xx", false, 400, apierrors.MalformedRequest},
		{"half a chunk", put + piece + "5\r\nab", true, 400, apierrors.MalformedRequest},
		{"half a body", put + "Content-Length: 5\r\n\r\nab", true, 400, apierrors.MalformedRequest},
		{"half of JSON", rpc + "Content-Length: 5\r\n\r\n{", true, 400, apierrors.MalformedRequest},
		{"half a stream", upload + "Content-Length: 5\r\n\r\n{", true, 400, apierrors.MalformedRequest},
	} {
		r := raw(t, s, c.request, c.end, 1)[0]
		if r.status != c.status || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %v", c.name, r, r.header)
			continue
		}
		var outcome any = "NOT_APPLIED"
		if strings.HasPrefix(c.request, "OPTIONS") { // which never writes
			outcome = nil
		}
		if r.field(t, "reason") != c.reason || r.field(t, "outcome") != outcome || r.field(t, "token") != nil ||
			r.field(t, "requestId") == "" || r.field(t, "requestId") != r.header.Get("X-Request-Id") {
			t.Errorf("%s: %s, %v", c.name, r, r.header)
		}
	}
}

// TestAnAnswerIsNeverTakenForOneOfNetHTTP: a value that looks like what net/http
// says by itself, and is written to the connection alone, is sent as it is; and a
// connection that has been used refuses what it cannot read as a new one does.
func TestAnAnswerIsNeverTakenForOneOfNetHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	like := "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Connection: close\r\n\r\n400 Bad Request"
	ask := func(n int) []reply {
		t.Helper()
		if r := send(t, s, "PUT", "/v1/kv/demo-kv/like/k", strings.Repeat("v", n)+like); r.status != 204 {
			t.Fatal(r)
		}
		const get = "GET /v1/kv/demo-kv/like/k HTTP/1.1\r\nHost: localhost\r\n\r\n"
		all := raw(t, s, get+"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", false, 2)
		if all[0].status != 200 || all[0].body != strings.Repeat("v", n)+like {
			t.Fatalf("%d: the value comes back with %d bytes: %.300s", n, len(all[0].body),
				strings.TrimLeft(all[0].body, "v"))
		}
		if all[1].status != 400 || all[1].field(t, "reason") != apierrors.MalformedRequest {
			t.Fatalf("%d: %s", n, all[1])
		}
		return all
	}
	// net/http writes 4,096 bytes at a time: the head, the v's, and then the rest.
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 200 OK\r\n")
	if err := ask(3700)[0].header.Write(&head); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		ask(4096 - head.Len() - len("\r\n") - 2 + n)
	}
}
