package server

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal/delivery/endpoint"
)

// got is one attempt, as a receiver got it.
type got struct {
	body string
	http.Header
}

// receiver is an endpoint that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []got
	answer func(g *got, w http.ResponseWriter) // nil: 200
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		g := got{string(body), req.Header.Clone()}
		r.mu.Lock()
		r.got = append(r.got, g)
		answer := r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(&g, w)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(f func(g *got, w http.ResponseWriter)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// bodies are those of all attempts.
func (r *receiver) bodies() (bs []string) {
	for _, g := range r.all() {
		bs = append(bs, g.body)
	}
	return bs
}

// deliveryDoc is a log namespace with a target, and more of the delivery block.
func deliveryDoc(name, url, target, more string) string {
	return fmt.Sprintf("namespace: %s\nabstraction: log\nlog: {partitions: 2}\ndelivery:\n  targets: [{name: hook, http: {url: %q}%s}]\n  allow: {hosts: [127.0.0.1]}\n%s", name, url, target, more)
}

func document(t *testing.T, s *Server, doc string) {
	t.Helper()
	is(t, "apply", applyDoc(t, s, doc))
}

func stateOf(t *testing.T, s *Server, ns, id string) string {
	t.Helper()
	r := call(t, s, "Log.GetMessage", fmt.Sprintf(`{"namespace":%q,"messageId":%q}`, ns, id))
	if r.status != http.StatusOK {
		return strconv.Itoa(r.status)
	}
	return r.field(t, "state").(string)
}

func write(t *testing.T, s *Server, ns, key, body string, header ...string) string {
	t.Helper()
	r := send(t, s, "POST", "/v1/log/"+ns+"/"+key, body, header...)
	is(t, "write "+body, r, "durable", "SUCCEEDED")
	return r.field(t, "messageId").(string)
}

// TestAMessageIsDelivered with all that a receiver is told of it, also over a start.
func TestAMessageIsDelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	hook := newReceiver(t)
	document(t, s, deliveryDoc("orders", hook.URL+"/in", "", ""))
	id := write(t, s, "orders", "order%2F7", "paid", "Idempotency-Key", "order-7", "Headwater-Header-Trace", "abc")
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", id) == "DELIVERED" })
	all := hook.all()
	if len(all) != 1 {
		t.Fatalf("%d attempts", len(all))
	}
	token := call(t, s, "Log.ReadLog", `{"namespace":"orders","from":{"earliest":{}}}`).lines()[0]
	g := all[0]
	for name, want := range map[string]string{"Webhook-Id": id, "Headwater-Key": "order/7", "Headwater-Attempt": "1", "Trace": "abc"} {
		if g.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, g.Get(name), want)
		}
	}
	if nonce := g.Get("Idempotency-Key"); nonce == "" || !strings.Contains(token, nonce) {
		t.Errorf("Idempotency-Key is %q; the log has %s", nonce, token)
	}
	if g.body != "paid" || g.Get("Webhook-Signature") != "" {
		t.Errorf("body %q, signature %q", g.body, g.Get("Webhook-Signature"))
	}
	is(t, "by its token alone", call(t, s, "Log.GetMessage", `{"namespace":"orders","token":{"key":"order-7"}}`), "state", "DELIVERED", "messageId", id)
	refused(t, "with another key", call(t, s, "Log.GetMessage", `{"namespace":"orders","token":{"key":"order-7"},"key":"order/8"}`), 404, "HW-1111", "")
	refused(t, "of no message", call(t, s, "Log.GetMessage", `{"namespace":"orders","token":{"key":"order-8"}}`), 404, "HW-1111", "")
	other := write(t, s, "orders", "order%2F8", "paid", "Idempotency-Key", "order-7")
	refused(t, "of two messages", call(t, s, "Log.GetMessage", `{"namespace":"orders","token":{"key":"order-7"}}`), 400, "HW-1053", "")
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", other) == "DELIVERED" })
	is(t, "by its token", call(t, s, "Log.GetMessage", `{"namespace":"orders","token":{"key":"order-7"},"key":"order/7"}`), "state", "DELIVERED", "messageId", id)
	write(t, s, "orders", "order%2F7", "paid", "Idempotency-Key", "order-7", "Headwater-Header-Trace", "abc") // a copy
	closeServer(t, s)
	s = open(t, dir)
	defer closeServer(t, s)
	last := write(t, s, "orders", "order%2F7", "shipped")
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", last) == "DELIVERED" })
	if bodies := hook.bodies(); !slices.Equal(bodies, []string{"paid", "paid", "shipped"}) {
		t.Errorf("received: %v", bodies)
	}
	if st := stateOf(t, s, "orders", id); st != "DELIVERED" {
		t.Errorf("after a start it is %s", st)
	}
}

// TestFailuresAreTriedAgainInOrder: messages of a key come one after the other whatever fails, those of others
// meanwhile.
func TestFailuresAreTriedAgainInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	hook := newReceiver(t)
	failed := make(map[string]int) // under the receiver's order of calls of one key
	var mu sync.Mutex
	hook.answers(func(g *got, w http.ResponseWriter) {
		mu.Lock()
		defer mu.Unlock()
		if failed[g.body]++; failed[g.body] < 3 {
			w.WriteHeader([]int{503, 429}[failed[g.body]%2])
		}
	})
	document(t, s, deliveryDoc("orders", hook.URL, "", "  retry: {initial: 5ms, max: 20ms}\n"))
	ids := make(map[string]string)
	for i := range 5 {
		for _, key := range []string{"a", "b", "c"} {
			body := key + strconv.Itoa(i)
			ids[body] = write(t, s, "orders", key, body)
		}
	}
	for body, id := range ids {
		until(t, body, func() bool { return stateOf(t, s, "orders", id) == "DELIVERED" })
	}
	seen := make(map[string][]string)
	for _, g := range hook.all() {
		key := g.Get("Headwater-Key")
		seen[key] = append(seen[key], g.body)
		if g.Get("Webhook-Id") != ids[g.body] {
			t.Errorf("%s has id %s, want %s", g.body, g.Get("Webhook-Id"), ids[g.body])
		}
	}
	for key, bodies := range seen {
		var want []string
		for i := range 5 {
			want = append(want, slices.Repeat([]string{key + strconv.Itoa(i)}, 3)...)
		}
		if !slices.Equal(bodies, want) {
			t.Errorf("of %s came %v", key, bodies)
		}
	}
	r := call(t, s, "Log.GetMessage", fmt.Sprintf(`{"namespace":"orders","messageId":%q}`, ids["a0"]))
	if target := r.field(t, "targets").([]any)[0].(map[string]any); target["name"] != "hook" || target["attempts"] != float64(3) {
		t.Errorf("its target is %v", target)
	}
}

// TestWhatCannotBeDeliveredIsADeadLetter, and its key goes on.
func TestWhatCannotBeDeliveredIsADeadLetter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	hook := newReceiver(t)
	hook.answers(func(g *got, w http.ResponseWriter) {
		switch g.body {
		case "bad":
			http.Error(w, "no such order", http.StatusNotFound)
		case "moved":
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusMovedPermanently)
		case "busy":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	document(t, s, deliveryDoc("orders", hook.URL, "", "  retry: {initial: 1ms, max: 2ms, attempts: 3}\n"))
	ids := make(map[string]string)
	for _, body := range []string{"bad", "moved", "busy", "good"} {
		ids[body] = write(t, s, "orders", "k", body)
	}
	until(t, "the last", func() bool { return stateOf(t, s, "orders", ids["good"]) == "DELIVERED" })
	if n := metric(t, s, `headwater_dead_letters_total{reason="undeliverable"}`); n != 3 {
		t.Errorf("%v dead letters are counted", n)
	}
	for range 2 {
		for _, body := range []string{"bad", "moved", "busy"} {
			if st := stateOf(t, s, "orders", ids[body]); st != "DEAD" {
				t.Errorf("%s is %s", body, st)
			}
		}
		letters := call(t, s, "Log.ListDeadLetters", `{"namespace":"orders"}`).field(t, "deadLetters").([]any)
		var told []string
		for _, l := range letters {
			m := l.(map[string]any)
			told = append(told, fmt.Sprint(m["reason"], " ", m["disposition"], " ", m["target"], " ", m["attempts"], " ", m["key"], " ", m["detail"]))
		}
		want := []string{
			`undeliverable PARKED hook 1 k it answered 404 Not Found: "no such order"`,
			`undeliverable PARKED hook 1 k it answered 301 Moved Permanently`,
			`undeliverable PARKED hook 3 k 3 of 3 attempts have failed; the last one: it answered 500 Internal Server Error`,
		}
		if !slices.Equal(told, want) {
			t.Errorf("dead letters: %q", told)
		}
		closeServer(t, s)
		s = open(t, dir)
	}
	closeServer(t, s)
}

// TestDelayedMessages are listed, cancelled, and delivered when they are due, also after a start.
func TestDelayedMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	hook := newReceiver(t)
	document(t, s, deliveryDoc("orders", hook.URL, "", ""))
	soon := write(t, s, "orders", "a", "soon", "Headwater-Delay", "1200ms")
	at := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
	later := write(t, s, "orders", "a", "later", "Headwater-Deliver-At", at.Format(time.RFC3339))
	kept := write(t, s, "orders", "b", "kept", "Headwater-Delay", "1h")
	now := write(t, s, "orders", "a", "now")
	until(t, "now", func() bool { return stateOf(t, s, "orders", now) == "DELIVERED" })
	list := func(more string) (ids []string) {
		t.Helper()
		r := call(t, s, "Log.ListDelayed", `{"namespace":"orders"`+more+`}`)
		if r.status != http.StatusOK {
			t.Fatal(r)
		}
		ms, _ := r.field(t, "messages").([]any)
		for _, m := range ms {
			ids = append(ids, m.(map[string]any)["messageId"].(string))
		}
		return ids
	}
	if ids := list(`,"dueAfter":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `"`); !slices.Equal(ids, []string{kept, later}) {
		t.Errorf("delayed for more than a minute: %v", ids)
	}
	if ids := list(`,"key":"b"`); !slices.Equal(ids, []string{kept}) {
		t.Errorf("delayed of b: %v", ids)
	}
	r := call(t, s, "Log.ListDelayed", `{"namespace":"orders","dueAfter":"`+time.Now().Add(time.Minute).Format(time.RFC3339)+`","pageSize":1}`)
	if ids := list(`,"dueAfter":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `","pageSize":1,"pageToken":"` + r.field(t, "nextPageToken").(string) + `"`); !slices.Equal(ids, []string{later}) {
		t.Errorf("the second page: %v", ids)
	}
	cancel := func(selection, done, late string) {
		t.Helper()
		is(t, "cancel "+selection, call(t, s, "Log.CancelDelayed", `{"namespace":"orders","selection":`+selection+`}`), "cancelled", done, "tooLate", late)
	}
	for range 2 { // again is the same
		cancel(fmt.Sprintf(`{"messageId":%q}`, later), "1", "0")
	}
	cancel(fmt.Sprintf(`{"messageId":%q}`, now), "0", "1")
	cancel(`{"key":"nobody's"}`, "0", "0")
	write(t, s, "orders", "c", "called off", "Headwater-Delay", "1h", "Idempotency-Key", "call-1")
	cancel(`{"token":{"key":"call-1"}}`, "1", "0")
	if st := stateOf(t, s, "orders", later); st != "CANCELLED" {
		t.Errorf("the cancelled one is %s", st)
	}
	closeServer(t, s)
	s = open(t, dir)
	defer closeServer(t, s)
	until(t, "soon", func() bool { return stateOf(t, s, "orders", soon) == "DELIVERED" })
	for _, g := range hook.all() {
		if g.body != "soon" {
			continue
		}
		m := call(t, s, "Log.GetMessage", fmt.Sprintf(`{"namespace":"orders","messageId":%q}`, soon))
		due, err := time.Parse(time.RFC3339Nano, m.field(t, "due").(string))
		sent, _ := strconv.ParseInt(g.Get("Webhook-Timestamp"), 10, 64)
		if err != nil || sent < due.Unix() {
			t.Errorf("it was due at %v and sent in second %d", due, sent)
		}
	}
	cancel(`{"key":"b"}`, "1", "0")
	if bodies := hook.bodies(); !slices.Equal(bodies, []string{"now", "soon"}) {
		t.Errorf("received: %v", bodies)
	}
	if ids := list(""); len(ids) != 0 {
		t.Errorf("still delayed: %v", ids)
	}
}

// TestSignedMessages are signed with the secret of the process configuration.
func TestSignedMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := []byte("0123456789abcdef")
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{DataDir: filepath.Join(dir, "data"), HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Admin: "127.0.0.1:0", Secrets: map[string]string{"hmac": file}})
	if err != nil {
		t.Fatal(err)
	}
	defer closeServer(t, s)
	hook := newReceiver(t)
	refused(t, "a secret that is not there", applyDoc(t, s, fmt.Sprintf("namespace: orders\nabstraction: log\ndelivery: {targets: [{name: hook, http: {url: %q, secret: other}}], allow: {private_addresses: true}}\n", hook.URL)), 400, "HW-1019", "")
	document(t, s, fmt.Sprintf("namespace: orders\nabstraction: log\ndelivery: {targets: [{name: hook, http: {url: %q, secret: hmac, headers: {X-Team: orders}}}], allow: {private_addresses: true}}\n", hook.URL))
	id := write(t, s, "orders", "k", "signed")
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", id) == "DELIVERED" })
	g := hook.all()[0]
	if want := "v1," + endpoint.Sign(secret, id, g.Get("Webhook-Timestamp"), []byte("signed")); g.Get("Webhook-Signature") != want || g.Get("X-Team") != "orders" {
		t.Errorf("signature %q, want %q; X-Team %q", g.Get("Webhook-Signature"), want, g.Get("X-Team"))
	}
}

// TestTargetsChangeWhileItRuns: they are added to a namespace that has none, and changed, and messages choose among
// several.
func TestTargetsChangeWhileItRuns(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: orders\nabstraction: log\nlog: {partitions: 2}\n")
	before := write(t, s, "orders", "k", "before")
	if st := stateOf(t, s, "orders", before); st != "404" {
		t.Errorf("a message without a target is %s", st)
	}
	refused(t, "a delay without a target", send(t, s, "POST", "/v1/log/orders/k", "x", "Headwater-Delay", "1s"), 400, "HW-1052", "NOT_APPLIED")
	one, two := newReceiver(t), newReceiver(t)
	document(t, s, deliveryDoc("orders", one.URL, "", ""))
	first := write(t, s, "orders", "k", "first")
	until(t, "first", func() bool { return stateOf(t, s, "orders", first) == "DELIVERED" })
	document(t, s, strings.Replace(deliveryDoc("orders", two.URL, "", ""), "}]", fmt.Sprintf("}, {name: other, default: false, http: {url: %q}}]", one.URL), 1))
	second := write(t, s, "orders", "k", "second")
	third := write(t, s, "orders", "k", "third", "Headwater-Target", "other")
	r := call(t, s, "Log.WriteToLog", `{"namespace":"orders","key":"k","payload":"Ym90aA==","targets":["hook","other"]}`)
	both := r.field(t, "messageId").(string)
	for _, id := range []string{second, third, both} {
		until(t, id, func() bool { return stateOf(t, s, "orders", id) == "DELIVERED" })
	}
	if bodies := one.bodies(); !slices.Equal(bodies, []string{"first", "third", "both"}) {
		t.Errorf("one received %v", bodies)
	}
	if bodies := two.bodies(); !slices.Equal(bodies, []string{"second", "both"}) {
		t.Errorf("two received %v", bodies)
	}
	refused(t, "an unknown target", send(t, s, "POST", "/v1/log/orders/k", "x", "Headwater-Target", "third"), 400, "HW-1051", "NOT_APPLIED")
	refused(t, "a target twice", call(t, s, "Log.WriteToLog", `{"namespace":"orders","targets":["hook","hook"]}`), 400, "HW-1051", "NOT_APPLIED")
	for _, lifecycle := range []string{`{"delay":"-1s"}`, `{"delay":"6307200001s"}`, `{"deliverAt":"1990-01-01T00:00:00Z"}`, `{"deliverAt":"2300-01-01T00:00:00Z"}`, `{"delay":"1s","deliverAt":"2030-01-01T00:00:00Z"}`} {
		refused(t, lifecycle, call(t, s, "Log.WriteToLog", `{"namespace":"orders","lifecycle":`+lifecycle+`}`), 400, "HW-1052", "NOT_APPLIED")
	}
	refused(t, "no message's id", call(t, s, "Log.GetMessage", `{"namespace":"orders","messageId":"1-2-3"}`), 400, "HW-1053", "")
	refused(t, "a message that was never written", call(t, s, "Log.GetMessage", fmt.Sprintf(`{"namespace":"orders","messageId":"%s9"}`, first)), 404, "HW-1111", "")
	refused(t, "of another topic", call(t, s, "Log.GetMessage", `{"namespace":"orders","messageId":"0123456789ab-0-0"}`), 404, "HW-1111", "")
}

// TestDeadDeliveriesAreRedriven, dropped, and keep their history.
func TestDeadDeliveriesAreRedriven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	hook := newReceiver(t)
	hook.answers(func(_ *got, w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) })
	document(t, s, deliveryDoc("orders", hook.URL, "", ""))
	ids := make(map[string]string)
	for _, body := range []string{"one", "two", "three"} {
		ids[body] = write(t, s, "orders", body, body)
		until(t, body, func() bool { return stateOf(t, s, "orders", ids[body]) == "DEAD" })
	}
	redrive := func(selection string) reply {
		return call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","selection":`+selection+`}`)
	}
	is(t, "a dry run", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","dryRun":true,"selection":{"target":"hook"}}`), "matched", "3")
	is(t, "of another target", redrive(`{"target":"other"}`), "matched", "0")
	is(t, "of another key", redrive(`{"key":"four"}`), "matched", "0")
	is(t, "while it is not mended", redrive(`{"key":"one"}`), "matched", "1", "redriven", "1")
	until(t, "dead again", func() bool { return len(hook.all()) == 4 && stateOf(t, s, "orders", ids["one"]) == "DEAD" })
	letters := func() (told []string) {
		t.Helper()
		for _, l := range call(t, s, "Log.ListDeadLetters", `{"namespace":"orders"}`).field(t, "deadLetters").([]any) {
			m := l.(map[string]any)
			told = append(told, fmt.Sprint(m["key"], " ", m["disposition"], " ", m["attempts"]))
		}
		return told
	}
	if got, want := letters(), []string{"two PARKED 1", "three PARKED 1", "one REDRIVEN 1", "one PARKED 2"}; !slices.Equal(got, want) {
		t.Errorf("letters: %v, want %v", got, want)
	}
	is(t, "drop", call(t, s, "Log.DropDeadLetters", `{"namespace":"orders","selection":{"key":"two"}}`), "matched", "1", "dropped", "1")
	closeServer(t, s)
	s = open(t, dir)
	defer closeServer(t, s)
	hook.answers(nil)
	is(t, "mended", redrive(`{"reason":"undeliverable"}`), "matched", "2", "redriven", "2")
	for _, body := range []string{"one", "three"} {
		until(t, body, func() bool { return stateOf(t, s, "orders", ids[body]) == "DELIVERED" })
	}
	is(t, "nothing is left", redrive(`{}`), "matched", "0")
	if st := stateOf(t, s, "orders", ids["two"]); st != "DEAD" {
		t.Errorf("the dropped one is %s", st)
	}
	if got, want := letters(), []string{"one REDRIVEN 1", "two DROPPED 1", "three REDRIVEN 1", "one REDRIVEN 2"}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("letters: %v, want %v", got, want)
	}
	for _, g := range hook.all() {
		if g.Get("Webhook-Id") != ids[g.body] {
			t.Errorf("%s came under %s", g.body, g.Get("Webhook-Id"))
		}
	}
}

// TestAKeyWaitsForWhatWasGivenUp where its target parks, over a start, until it is redriven or dropped; other keys go on.
func TestAKeyWaitsForWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	hook := newReceiver(t)
	hook.answers(func(g *got, w http.ResponseWriter) {
		if strings.HasPrefix(g.body, "bad") {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	document(t, s, deliveryDoc("orders", hook.URL, ", on_dead: park", ""))
	first := write(t, s, "orders", "a", "bad 1")
	until(t, "dead", func() bool { return stateOf(t, s, "orders", first) == "DEAD" })
	behind := write(t, s, "orders", "a", "2")
	later := write(t, s, "orders", "a", "3", "Headwater-Delay", "1ms")
	other := write(t, s, "orders", "b", "other")
	until(t, "another key", func() bool { return stateOf(t, s, "orders", other) == "DELIVERED" })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	other = write(t, s, "orders", "b", "other again")
	until(t, "another key", func() bool { return stateOf(t, s, "orders", other) == "DELIVERED" })
	for _, id := range []string{behind, later} {
		if st := stateOf(t, s, "orders", id); st != "PENDING" {
			t.Errorf("a message behind a dead one is %s", st)
		}
	}
	hook.answers(nil)
	is(t, "redrive", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","selection":{"key":"a"}}`), "matched", "1")
	until(t, "the last of the key", func() bool { return stateOf(t, s, "orders", later) == "DELIVERED" })
	bodies := slices.DeleteFunc(hook.bodies(), func(b string) bool { return strings.HasPrefix(b, "other") })
	if fmt.Sprint(bodies) != "[bad 1 bad 1 2 3]" {
		t.Errorf("there came %v", bodies)
	}

	hook.answers(func(g *got, w http.ResponseWriter) {
		if strings.HasPrefix(g.body, "bad") {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	first = write(t, s, "orders", "c", "bad 2")
	behind = write(t, s, "orders", "c", "4")
	until(t, "dead", func() bool { return stateOf(t, s, "orders", first) == "DEAD" })
	is(t, "drop", call(t, s, "Log.DropDeadLetters", `{"namespace":"orders","selection":{"key":"c"}}`))
	until(t, "the next of the key", func() bool { return stateOf(t, s, "orders", behind) == "DELIVERED" })
}

// TestAMessageReplacesThoseOfItsKey that wait for their time, one of the same request too, and no other.
func TestAMessageReplacesThoseOfItsKey(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	hook := newReceiver(t)
	document(t, s, deliveryDoc("orders", hook.URL, "", ""))
	first := write(t, s, "orders", "a", "first", "Headwater-Delay", "1h")
	other := write(t, s, "orders", "b", "other", "Headwater-Delay", "1h")
	message := func(body, lifecycle string) string {
		return fmt.Sprintf(`{"key":"a","payload":%q,"lifecycle":{%s}}`, base64.StdEncoding.EncodeToString([]byte(body)), lifecycle)
	}
	r := call(t, s, "Log.WriteToLogBatch", `{"namespace":"orders","messages":[`+message("second", `"delay":"3600s"`)+","+message("third", `"delay":"3600s","replace":true`)+`]}`)
	is(t, "batch", r)
	results := r.field(t, "results").([]any)
	second, third := results[0].(map[string]any)["messageId"].(string), results[1].(map[string]any)["messageId"].(string)
	for id, want := range map[string]string{first: "CANCELLED", second: "CANCELLED", third: "PENDING", other: "PENDING"} {
		if st := stateOf(t, s, "orders", id); st != want {
			t.Errorf("message %s is %s, want %s", id, st, want)
		}
	}
	at := call(t, s, "Log.WriteToLog", `{"namespace":"orders",`+message("now", `"replace":true`)[1:])
	is(t, "at once", at, "durable", "SUCCEEDED")
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", at.field(t, "messageId").(string)) == "DELIVERED" })
	if st := stateOf(t, s, "orders", third); st != "CANCELLED" || fmt.Sprint(hook.bodies()) != "[now]" {
		t.Errorf("what was replaced is %s, there came %v", st, hook.bodies())
	}
	if r := call(t, s, "Log.WriteToLog", `{"namespace":"orders","payload":"YQ==","lifecycle":{"replace":true}}`); r.status != http.StatusBadRequest || r.field(t, "reason") != "HW-1052" {
		t.Errorf("replace without a key: %s", r)
	}
	last := write(t, s, "orders", "b", "plain", "Headwater-Delay", "1h", "Headwater-Replace", "true")
	if was, is := stateOf(t, s, "orders", other), stateOf(t, s, "orders", last); was != "CANCELLED" || is != "PENDING" {
		t.Errorf("by the plain route: the one before is %s, the new one %s", was, is)
	}
	refused(t, "neither true nor false", send(t, s, "POST", "/v1/log/orders/b", "x", "Headwater-Replace", "perhaps"), 400, "HW-1023", "NOT_APPLIED")
}

// TestMessagesGoToAGRPCMethod: here WriteToLog of the server itself, by JSON, whose type it tells.
func TestMessagesGoToAGRPCMethod(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	made(t, s, "inbox", "log")
	doc := func(more string) string {
		return fmt.Sprintf("namespace: orders\nabstraction: log\ndelivery: {targets: [{name: call, grpc: {address: %q, method: headwater.v1.LogService/WriteToLog}}]%s}\n", s.GRPCAddr(), more)
	}
	if r := applyDoc(t, s, doc("")); r.status != http.StatusBadRequest || !strings.Contains(r.body, "not an address of the public internet") {
		t.Errorf("a private address: %s", r)
	}
	document(t, s, doc(", allow: {hosts: [127.0.0.1]}"))
	good := write(t, s, "orders", "a", `{"namespace":"inbox","key":"k","payload":"aGVsbG8="}`)
	bad := write(t, s, "orders", "a", `{"namespace":"nowhere","payload":"aGVsbG8="}`)
	until(t, "delivered", func() bool { return stateOf(t, s, "orders", good) == "DELIVERED" })
	until(t, "given up", func() bool { return stateOf(t, s, "orders", bad) == "DEAD" })
	if r := send(t, s, "GET", "/v1/log/inbox?from=earliest", ""); len(r.lines()) != 1 || !strings.Contains(r.body, "aGVsbG8=") {
		t.Errorf("the inbox has %s", r)
	}
	if r := call(t, s, "Log.ListDeadLetters", `{"namespace":"orders"}`); !strings.Contains(r.body, "NotFound") {
		t.Errorf("letters: %s", r)
	}
}
