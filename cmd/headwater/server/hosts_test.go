package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// openHosts starts a server that answers to more names.
func openHosts(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.DataDir, cfg.Demo = t.TempDir(), true
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	if err := s.WaitReady(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s
}

func sendAs(t *testing.T, addr, host, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return exchange(t, req)
}

// TestAPageOnAnotherNameReachesNothing: a page of the web whose name was made to
// resolve to this machine is of the same origin for its browser. What tells it
// from a program is the name that it asks for.
func TestAPageOnAnotherNameReachesNothing(t *testing.T) {
	t.Parallel()
	s := openHosts(t, Config{AllowedHosts: []string{"Headwater.internal", "db.example.com."}})
	_, port, err := net.SplitHostPort(s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const put = "/v1/kv/demo-kv/rebound/key"
	for _, host := range []string{
		"evil.example", "evil.example:" + port, "EVIL.example.", "localhost.evil.example", "xlocalhost",
		"127.0.0.1.evil.example",
		"headwater.internal.evil.example", "localhost:x", "localhost:80:80", "[::1", "[localhost]", "2130706433", ".",
		"db.example.com..",
	} {
		origin := []string{"Origin", "http://" + host, "Sec-Fetch-Site", "same-origin"}
		r := sendAs(t, s.HTTPAddr(), host, "PUT", put, "value", origin...)
		if r.status != http.StatusForbidden || r.field(t, "reason") != "HW-1604" ||
			r.field(t, "code") != "permission_denied" {
			t.Errorf("a put as %q: %s", host, r)
		}
		for _, path := range []string{put, "/openapi.json", "/", "/v1/log/demo-log"} {
			r := sendAs(t, s.HTTPAddr(), host, "GET", path, "")
			if r.status != http.StatusForbidden || r.field(t, "reason") != "HW-1604" {
				t.Errorf("GET %s as %q: %s", path, host, r)
			}
		}
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/cmdline", "/debug/pprof/",
			"/nothing"} {
			r := sendAs(t, s.AdminAddr(), host, "GET", path, "")
			if r.status != http.StatusForbidden || !strings.Contains(r.body, "HW-1604") {
				t.Errorf("GET %s of the admin listener as %q: %s", path, host, r)
			}
		}
	}
	if r := send(t, s, "GET", put, ""); r.status != http.StatusNotFound {
		t.Errorf("a page has written: %s", r)
	}
	for _, host := range []string{
		"localhost", "LocalHost:1", "localhost.", "localhost:", own, strings.ToUpper(own) + ":9",
		"headwater.internal", "HEADWATER.INTERNAL.:7080", "db.example.com",
		"127.0.0.1", "127.0.0.1:" + port, "10.1.2.3:80", "[::1]", "[::1]:" + port, "[fe80::1%25eth0]:80",
		"[fe80::1%eth0]", "[::ffff:127.0.0.1]:80",
	} {
		if r := sendAs(t, s.HTTPAddr(), host, "GET", "/v1/counter/demo-counter/c", ""); r.status != http.StatusOK {
			t.Errorf("a read as %q: %s", host, r)
		}
		if r := sendAs(t, s.AdminAddr(), host, "GET", "/healthz", ""); r.status != http.StatusOK {
			t.Errorf("health as %q: %s", host, r)
		}
	}
}

// TestTheHostIsRefusedBeforeTheBody arrives: the answer comes although the body
// never does.
func TestTheHostIsRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	s := openHosts(t, Config{})
	for _, c := range []struct {
		head   string
		status int
	}{
		{"PUT /v1/kv/demo-kv/i/k HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\n", 403},
		{"POST http://evil.example/v1/counter/demo-counter/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n", 403},
		// Neither names a host, which no browser does.
		{"GET /v1/counter/demo-counter/c HTTP/1.0\r\n\r\n", 200},
		{"GET /v1/counter/demo-counter/c HTTP/1.1\r\nHost:\r\n\r\n", 200},
	} {
		conn, err := net.Dial("tcp", s.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.head); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != c.status {
			t.Errorf("%q: %d %s, %v", c.head, resp.StatusCode, b, err)
		}
		resp.Body.Close()
		conn.Close()
	}
}

// TestWhoListensOnTheNetworkNamesItsHosts: off loopback every name is served
// until there is a list.
func TestWhoListensOnTheNetworkNamesItsHosts(t *testing.T) {
	t.Parallel()
	for _, listed := range []bool{false, true} {
		cfg := Config{HTTP: "0.0.0.0:0", Admin: "0.0.0.0:0"}
		want := http.StatusOK
		if listed {
			cfg.AllowedHosts, want = []string{"headwater.internal"}, http.StatusForbidden
		}
		s := openHosts(t, cfg)
		for addr, path := range map[string]string{s.HTTPAddr(): "/openapi.json", s.AdminAddr(): "/healthz"} {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			for host, want := range map[string]int{"any.example": want, "headwater.internal": 200, "127.0.0.1": 200} {
				if r := sendAs(t, "127.0.0.1:"+port, host, "GET", path, ""); r.status != want {
					t.Errorf("list %v, %s as %s: %s", listed, path, host, r)
				}
			}
		}
	}
}

func TestAllowedHostsAreNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "http://a", "a/b", "*.example.com", "a b", "a:80", "a..b", ".",
		strings.Repeat("a", 254), "-a", "[::1]"} {
		_, err := Open(t.Context(), Config{DataDir: t.TempDir(), AllowedHosts: []string{"ok.example", bad}})
		if err == nil || !strings.Contains(err.Error(), "allowed") ||
			!strings.Contains(err.Error(), fmt.Sprintf("%q", bad[:min(len(bad), 64)])) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestHeadWorksWhereGetDoes on the listeners as they are.
func TestHeadWorksWhereGetDoes(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	if r := send(t, s, "PUT", "/v1/kv/demo-kv/head/k", "value"); r.status != 204 {
		t.Fatal(r)
	}
	for _, url := range []string{
		s.AdminAddr() + "/healthz", s.AdminAddr() + "/readyz", s.AdminAddr() + "/metrics",
		s.HTTPAddr() + "/openapi.json",
		s.HTTPAddr() + "/v1/kv/demo-kv/head/k", s.HTTPAddr() + "/v1/counter/demo-counter/c",
		s.HTTPAddr() + "/v1/log/demo-kv?follow=true",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r := exchange(t, req); r.status != 200 || r.body != "" {
			t.Errorf("%s: %s", url, r)
		}
	}
}
