package server

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestClockOfAGateway: one whose clock is far from the brokers' is not ready and says why, until the clock is set. What it
// takes meanwhile has the brokers' time all the same.
func TestClockOfAGateway(t *testing.T) {
	t.Parallel()
	c := newSplit(t, kafkaFake(t))
	for what, off := range map[string]time.Duration{"ahead of": 30 * time.Second, "behind": -30 * time.Second} {
		var ahead atomic.Int64
		ahead.Store(int64(off))
		cfg := c.config(Gateway, "")
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		s, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "it says why it is not ready", func() bool {
			err := s.Unready()
			return err != nil && strings.Contains(err.Error(), what+" the brokers'") && strings.Contains(err.Error(), "max_drift_future")
		})
		if r := get(t, "http://"+s.AdminAddr()+"/readyz"); r.status != http.StatusServiceUnavailable || !strings.Contains(r.body, "set the clock") {
			t.Errorf("readyz of a clock that is %s the brokers': %s", what, r)
		}
		before := time.Now().Add(-5 * time.Second)
		is(t, "put", call(t, s, "KeyValue.PutItems", `{"namespace":"demo-kv","id":"r","items":[{"key":"aw==","value":"MQ=="}]}`))
		r := call(t, c.gateway, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r","consistency":"LATEST"}`)
		_, rest, _ := strings.Cut(r.body, `"writtenAt":"`)
		text, _, _ := strings.Cut(rest, `"`)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.Before(before) || at.After(time.Now().Add(5*time.Second)) {
			t.Errorf("what was written by a clock that is %s the brokers' is %s, %v", what, r, err)
		}
		ahead.Store(0)
		until(t, "it is ready by a clock that is set", func() bool { return s.Unready() == nil })
		closeServer(t, s)
	}
}
