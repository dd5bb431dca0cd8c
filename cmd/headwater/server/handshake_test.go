package server

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestHandshakeLeavesOutWhatIsNotKnown: a figure that nobody measured would read as
// idle, and an objective that nobody set as no time at all.
func TestHandshakeLeavesOutWhatIsNotKnown(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	type answer struct {
		Slo          map[string]any
		Utilization  map[string]float64
		Capabilities []string
		Limits       map[string]any
	}
	shake := func(s *Server, namespace string) answer {
		t.Helper()
		r := call(t, s, "Admin.Handshake", `{"namespace":"`+namespace+`","client":"test"}`)
		expectBody(t, r, http.StatusOK, "refreshAfter")
		var a answer
		if err := json.Unmarshal([]byte(r.body), &a); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
		return a
	}
	embedded := start(t, t.TempDir())
	a := shake(embedded, "demo-kv")
	for tick := time.NewTicker(20 * time.Millisecond); a.Utilization == nil; <-tick.C { // the log has not measured its disk yet
		a = shake(embedded, "demo-kv")
	}
	if got := slices.Sorted(maps.Keys(a.Utilization)); !slices.Equal(got, []string{"storage"}) {
		t.Errorf("utilization of %v; the log's disk is what is measured", got)
	}
	if a.Slo["read"] == nil || a.Slo["write"] == nil {
		t.Errorf("objectives of a key-value namespace: %v", a.Slo)
	}
	if a := shake(embedded, "demo-log"); a.Slo != nil {
		t.Errorf("objectives of a log namespace, which has none: %v", a.Slo)
	}
	onBrokers := onKafka(t, kafkaFake(t), newPrefix(), t.TempDir())
	defer closeServer(t, onBrokers)
	if a := shake(onBrokers, "demo-kv"); a.Utilization != nil {
		t.Errorf("utilization of %v; the disks of brokers are not seen", a.Utilization)
	}
}
