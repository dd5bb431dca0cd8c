package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// onCounter fills in the namespace of a request's body.
func onCounter(t *testing.T, s *Server, method, body string) reply {
	t.Helper()
	return call(t, s, "Counter."+method, `{"namespace":"demo-counter",`+body+`}`)
}

// refused checks an error's status, reason and, of a write, its outcome.
func refused(t *testing.T, what string, r reply, status int, reason, outcome string) {
	t.Helper()
	if r.status != status || r.field(t, "reason") != reason {
		t.Errorf("%s: %s, want %d %s", what, r, status, reason)
		return
	}
	if outcome != "" && r.field(t, "outcome") != outcome {
		t.Errorf("%s: outcome %v, want %s", what, r.field(t, "outcome"), outcome)
	}
}

// is checks fields of an answer: pairs of a path and its value.
func is(t *testing.T, what string, r reply, pairs ...string) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Errorf("%s: %s", what, r)
		return
	}
	for i := 0; i < len(pairs); i += 2 {
		want := pairs[i+1]
		if splitAll && want == "SYNC" { // the log is on one broker
			want = "UNREPLICATED"
		}
		if got := fmt.Sprint(r.field(t, pairs[i])); got != want {
			t.Errorf("%s: %s is %s, want %s: %s", what, pairs[i], got, want, r)
		}
	}
}

// TestCountersOverJSON follows every method of the service, over a restart and a
// rebuild.
func TestCountersOverJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	is(t, "add", onCounter(t, s, "AddCount", `"counter":"a","delta":3,"token":{"key":"add"}`), "result.durability", "SYNC", "result.duplicate", "NO", "result.token.key", "add")
	is(t, "add again", onCounter(t, s, "AddCount", `"counter":"a","delta":3,"token":{"key":"add"}`), "result.duplicate", "YES")
	refused(t, "the token with another delta", onCounter(t, s, "AddCount", `"counter":"a","delta":4,"token":{"key":"add"}`), 409, "HW-1201", "NOT_APPLIED")

	batch := `"adds":[{"counter":"a","delta":"3"},{"counter":"a","delta":1},{"counter":"b","delta":-2,"eventTime":"2026-01-01T00:00:30Z","token":{"key":"own"}},{"counter":"c/ü","delta":0}]`
	is(t, "batch", onCounter(t, s, "AddCounts", batch+`,"token":{"key":"batch"}`), "result.duplicate", "NO")
	is(t, "batch again", onCounter(t, s, "AddCounts", batch+`,"token":{"key":"batch"}`), "result.duplicate", "YES")
	// Another call with an add of the same own token: that add counts once.
	is(t, "an add's own token", onCounter(t, s, "AddCounts", `"adds":[{"counter":"b","delta":-2,"eventTime":"2026-01-01T00:00:30Z","token":{"key":"own"}},{"counter":"a","delta":1}]`))
	r := onCounter(t, s, "AddCounts", `"adds":[{"counter":"a","delta":1},{"counter":"b","delta":-3,"token":{"key":"own"}}]`)
	refused(t, "an add's own token with another delta", r, 409, "HW-1201", "NOT_APPLIED")
	if r.field(t, "metadata.add") != "1" {
		t.Errorf("which add: %s", r)
	}

	capped := `"counter":"a","delta":10,"bounds":{"ceiling":"12","onViolation":"SATURATE"},"token":{"key":"capped"}`
	for _, dup := range []string{"false", "true"} {
		is(t, "add and get", onCounter(t, s, "AddAndGetCount", capped), "count.value", "12", "appliedDelta", "4", "violation", "CEILING", "duplicate", dup, "count.accuracy", "ACCURATE")
	}
	is(t, "rejected by a bound", onCounter(t, s, "AddAndGetCount", `"counter":"a","delta":-1,"bounds":{"floor":12}`), "count.value", "12", "appliedDelta", "0", "violation", "FLOOR")
	is(t, "accurate", onCounter(t, s, "GetCount", `"counter":"a","accuracy":"ACCURATE"`), "count.value", "12", "count.accuracy", "ACCURATE", "count.pending", "0")
	is(t, "never added to", onCounter(t, s, "GetCount", `"counter":"nobody"`), "count.value", "0", "count.held", "0", "count.accuracy", "EVENTUAL")
	is(t, "several", onCounter(t, s, "GetCounts", `"counters":["a","b","nobody","a"],"accuracy":"ACCURATE"`), "counts.a.value", "12", "counts.b.value", "-2", "counts.nobody.value", "0")

	page := onCounter(t, s, "ListCounts", `"pageSize":2`)
	names := func(r reply) (out []string) {
		for _, c := range r.field(t, "counts").([]any) {
			out = append(out, c.(map[string]any)["counter"].(string))
		}
		return out
	}
	next := page.field(t, "nextPageToken").(string)
	rest := onCounter(t, s, "ListCounts", `"pageSize":2,"pageToken":"`+next+`"`)
	if got := fmt.Sprint(names(page), names(rest), rest.field(t, "nextPageToken")); got != "[a b] [c/ü]" {
		t.Errorf("pages: %s", got)
	}
	refused(t, "a page token of another list", onCounter(t, s, "ListCounts", `"prefix":"a","pageToken":"`+next+`"`), 400, "HW-1011", "")

	series := onCounter(t, s, "GetCountSeries", `"counter":"b","interval":{"start":"2025-12-31T23:59:00Z","end":"2026-01-01T00:02:00Z"},"granularity":"60s"`)
	if got := fmt.Sprint(series.field(t, "points")); got != "[map[adds:0 start:2025-12-31T23:59:00Z sum:0] map[adds:1 start:2026-01-01T00:00:00Z sum:-2] map[adds:0 start:2026-01-01T00:01:00Z sum:0]]" {
		t.Errorf("series: %s", got)
	}
	days := onCounter(t, s, "GetCountSeries", `"counter":"b","interval":{"start":"2025-12-31T23:00:00Z","end":"2026-01-01T23:00:00Z"},"granularity":"86400s","timeZone":"Europe/Berlin"`)
	if got := fmt.Sprint(days.field(t, "points")); got != "[map[adds:1 start:2025-12-31T23:00:00Z sum:-2]]" {
		t.Errorf("a day in Berlin: %s", got)
	}

	is(t, "verify", onCounter(t, s, "VerifyCount", `"counter":"a"`), "stored.value", "12", "recounted", "12", "drift", "0")

	// Reservations.
	reserve := `"counter":"a","amount":5,"lease":"60s","token":{"key":"r"}`
	first := onCounter(t, s, "ReserveCount", reserve)
	is(t, "reserve", first, "count.value", "12", "count.held", "5", "result.duplicate", "NO")
	id := first.field(t, "reservationId").(string)
	is(t, "reserve again", onCounter(t, s, "ReserveCount", reserve), "reservationId", id, "count.held", "5", "result.duplicate", "YES")
	r = onCounter(t, s, "ReserveCount", `"counter":"a","amount":8,"lease":"60s"`)
	refused(t, "reserve what is not there", r, 400, "HW-1209", "NOT_APPLIED")
	if r.field(t, "metadata.available") != "7" {
		t.Errorf("what is there: %s", r)
	}
	r = onCounter(t, s, "SettleReservation", `"reservationId":"`+id+`","amount":6`)
	refused(t, "settle more than is reserved", r, 400, "HW-1211", "NOT_APPLIED")
	is(t, "settle", onCounter(t, s, "SettleReservation", `"reservationId":"`+id+`","amount":2,"token":{"key":"s"}`), "count.value", "10", "count.held", "0")
	is(t, "settle again", onCounter(t, s, "SettleReservation", `"reservationId":"`+id+`","amount":2,"token":{"key":"s"}`), "count.value", "10", "result.duplicate", "YES")
	r = onCounter(t, s, "CancelReservation", `"reservationId":"`+id+`"`)
	refused(t, "cancel what is settled", r, 400, "HW-1210", "NOT_APPLIED")
	if r.field(t, "metadata.state") != "SETTLED" {
		t.Errorf("how it ended: %s", r)
	}
	id = onCounter(t, s, "ReserveCount", `"counter":"a","amount":4,"lease":"60s"`).field(t, "reservationId").(string)
	for range 2 {
		is(t, "cancel", onCounter(t, s, "CancelReservation", `"reservationId":"`+id+`"`), "count.value", "10", "count.held", "0")
	}

	// Clear: what precedes it is gone, a resend of it later changes nothing.
	clearing := `"counter":"a","token":{"key":"clear"}`
	is(t, "clear", onCounter(t, s, "ClearCount", clearing), "result.duplicate", "NO")
	is(t, "after the clear", onCounter(t, s, "AddAndGetCount", `"counter":"a","delta":7`), "count.value", "7")
	is(t, "clear again", onCounter(t, s, "ClearCount", clearing), "result.duplicate", "YES")
	is(t, "nothing was cleared", onCounter(t, s, "GetCount", `"counter":"a","accuracy":"ACCURATE"`), "count.value", "7")

	// The ends of int64.
	is(t, "the largest", onCounter(t, s, "AddAndGetCount", `"counter":"max","delta":"9223372036854775807"`), "count.value", "9223372036854775807")
	refused(t, "beyond it", onCounter(t, s, "AddAndGetCount", `"counter":"max","delta":1`), 400, "HW-1208", "NOT_APPLIED")
	lost := onCounter(t, s, "AddCount", `"counter":"max","delta":1`)
	position := lost.field(t, "result.position").(string)
	is(t, "refused without one who waits", onCounter(t, s, "GetCount", `"counter":"max","after":["`+position+`"]`), "count.value", "9223372036854775807")
	letters := call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-counter"}`).field(t, "deadLetters").([]any)
	if len(letters) != 1 || letters[0].(map[string]any)["key"] != "max" || letters[0].(map[string]any)["disposition"] != "REFUSED" {
		t.Errorf("its dead letter: %v", letters)
	}

	// The plain route.
	is(t, "plain add", send(t, s, "POST", "/v1/counter/demo-counter/x%2Fy?by=-3", "", "Idempotency-Key", "p"), "count.value", "-3", "duplicate", "false")
	is(t, "plain add again", send(t, s, "POST", "/v1/counter/demo-counter/x%2Fy?by=-3", "", "Idempotency-Key", "p"), "count.value", "-3", "duplicate", "true")
	plain := send(t, s, "POST", "/v1/counter/demo-counter/x%2Fy", "")
	is(t, "plain add of 1", plain, "count.value", "-2")
	for _, q := range []string{"?accuracy=accurate", "?accuracy=EVENTUAL&after=" + plain.header.Get("Headwater-Position"), "?accuracy=Accurate"} {
		is(t, "plain get "+q, send(t, s, "GET", "/v1/counter/demo-counter/x%2Fy"+q, ""), "count.value", "-2")
	}

	check := func(s *Server, when string) {
		t.Helper()
		is(t, when, onCounter(t, s, "GetCounts", `"counters":["a","b","x/y","max"],"accuracy":"ACCURATE"`),
			"counts.a.value", "7", "counts.b.value", "-2", "counts.x/y.value", "-2", "counts.max.value", "9223372036854775807")
		is(t, when, onCounter(t, s, "AddAndGetCount", capped), "count.value", "12", "appliedDelta", "4", "duplicate", "true")
		is(t, when, onCounter(t, s, "VerifyCount", `"counter":"a"`), "stored.value", "7", "recounted", "7", "drift", "0")
		refused(t, when, onCounter(t, s, "AddCount", `"counter":"a","delta":4,"token":{"key":"add"}`), 409, "HW-1201", "NOT_APPLIED")
	}
	check(s, "before the restart")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check(s, "after a restart")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "stores")); err != nil {
		t.Fatal(err)
	}
	check(start(t, dir), "after a rebuild")
}

// TestBadCountersAreRefusedBeforeTheLog sends what is wrong in every way we know.
func TestBadCountersAreRefusedBeforeTheLog(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	l := topic(t, s, "demo-counter")
	appended := func() (n int64) {
		for p := range l.Info().Partitions {
			b, err := l.Bounds(t.Context(), partition(p))
			if err != nil {
				t.Fatal(err)
			}
			n += int64(b.End)
		}
		return n
	}
	before := appended()
	long := strings.Repeat("x", 1025)
	day := `"interval":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}`
	for name, c := range map[string]struct{ method, body, reason string }{
		"empty name":                   {"AddCount", `"counter":"","delta":1`, "HW-1033"},
		"no name":                      {"AddCount", `"delta":1`, "HW-1033"},
		"name too long":                {"AddCount", `"counter":"` + long + `","delta":1`, "HW-1033"},
		"name too long in a batch":     {"AddCounts", `"adds":[{"counter":"a"},{"counter":"` + long + `"}]`, "HW-1033"},
		"name too long to read":        {"GetCounts", `"counters":["a","` + long + `"]`, "HW-1033"},
		"no adds":                      {"AddCounts", `"adds":[]`, "HW-1014"},
		"too many adds":                {"AddCounts", `"adds":[` + strings.Repeat(`{"counter":"a"},`, 10_000) + `{"counter":"a"}]`, "HW-1014"},
		"too many names":               {"GetCounts", `"counters":[` + strings.Repeat(`"a",`, 10_000) + `"a"]`, "HW-1014"},
		"no names":                     {"GetCounts", `"counters":[]`, "HW-1014"},
		"delta beyond int64":           {"AddCount", `"counter":"a","delta":"9223372036854775808"`, "HW-1013"},
		"delta of a fraction":          {"AddCount", `"counter":"a","delta":1.5`, "HW-1013"},
		"event before 1970":            {"AddCount", `"counter":"a","delta":1,"eventTime":"1969-12-31T23:59:59Z"`, "HW-1034"},
		"negative ttl":                 {"AddCount", `"counter":"a","delta":1,"ttl":"-1s"`, "HW-1008"},
		"ttl of centuries":             {"AddCount", `"counter":"a","delta":1,"ttl":"9000000000s"`, "HW-1008"},
		"token too short":              {"AddCount", `"counter":"a","delta":1,"token":{"nonce":"aw=="}`, "HW-1006"},
		"token from the past":          {"AddCount", `"counter":"a","delta":1,"token":{"key":"p","generationTime":"2020-01-01T00:00:00Z"}`, "HW-1007"},
		"an add's token from the past": {"AddCounts", `"adds":[{"counter":"a","token":{"key":"p","generationTime":"2020-01-01T00:00:00Z"}}]`, "HW-1007"},
		"an add's token is no one's":   {"AddCounts", `"adds":[{"counter":"a","token":{"generationTime":"2020-01-01T00:00:00Z"}}]`, "HW-1006"},
		"unknown accuracy":             {"GetCount", `"counter":"a","accuracy":"EXACT"`, "HW-1013"},
		"unknown accuracy by number":   {"GetCount", `"counter":"a","accuracy":9`, "HW-1035"},
		"position made up":             {"GetCount", `"counter":"a","after":["zzz"]`, "HW-1012"},
		"floor above ceiling":          {"AddAndGetCount", `"counter":"a","bounds":{"floor":2,"ceiling":1}`, "HW-1040"},
		"saturate without a bound":     {"AddAndGetCount", `"counter":"a","bounds":{"onViolation":"SATURATE"}`, "HW-1040"},
		"unknown violation":            {"AddAndGetCount", `"counter":"a","bounds":{"floor":2,"onViolation":7}`, "HW-1040"},
		"page of no size":              {"ListCounts", `"pageSize":-1`, "HW-1010"},
		"page too large":               {"ListCounts", `"pageSize":10001`, "HW-1010"},
		"page token made up":           {"ListCounts", `"pageToken":"AQID"`, "HW-1011"},
		"prefix too long":              {"ListCounts", `"prefix":"` + long + `"`, "HW-1033"},
		"no interval":                  {"GetCountSeries", `"counter":"a","granularity":"60s"`, "HW-1036"},
		"interval without an end":      {"GetCountSeries", `"counter":"a","interval":{"start":"2026-01-01T00:00:00Z"},"granularity":"60s"`, "HW-1036"},
		"end before start":             {"GetCountSeries", `"counter":"a","interval":{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"},"granularity":"60s"`, "HW-1036"},
		"empty interval":               {"GetCountSeries", `"counter":"a","interval":{"start":"2026-01-02T00:00:00Z","end":"2026-01-02T00:00:00Z"},"granularity":"60s"`, "HW-1036"},
		"no granularity":               {"GetCountSeries", `"counter":"a",` + day, "HW-1037"},
		"granularity of zero":          {"GetCountSeries", `"counter":"a","granularity":"0s",` + day, "HW-1037"},
		"negative granularity":         {"GetCountSeries", `"counter":"a","granularity":"-60s",` + day, "HW-1037"},
		"granularity between windows":  {"GetCountSeries", `"counter":"a","granularity":"90s",` + day, "HW-1037"},
		"granularity of centuries":     {"GetCountSeries", `"counter":"a","granularity":"9000000000s",` + day, "HW-1037"},
		"unknown time zone":            {"GetCountSeries", `"counter":"a","granularity":"60s","timeZone":"Mars/Olympus",` + day, "HW-1038"},
		"the machine's time zone":      {"GetCountSeries", `"counter":"a","granularity":"60s","timeZone":"Local",` + day, "HW-1038"},
		"a path for a time zone":       {"GetCountSeries", `"counter":"a","granularity":"60s","timeZone":"../../etc/passwd",` + day, "HW-1038"},
		"too many points":              {"GetCountSeries", `"counter":"a","granularity":"60s","interval":{"start":"2025-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}`, "HW-1039"},
		"a negative reservation":       {"ReserveCount", `"counter":"a","amount":-1,"lease":"1s"`, "HW-1042"},
		"a reservation of nothing":     {"ReserveCount", `"counter":"a","amount":0,"lease":"1s"`, "HW-1042"},
		"no lease":                     {"ReserveCount", `"counter":"a","amount":1`, "HW-1031"},
		"a lease of zero":              {"ReserveCount", `"counter":"a","amount":1,"lease":"0s"`, "HW-1043"},
		"a negative lease":             {"ReserveCount", `"counter":"a","amount":1,"lease":"-1s"`, "HW-1043"},
		"a lease too long":             {"ReserveCount", `"counter":"a","amount":1,"lease":"2592001s"`, "HW-1043"},
		"no reservation":               {"SettleReservation", `"amount":1`, "HW-1041"},
		"a made-up reservation":        {"CancelReservation", `"reservationId":"made-up"`, "HW-1041"},
		"a negative settlement":        {"SettleReservation", `"reservationId":"x","amount":-1`, "HW-1042"},
		"unknown field":                {"AddCount", `"counter":"a","by":1`, "HW-1013"},
		"nobody to verify":             {"VerifyCount", `"counter":""`, "HW-1033"},
		"nobody to clear":              {"ClearCount", `"counter":""`, "HW-1033"},
	} {
		outcome := ""
		if !strings.HasPrefix(c.method, "Get") && !strings.HasPrefix(c.method, "List") && !strings.HasPrefix(c.method, "Verify") {
			outcome = "NOT_APPLIED"
		}
		refused(t, name, onCounter(t, s, c.method, c.body), 400, c.reason, outcome)
	}
	refused(t, "unknown namespace", call(t, s, "Counter.AddCount", `{"namespace":"nope","counter":"a","delta":1}`), 404, "HW-1101", "NOT_APPLIED")
	refused(t, "wrong abstraction", call(t, s, "Counter.AddCount", `{"namespace":"demo-kv","counter":"a","delta":1}`), 400, "HW-1102", "NOT_APPLIED")
	refused(t, "wrong abstraction of kv", call(t, s, "KeyValue.GetItems", `{"namespace":"demo-counter","id":"a"}`), 400, "HW-1102", "")
	for path, c := range map[string]struct {
		method, body string
		status       int
		reason       string
	}{
		"demo-counter/a?by=x":                   {"POST", "", 400, "HW-1023"},
		"demo-counter/a?by=":                    {"POST", "", 400, "HW-1023"},
		"demo-counter/a?by=9223372036854775808": {"POST", "", 400, "HW-1023"},
		"demo-counter/a?by=1&by=2":              {"POST", "", 400, "HW-1023"},
		"demo-counter/a?delta=1":                {"POST", "", 400, "HW-1023"},
		"demo-counter/a":                        {"POST", "by=3", 400, "HW-1013"},
		"demo-counter/":                         {"POST", "", 400, "HW-1033"},
		"demo-counter/a?accuracy=exact":         {"GET", "", 400, "HW-1035"},
		"demo-counter/a?by=1":                   {"GET", "", 400, "HW-1023"},
		"demo-counter/a/b":                      {"GET", "", 404, "HW-1106"},
		"demo-counter":                          {"GET", "", 404, "HW-1106"},
		"demo-counter/%ff":                      {"POST", "", 400, "HW-1015"},
		"nope/a":                                {"GET", "", 404, "HW-1101"},
	} {
		refused(t, c.method+" "+path, send(t, s, c.method, "/v1/counter/"+path, c.body), c.status, c.reason, "")
	}
	refused(t, "PUT", send(t, s, "PUT", "/v1/counter/demo-counter/a", ""), 405, "HW-1024", "NOT_APPLIED")
	if after := appended(); after != before {
		t.Errorf("%d records reached the log", after-before)
	}
	// What is well-formed and unknown is known by the log only.
	is(t, "something to reserve", onCounter(t, s, "AddAndGetCount", `"counter":"a","delta":1`))
	is(t, "a namespace that is made again", call(t, s, "Namespace.ApplyNamespace", `{"config":"namespace: other\nabstraction: counter\n"}`))
	id := onCounter(t, s, "ReserveCount", `"counter":"a","amount":1,"lease":"1s"`).field(t, "reservationId").(string)
	refused(t, "a reservation of another namespace", call(t, s, "Counter.SettleReservation", `{"namespace":"other","reservationId":"`+id+`"}`), 404, "HW-1108", "NOT_APPLIED")
}

// TestALeaseEndsInAnIdleLog: nobody writes, and the reservation still ends, for
// good.
func TestALeaseEndsInAnIdleLog(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "add", onCounter(t, s, "AddAndGetCount", `"counter":"q","delta":5`))
	r := onCounter(t, s, "ReserveCount", `"counter":"q","amount":5,"lease":"0.001s"`)
	id := r.field(t, "reservationId").(string)
	l := topic(t, s, "demo-counter")
	p := wal.PartitionOf([]byte("q"), l.Info().Partitions)
	n, ok := s.spaces.dir.Get("demo-counter")
	if !ok {
		t.Fatal("no demo-counter")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Stream.WaitApplied(ctx, p, 2); err != nil { // the add, the reservation, the tick
		t.Fatalf("no tick: %v", err)
	}
	is(t, "freed", onCounter(t, s, "GetCount", `"counter":"q"`), "count.value", "5", "count.held", "0")
	r = onCounter(t, s, "SettleReservation", `"reservationId":"`+id+`"`)
	refused(t, "settle after the lease", r, 400, "HW-1210", "NOT_APPLIED")
	if r.field(t, "metadata.state") != "EXPIRED" {
		t.Errorf("how it ended: %s", r)
	}
	is(t, "cancel after the lease", onCounter(t, s, "CancelReservation", `"reservationId":"`+id+`"`), "count.held", "0")
}

// TestAccuraciesOfNamespaces: what a namespace says is what its writes and reads
// are.
func TestAccuraciesOfNamespaces(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	apply := func(doc string) reply {
		return call(t, s, "Namespace.ApplyNamespace", fmt.Sprintf(`{"config":%q}`, doc))
	}
	is(t, "apply", apply("namespace: loose\nabstraction: counter\ncounter: {accuracy: best_effort}\n"))
	is(t, "apply", apply("namespace: tight\nabstraction: counter\ncounter: {accuracy: accurate, floor: 0, ceiling: 10}\n"))
	add := call(t, s, "Counter.AddCount", `{"namespace":"loose","counter":"a","delta":2}`)
	is(t, "buffered", add, "result.durability", "BUFFERED", "result.position", "", "result.duplicate", "UNKNOWN")
	if add.field(t, "result.lossWindow") == nil {
		t.Errorf("what can be lost: %s", add)
	}
	refused(t, "accurate read", call(t, s, "Counter.GetCount", `{"namespace":"loose","counter":"a","accuracy":"ACCURATE"}`), 400, "HW-1306", "")
	sum := call(t, s, "Counter.AddAndGetCount", `{"namespace":"loose","counter":"a","delta":1}`)
	is(t, "one who waits", sum, "result.durability", "SYNC", "count.value", "3")
	is(t, "read", call(t, s, "Counter.GetCount", `{"namespace":"loose","counter":"a"}`), "count.value", "3", "count.accuracy", "BEST_EFFORT")

	is(t, "add", call(t, s, "Counter.AddCount", `{"namespace":"tight","counter":"a","delta":9}`), "result.durability", "SYNC")
	is(t, "accurate unless asked", call(t, s, "Counter.GetCount", `{"namespace":"tight","counter":"a"}`), "count.value", "9", "count.accuracy", "ACCURATE")
	is(t, "standing ceiling", call(t, s, "Counter.AddAndGetCount", `{"namespace":"tight","counter":"a","delta":2}`), "count.value", "9", "violation", "CEILING")
	is(t, "raise it", apply("namespace: tight\nabstraction: counter\ncounter: {accuracy: accurate, floor: 0, ceiling: 20}\n"))
	is(t, "raised", call(t, s, "Counter.AddAndGetCount", `{"namespace":"tight","counter":"a","delta":2}`), "count.value", "11", "violation", "NONE")
	refused(t, "other windows", apply("namespace: tight\nabstraction: counter\ncounter: {windows: [1s]}\n"), 400, "HW-1204", "NOT_APPLIED")
}

// TestAPoisonousCounterParks: it alone, until it is dropped.
func TestAPoisonousCounterParks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	is(t, "add", onCounter(t, s, "AddAndGetCount", `"counter":"sick","delta":1`))
	l := topic(t, s, "demo-counter")
	rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindCounter, RoutingKey: []byte("sick"), Token: wal.Token{GenerationTime: s.broker.Now().UnixMicro(), Nonce: wal.NewNonce()}, Payload: []byte{1, 99}})
	p := wal.PartitionOf([]byte("sick"), l.Info().Partitions)
	res := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	after := onCounter(t, s, "AddCount", `"counter":"sick","delta":10`)
	is(t, "what comes after waits behind it", after, "result.durability", "SYNC")
	position := after.field(t, "result.position").(string)
	check := func(s *Server) {
		t.Helper()
		for _, body := range []string{`"counter":"sick","accuracy":"ACCURATE"`, `"counter":"sick","after":["` + position + `"]`} {
			refused(t, "read "+body, onCounter(t, s, "GetCount", body), 400, "HW-1301", "")
		}
		refused(t, "one who waits", onCounter(t, s, "AddAndGetCount", `"counter":"sick","delta":1`), 400, "HW-1301", "NOT_APPLIED")
		is(t, "as it was", onCounter(t, s, "GetCount", `"counter":"sick"`), "count.value", "1")
		is(t, "another", onCounter(t, s, "AddAndGetCount", `"counter":"healthy","delta":1`))
		st := call(t, s, "Admin.Status", `{"namespace":"demo-counter"}`).field(t, "namespaces").([]any)[0].(map[string]any)
		if fmt.Sprint(st["parkedKeys"]) != "1" {
			t.Errorf("status: %v", st)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	check(s)
	list := call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-counter"}`).field(t, "deadLetters").([]any)
	if len(list) != 1 || list[0].(map[string]any)["disposition"] != "PARKED" || list[0].(map[string]any)["key"] != "sick" {
		t.Fatalf("dead letters: %v", list)
	}
	if r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"demo-counter"}`); r.field(t, "matched") != "1" || r.field(t, "redriven") != "0" {
		t.Errorf("redrive by a build that cannot apply it either: %s", r)
	}
	check(s)
	if r := call(t, s, "Log.DropDeadLetters", `{"namespace":"demo-counter","selection":{"key":"sick"}}`); r.field(t, "dropped") != "1" {
		t.Fatalf("drop: %s", r)
	}
	is(t, "what waited is applied", onCounter(t, s, "GetCount", `"counter":"sick","accuracy":"ACCURATE"`), "count.value", "11")
	is(t, "and counted", onCounter(t, s, "VerifyCount", `"counter":"sick"`), "drift", "0", "stored.value", "11")
}

// TestTheVerifierFindsADrift: of counters that are right, none; of one whose row
// somebody changed, by how much.
func TestTheVerifierFindsADrift(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for i := range 3 * verifySample {
		is(t, "add", onCounter(t, s, "AddAndGetCount", fmt.Sprintf(`"counter":"c%02d","delta":%d`, i, i)))
	}
	x := inside(s).spaces.counters()["demo-counter"]
	b := x.front.(*counterFront)
	round := func() {
		t.Helper()
		var after []byte
		for first := true; first || after != nil; first = false {
			var err error
			if after, err = b.verify.sample(t.Context(), x, b.db, after); err != nil {
				t.Fatal(err)
			}
		}
	}
	round()
	if n := b.verify.checked.Load(); n < 3*verifySample || b.verify.drift() != 0 {
		t.Errorf("%d were checked, drift %v", n, b.verify.drift())
	}
	b.verify.note("c03", -4)
	b.verify.note("gone", 2)
	text := get(t, "http://"+inside(s).AdminAddr()+"/metrics").body
	if d := b.verify.drift(); d != 6 || !strings.Contains(text, `headwater_counter_drift{namespace="demo-counter"} 6`) {
		t.Errorf("drift %v, want 6", d)
	}
	round()
	round()
	if d := b.verify.drift(); d != 0 {
		t.Errorf("drift after c03 was found right, and the other is gone: %v, want 0", d)
	}
	text = get(t, "http://"+inside(s).AdminAddr()+"/metrics").body
	for _, want := range []string{`headwater_counter_drift{namespace="demo-counter"} 0`, `headwater_counter_decisions_total{decision="applied",namespace="demo-counter"} 24`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}
