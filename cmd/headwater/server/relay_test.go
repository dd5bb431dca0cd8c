package server

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// relayDoc is a log namespace whose targets are namespaces: NAME=NAMESPACE.
func relayDoc(name, more string, targets ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "namespace: %s\nabstraction: log\nlog: {partitions: 2}\ndelivery:\n  retry: {initial: 5ms, max: 50ms}\n  targets:\n", name)
	for _, t := range targets {
		target, to, _ := strings.Cut(t, "=")
		fmt.Fprintf(&b, "  - {name: %s, namespace: %s, default: false}\n", target, to)
	}
	return b.String() + more
}

// made makes a namespace of an abstraction.
func made(t *testing.T, s *Server, name, abstraction string) {
	t.Helper()
	document(t, s, fmt.Sprintf("namespace: %s\nabstraction: %s\nlog: {partitions: 2}\n", name, abstraction))
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// countOf is the value of a counter.
func countOf(t *testing.T, s *Server, ns, name string) string {
	t.Helper()
	r := call(t, s, "Counter.GetCount", fmt.Sprintf(`{"namespace":%q,"counter":%q,"accuracy":"ACCURATE"}`, ns, name))
	return r.field(t, "count.value").(string)
}

// TestAMessageIsAWriteOfANamespace of each abstraction, also over a start, and told as delivered.
func TestAMessageIsAWriteOfANamespace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	for _, a := range []string{"kv", "counter", "timeseries", "log"} {
		made(t, s, "to-"+a, a)
	}
	document(t, s, relayDoc("orders", "", "kv=to-kv", "counter=to-counter", "events=to-timeseries", "log=to-log"))
	var ids []string
	for _, m := range [][]string{
		{"kv", `{"id":"u1","items":[{"key":"` + encoded("a") + `","value":"` + encoded("old") + `"},{"key":"` + encoded("b") + `","value":""}]}`},
		{"kv", `{"namespace":"to-kv","id":"u1","items":[{"key":"` + encoded("a") + `","value":"` + encoded("new") + `"}]}`},
		{"kv", `{"id":"u1","predicate":{"matchKeys":{"keys":["` + encoded("b") + `"]}}}`},
		{"counter", `{"counter":"c","delta":"5"}`},
		{"counter", ` {"adds":[{"counter":"c","delta":2},{"counter":"d","delta":"-7"}]}`},
		{"events", `{"events":[{"timeSeriesId":"s","eventTime":"2001-01-01T00:00:00Z","items":[{"key":"a","value":{"int":"1"}}]}]}`},
		{"log", "as it is"},
	} {
		ids = append(ids, write(t, s, "orders", "order-7", m[1], "Headwater-Target", m[0], "Headwater-Header-Trace", "abc"))
	}
	settled := func() {
		t.Helper()
		for _, id := range ids {
			until(t, "delivered", func() bool { return stateOf(t, s, "orders", id) == "DELIVERED" })
		}
		// Who answers may not know yet what another process has appended.
		until(t, "put", func() bool { return send(t, s, "GET", "/v1/kv/to-kv/u1/a", "").body == "new" })
		until(t, "deleted", func() bool { return send(t, s, "GET", "/v1/kv/to-kv/u1/b", "").status == http.StatusNotFound })
		if c, d := countOf(t, s, "to-counter", "c"), countOf(t, s, "to-counter", "d"); c != "7" || d != "-7" {
			t.Errorf("counters are %s and %s, want 7 and -7", c, d)
		}
		until(t, "the event", func() bool {
			return len(send(t, s, "GET", "/v1/ts/to-timeseries/s?start=2001-01-01T00:00:00Z&end=2001-01-02T00:00:00Z", "").lines()) == 1
		})
		r := send(t, s, "GET", "/v1/log/to-log?from=earliest", "")
		if len(r.lines()) != 1 || !strings.Contains(r.body, `"trace":"abc"`) && !strings.Contains(r.body, `"Trace":"abc"`) || !strings.Contains(r.body, encoded("as it is")) {
			t.Errorf("messages: %s", r)
		}
	}
	settled()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	settled()
	ids = append(ids, write(t, s, "orders", "order-7", `{"counter":"d","delta":"7"}`, "Headwater-Target", "counter", "Headwater-Delay", "50ms"))
	until(t, "delayed", func() bool { return countOf(t, s, "to-counter", "d") == "0" })
}

// TestAMessageThatIsNoWriteOfItsTargetIsRefused before the log.
func TestAMessageThatIsNoWriteOfItsTargetIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	made(t, s, "to-kv", "kv")
	made(t, s, "to-counter", "counter")
	document(t, s, relayDoc("orders", "", "kv=to-kv", "counter=to-counter", "none=to-nowhere"))
	for _, c := range []struct{ target, payload, method, reason, says string }{
		{"kv", "", "", "HW-1054", "id"},
		{"kv", "plain text", "", "HW-1054", "PutItems or DeleteItems"},
		{"kv", `{"id":"u1"}`, "", "HW-1054", "0 items"},
		{"kv", `{"id":"u1","items":[{"key":"YQ==","value":"YQ=="}],"namespace":"to-counter"}`, "", "HW-1054", "leave the namespace out"},
		{"kv", `{"id":"u1","items":[{"key":"YQ==","value":"YQ=="}],"token":{"nonce":"YQ=="}}`, "", "HW-1054", "16"},
		{"kv", `{"counter":"c","delta":"5"}`, "", "HW-1054", "counter"},
		{"kv", `{"id":"u1","predicate":{"matchAll":{}}}`, "PutItems", "HW-1054", "PutItems"},
		{"counter", `{"counter":"c","delta":"5"}`, "PutItems", "HW-1054", "AddCount or AddCounts"},
		{"counter", `{"counter":"c","delta":"9223372036854775808"}`, "", "HW-1054", "delta"},
		{"none", `{}`, "", "HW-1051", "to-nowhere"},
	} {
		header := []string{"Headwater-Target", c.target}
		if c.method != "" {
			header = append(header, "Headwater-Header-Headwater-Method", c.method)
		}
		r := send(t, s, "POST", "/v1/log/orders/k", c.payload, header...)
		refused(t, c.payload, r, 400, c.reason, "NOT_APPLIED")
		if !strings.Contains(r.body, c.says) {
			t.Errorf("%q is refused by %s; want it to say %q", c.payload, r, c.says)
		}
	}
	if r := send(t, s, "GET", "/v1/log/orders?from=earliest", ""); len(r.lines()) != 0 {
		t.Errorf("the log has %s", r)
	}
	if r := applyDoc(t, s, relayDoc("self", "", "me=self")); r.status != http.StatusBadRequest || !strings.Contains(r.body, "this namespace itself") {
		t.Errorf("a log to itself: %s", r)
	}
}

// TestAMessageThatBecameNoWriteIsADeadLetter, and comes to the namespace once it is redriven, behind what came meanwhile.
func TestAMessageThatBecameNoWriteIsADeadLetter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	made(t, s, "to-kv", "kv")
	document(t, s, relayDoc("orders", "", "kv=to-kv"))
	put := func(id, value string, header ...string) string {
		return write(t, s, "orders", "k", fmt.Sprintf(`{"id":%q,"items":[{"key":"YQ==","value":%q}]}`, id, encoded(value)), append(header, "Headwater-Target", "kv")...)
	}
	large := put("u1", strings.Repeat("x", 100), "Headwater-Delay", "300ms")
	document(t, s, "namespace: to-kv\nabstraction: kv\nlog: {partitions: 2}\nlimits: {max_value: 64}\n")
	until(t, "dead", func() bool { return stateOf(t, s, "orders", large) == "DEAD" })
	r := call(t, s, "Log.ListDeadLetters", `{"namespace":"orders"}`)
	if !strings.Contains(r.body, "100 bytes") || !strings.Contains(r.body, "undeliverable") {
		t.Errorf("letters: %s", r)
	}
	small := put("u2", "small")
	until(t, "the one behind it", func() bool { return stateOf(t, s, "orders", small) == "DELIVERED" })
	document(t, s, "namespace: to-kv\nabstraction: kv\nlog: {partitions: 2}\n")
	is(t, "redrive", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","selection":{"target":"kv"}}`), "matched", "1")
	until(t, "redriven", func() bool { return stateOf(t, s, "orders", large) == "DELIVERED" })
	until(t, "what was redriven", func() bool {
		return send(t, s, "GET", "/v1/kv/to-kv/u1/a", "").body == strings.Repeat("x", 100)
	})
}

// TestAMessageToANamespaceThatWasDeletedIsADeadLetter, and reaches the next one of that name when it is redriven.
func TestAMessageToANamespaceThatWasDeletedIsADeadLetter(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	made(t, s, "to-counter", "counter")
	document(t, s, relayDoc("orders", "", "counter=to-counter"))
	const add = `{"counter":"c","delta":"1"}`
	first := write(t, s, "orders", "k", add, "Headwater-Target", "counter")
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", first) == "DELIVERED" })
	late := write(t, s, "orders", "k", add, "Headwater-Target", "counter", "Headwater-Delay", "300ms")
	is(t, "delete", call(t, s, "Namespace.DeleteNamespace", `{"namespace":"to-counter","confirm":"to-counter"}`))
	until(t, "dead", func() bool { return stateOf(t, s, "orders", late) == "DEAD" })
	if r := call(t, s, "Log.ListDeadLetters", `{"namespace":"orders"}`); !strings.Contains(r.body, "does not exist") {
		t.Errorf("letters: %s", r)
	}
	refused(t, "while it is not there", send(t, s, "POST", "/v1/log/orders/k", add, "Headwater-Target", "counter"), 400, "HW-1051", "NOT_APPLIED")
	made(t, s, "to-counter", "counter")
	is(t, "redrive", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","selection":{"target":"counter"}}`), "matched", "1")
	until(t, "redriven", func() bool { return stateOf(t, s, "orders", late) == "DELIVERED" })
	until(t, "counted in the next life", func() bool { return countOf(t, s, "to-counter", "c") == "1" })
}

// TestAMessageThatGoesInACircleEnds by a dead letter.
func TestAMessageThatGoesInACircleEnds(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	made(t, s, "ring-b", "log")
	document(t, s, strings.ReplaceAll(relayDoc("ring-a", "", "on=ring-b"), "default: false", "default: true"))
	document(t, s, strings.ReplaceAll(relayDoc("ring-b", "", "on=ring-a"), "default: false", "default: true"))
	write(t, s, "ring-a", "k", "round and round")
	letters := func() int {
		return strings.Count(call(t, s, "Log.ListDeadLetters", `{"namespace":"ring-a"}`).body+call(t, s, "Log.ListDeadLetters", `{"namespace":"ring-b"}`).body, "in a circle")
	}
	until(t, "a letter", func() bool { return letters() == 1 })
	for name, want := range map[string]int{"ring-a": 5, "ring-b": 4} {
		if r := send(t, s, "GET", "/v1/log/"+name+"?from=earliest", ""); len(r.lines()) != want {
			t.Errorf("%s has %d messages, want %d", name, len(r.lines()), want)
		}
	}
}

// TestMessagesReachANamespaceOfAnotherWorker: also while that one is away, and once although the store of the log is
// lost, and all that the log has is delivered again.
func TestMessagesReachANamespaceOfAnotherWorker(t *testing.T) {
	t.Parallel()
	c := &split{brokers: kafkaFake(t), prefix: newPrefix()}
	g := c.open(t, Gateway, "")
	defer closeServer(t, g)
	worker := func(dir string, abstractions ...string) *Server {
		c.abstractions = abstractions
		return c.open(t, Worker, dir)
	}
	countersDir := t.TempDir()
	counters, logs := worker(countersDir, "counter"), worker(t.TempDir(), "log")
	made(t, g, "to-counter", "counter")
	document(t, g, relayDoc("orders", "", "counter=to-counter"))
	var ids []string
	sent := 0
	add := func(n int, header ...string) {
		for range n {
			sent++
			ids = append(ids, write(t, g, "orders", fmt.Sprint(sent%7), fmt.Sprintf(`{"counter":"c%d","delta":"1"}`, sent%3), append(header, "Headwater-Target", "counter")...))
		}
	}
	delivered := func() {
		t.Helper()
		for _, id := range ids {
			until(t, "delivered", func() bool { return stateOf(t, g, "orders", id) == "DELIVERED" })
		}
	}
	counted := func(what string) {
		t.Helper()
		sum := 0
		for i := range 3 {
			n, _ := strconv.Atoi(countOf(t, g, "to-counter", fmt.Sprintf("c%d", i)))
			sum += n
		}
		if sum != sent {
			t.Errorf("%s: %d messages were counted as %d", what, sent, sum)
		}
	}
	add(20)
	add(5, "Headwater-Delay", "20ms")
	delivered()
	counted("both run")

	closeServer(t, counters)
	add(20)
	delivered() // the log of the other namespace has them
	counters = worker(countersDir, "counter")
	defer func() { closeServer(t, counters) }()
	until(t, "the other worker is back", func() bool {
		return call(t, g, "Counter.GetCount", `{"namespace":"to-counter","counter":"c0","accuracy":"ACCURATE"}`).status == http.StatusOK
	})
	counted("the other worker was away")

	closeServer(t, logs)
	logs = worker(t.TempDir(), "log")
	defer func() { closeServer(t, logs) }()
	is(t, "release", release(t, g, "orders", ""))
	until(t, "the next home", func() bool { return stateOf(t, g, "orders", ids[0]) == "DELIVERED" })
	add(3)
	delivered()
	counted("the store of the log was lost")
}

// TestEngineCassandraARelayedMessageCountsOnce though every worker is lost with its directory, the partitions of the
// counters move to others that have the marks alone, and the log delivers all that it has again.
func TestEngineCassandraARelayedMessageCountsOnce(t *testing.T) {
	c := newSpread(t)
	c.abstractions = []string{"counter"}
	c.add(t, t.TempDir())
	c.abstractions = []string{"log"}
	c.add(t, t.TempDir())
	document(t, c.gateway, spreadCounters)
	document(t, c.gateway, relayDoc("orders", "", "likes=likes"))
	var ids []string
	sent := 0
	add := func(n int) {
		t.Helper()
		for range n {
			sent++
			body := fmt.Sprintf(`{"counter":"c%d","delta":"1"}`, sent%5)
			ids = append(ids, write(t, c.gateway, "orders", fmt.Sprint(sent%7), body, "Headwater-Target", "likes"))
		}
		for _, id := range ids {
			until(t, "delivered", func() bool { return stateOf(t, c.gateway, "orders", id) == "DELIVERED" })
		}
	}
	counted := func(what string) {
		t.Helper()
		sum := 0
		for i := range 5 {
			r := c.ask(t, "Counter.GetCount", fmt.Sprintf(`{"namespace":"likes","counter":"c%d","accuracy":"ACCURATE"}`, i))
			if r == nil {
				return
			}
			n, _ := strconv.Atoi(r.field(t, "count.value").(string))
			sum += n
		}
		if sum != sent {
			t.Errorf("%s: %d messages were counted as %d", what, sent, sum)
		}
	}
	add(40)
	counted("at first")
	for round := range 2 {
		c.stop(t, 2*round, (*Server).Close)
		c.abstractions = []string{"counter"}
		c.add(t, t.TempDir())
		counted("the counters are another worker's")
		c.stop(t, 2*round+1, (*Server).Close)
		c.abstractions = []string{"log"}
		c.add(t, t.TempDir())
		is(t, "release", release(t, c.gateway, "orders", ""))
		until(t, "the next home", func() bool { return stateOf(t, c.gateway, "orders", ids[0]) == "DELIVERED" })
		add(20)
		counted("the log has delivered all of it again")
	}
}
