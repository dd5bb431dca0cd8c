package server

import (
	"testing"
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
