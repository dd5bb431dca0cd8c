package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
)

// apply applies a namespace document.
func applyDoc(t *testing.T, s *Server, doc string) reply {
	t.Helper()
	b, err := json.Marshal(map[string]any{"config": doc})
	if err != nil {
		t.Fatal(err)
	}
	return call(t, s, "Namespace.ApplyNamespace", string(b))
}

// stored are the two namespaces of a test of stores, by the abstraction.
var stored = map[string]string{
	"shop":  "namespace: shop\nabstraction: kv\nlog: {partitions: 2}\n",
	"track": "namespace: track\nabstraction: timeseries\nlog: {partitions: 2}\ntimeseries: {slice: 1h, blocked: [noise]}\n",
	"tally": "namespace: tally\nabstraction: counter\nlog: {partitions: 2}\ncounter: {floor: 0, ceiling: 100, windows: [1m]}\n",
}

const shadowed = "storage:\n  - {role: PRIMARY, type: pebble}\n  - {role: SHADOW, type: pebble, name: next}\n"

// asked is a call and the answer that its copies get.
type asked struct{ method, body, answer string }

// essence is what of an answer does not depend on when it was given.
func essence(t *testing.T, r reply) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("answer is not JSON: %s", r)
	}
	var strip func(m map[string]any)
	strip = func(m map[string]any) {
		for k, x := range m {
			switch inner := x.(type) {
			case map[string]any:
				strip(inner)
			default:
				if k == "asOf" || k == "exactAsOf" || k == "pending" || k == "requestId" {
					delete(m, k)
				}
			}
		}
	}
	strip(v)
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r.status, " ", string(b))
}

// write sends a call and its copy, and notes the copy's answer.
func (w *storeWrites) write(method, body string) {
	w.t.Helper()
	call(w.t, w.s, method, body)
	if w.parked != "" && strings.Contains(body, w.parked) {
		return // it waits, and nothing was decided of it
	}
	w.sent = append(w.sent, asked{method, body, essence(w.t, call(w.t, w.s, method, body))})
}

// storeWrites writes what does not all do what it says.
type storeWrites struct {
	t    *testing.T
	s    *Server
	n    int
	sent []asked
	// parked is part of each call of a parked key, "" when none is.
	parked string
}

// round writes once of everything: plain and conditional puts, conflicts, deletes,
// adds that meet a bound, reservations, clears, and a key that is parked.
func (w *storeWrites) round() {
	w.t.Helper()
	w.n++
	for i := range 6 {
		key := fmt.Sprintf("r%d-%d", w.n, i)
		kv := func(id, value, more string) string {
			return fmt.Sprintf(`{"namespace":"shop","id":"%s","items":[{"key":"aw==","value":"%s"}],"token":{"key":"%s"}%s}`, id, value, key, more)
		}
		id := fmt.Sprint("id", i)
		w.write("KeyValue.PutItems", kv(id, "AAAA", ""))
		call(w.t, w.s, "KeyValue.PutItems", kv(id, "BBBB", "")) // a conflict: it changes nothing
		w.write("KeyValue.PutItems", strings.Replace(kv(id, "CCCC", `,"condition":{"ifAbsent":true}`), key, key+"-absent", 1))
		w.write("KeyValue.DeleteItems", fmt.Sprintf(`{"namespace":"shop","id":"gone%d","predicate":{"matchAll":{}},"token":{"key":"%s"}}`, i, key))
		w.write("KeyValue.PutItems", strings.Replace(kv(fmt.Sprint("gone", i), "DDDD", `,"condition":{"ifAbsent":true}`), key, key+"-back", 1))

		event := func(id string, value int) string {
			return fmt.Sprintf(`{"timeSeriesId":"t%d","eventTime":"2001-01-01T0%d:00:00Z","eventId":"%s","items":[{"key":"k%d","value":{"int":%d}}]}`, i, i, id, value%2, value)
		}
		track := func(events, token string) string {
			return fmt.Sprintf(`{"namespace":"track","events":[%s],"token":{"key":"%s"}}`, events, token)
		}
		w.write("TimeSeries.WriteEventRecordsSync", track(event(key, w.n)+","+event("same", w.n)+`,{"timeSeriesId":"noise","eventTime":"2001-01-01T00:00:00Z","eventId":"1","items":[{"key":"k","value":{"int":1}}]}`, key))
		call(w.t, w.s, "TimeSeries.WriteEventRecordsSync", track(event(key, 9), key)) // a conflict: it changes nothing
		if i == 0 {
			w.write("TimeSeries.DeleteTimeSeries", fmt.Sprintf(`{"namespace":"track","timeSeriesId":"t%d","token":{"key":"%s-gone"}}`, i, key))
		}

		c := fmt.Sprintf(`{"namespace":"tally","counter":"c%d","token":{"key":"%s"},`, i, key)
		w.write("Counter.AddAndGetCount", c+`"delta":30}`)
		w.write("Counter.AddCount", strings.Replace(c, key, key+"-plain", 1)+`"delta":30}`)
		w.write("Counter.AddAndGetCount", strings.Replace(c, key, key+"-low", 1)+`"delta":-90}`)
		w.write("Counter.ReserveCount", strings.Replace(c, key, key+"-hold", 1)+`"amount":5,"lease":"3600s"}`)
		w.write("Counter.AddCounts", fmt.Sprintf(`{"namespace":"tally","adds":[{"counter":"c%d","delta":60},{"counter":"x%d","delta":1},{"counter":"c%d","delta":2,"token":{"key":"%s-own"}}],"token":{"key":"%s-call"}}`, i, i, i, key, key))
		if i == 0 {
			w.write("Counter.ClearCount", strings.Replace(c, key, key+"-clear", 1)[:len(c)+5]+"}")
		}
	}
}

// again sends every call once more: each gets the answer that it got.
func (w *storeWrites) again(when string) {
	w.t.Helper()
	for _, a := range w.sent {
		if got := essence(w.t, call(w.t, w.s, a.method, a.body)); got != a.answer {
			w.t.Errorf("%s, %s %s is answered\n%s\nand was\n%s", when, a.method, a.body, got, a.answer)
		}
	}
}

// storeOf waits until a store is in a state and compared, if it is to be, and
// returns it.
func storeOf(t *testing.T, s *Server, ns, name, state string) (m map[string]any) {
	t.Helper()
	until(t, "store "+name+" of "+ns+" is "+state, func() bool {
		for _, x := range call(t, s, "Admin.ListStores", `{"namespace":"`+ns+`"}`).field(t, "stores").([]any) {
			m = x.(map[string]any)
			if m["name"] == name && m["state"] == state && (state != "COMPARING" || m["compared"] != nil) {
				return true
			}
		}
		return false
	})
	return m
}

// equal fails unless the last comparison of a store found no difference.
func equal(t *testing.T, m map[string]any) {
	t.Helper()
	c := m["compared"].(map[string]any)
	if fmt.Sprint(c["differences"]) != "0" || fmt.Sprint(c["items"]) == "0" {
		t.Errorf("the stores differ: %v", c)
	}
}

// compared compares a store once more.
func compared(t *testing.T, s *Server, ns, name string) {
	t.Helper()
	r := call(t, s, "Admin.CompareStore", fmt.Sprintf(`{"namespace":"%s","store":"%s"}`, ns, name))
	is(t, "compare", r)
	awaitJob(t, s, r.field(t, "job").(string))
	for _, x := range call(t, s, "Admin.ListStores", `{"namespace":"`+ns+`"}`).field(t, "stores").([]any) {
		if m := x.(map[string]any); m["name"] == name {
			equal(t, m)
		}
	}
}

// awaitJob waits until a job is done, and returns its message.
func awaitJob(t *testing.T, s *Server, id string) string {
	t.Helper()
	var r reply
	until(t, "job "+id+" ends", func() bool {
		r = call(t, s, "Admin.GetJob", `{"id":"`+id+`"}`)
		return r.field(t, "job.state") != "RUNNING"
	})
	if r.field(t, "job.state") != "DONE" {
		t.Errorf("job: %s", r)
	}
	return fmt.Sprint(r.field(t, "job.message"))
}

// TestAShadowTakesOver builds a second store of a live namespace, promotes it, rolls
// back, promotes again and drops the first. The ledger goes over with the data: every
// token keeps its answer, and what is parked stays parked.
func TestAShadowTakesOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc))
	}
	w := &storeWrites{t: t, s: s}
	w.round()
	const parked = "id1"
	poisonWith(t, s, "shop", parked, nil)
	w.parked = `"id1"`
	w.round()
	for name, doc := range stored {
		is(t, "a SHADOW of "+name, applyDoc(t, s, doc+shadowed))
	}
	w.round()
	for name := range stored {
		equal(t, storeOf(t, s, name, "next", "COMPARING"))
		compared(t, s, name, "next")
		is(t, "promote", call(t, s, "Admin.PromoteStore", `{"namespace":"`+name+`","store":"next"}`), "store.state", "SERVING", "store.role", "PRIMARY")
		is(t, "promote again", call(t, s, "Admin.PromoteStore", `{"namespace":"`+name+`","store":"next"}`), "store.state", "SERVING")
		refused(t, "an older document", applyDoc(t, s, stored[name]+shadowed), 400, "HW-1204", "NOT_APPLIED")
	}
	w.again("after a promote")
	w.round()
	if r := send(t, s, "GET", "/v1/kv/shop/id1/k", ""); r.status != 400 || r.field(t, "reason") != "HW-1301" {
		t.Errorf("the parked key: %s", r)
	}
	for name := range stored {
		compared(t, s, name, "primary")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	w.s = s
	w.again("after a restart")
	w.round()
	for name := range stored {
		storeOf(t, s, name, "primary", "RETIRING")
		is(t, "roll back", call(t, s, "Admin.RollbackStore", `{"namespace":"`+name+`","store":"primary"}`), "store.state", "SERVING")
		w.again("after a roll back")
		compared(t, s, name, "next")
		is(t, "promote once more", call(t, s, "Admin.PromoteStore", `{"namespace":"`+name+`","store":"next"}`), "store.state", "SERVING")
		for range 2 { // what is done already is success
			is(t, "drop", call(t, s, "Admin.DropStore", `{"namespace":"`+name+`","store":"primary","confirm":"primary"}`))
		}
	}
	w.round()
	w.again("after the drop")
	is(t, "drop what is parked", call(t, s, "Log.DropDeadLetters", fmt.Sprintf(`{"namespace":"shop","selection":{"key":"%s"}}`, parked)), "dropped", "1")
	if r := call(t, s, "KeyValue.GetItems", `{"namespace":"shop","id":"id1","predicate":{"matchAll":{}},"consistency":"LATEST"}`); r.status != 200 {
		t.Errorf("the key that was parked: %s", r)
	}
}

// TestARebuildTakesOver rebuilds the PRIMARY from the log, twice, and loses every store
// after it: the namespace is built again from its log alone.
func TestARebuildTakesOver(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	w := &storeWrites{t: t, s: s}
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc))
	}
	w.round()
	for name := range stored {
		for _, want := range []string{"rebuild", "rebuild-2"} {
			is(t, "dry run", call(t, s, "Admin.Rebuild", `{"namespace":"`+name+`","dryRun":true}`), "job", "")
			r := call(t, s, "Admin.Rebuild", `{"namespace":"`+name+`"}`)
			is(t, "rebuild", r)
			w.round()
			if end := awaitJob(t, s, r.field(t, "job").(string)); !strings.Contains(end, "store "+want+" serves") {
				t.Errorf("rebuild ended with %q", end)
			}
			storeOf(t, s, name, want, "SERVING")
			w.again("after a rebuild")
		}
		for _, gone := range []string{"primary", "rebuild"} {
			is(t, "drop", call(t, s, "Admin.DropStore", fmt.Sprintf(`{"namespace":"%s","store":"%s","confirm":"%s"}`, name, gone, gone)))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "stores")); err != nil {
		t.Fatal(err)
	}
	w.s = start(t, dir)
	w.again("after the loss of every store")
}

// TestWhatAStoreCannotBe refuses what a store cannot be or do, and changes nothing.
func TestWhatAStoreCannotBe(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc))
	}
	onStore := func(method, store, more string) reply {
		return call(t, s, "Admin."+method, `{"namespace":"shop","store":"`+store+`"`+more+`}`)
	}
	before := call(t, s, "Admin.ListStores", `{"namespace":"shop"}`)
	refused(t, "two PRIMARY", applyDoc(t, s, stored["shop"]+strings.Replace(shadowed, "SHADOW", "PRIMARY", 1)), 400, "HW-1019", "NOT_APPLIED")
	refused(t, "promote what is not there", onStore("PromoteStore", "none", ""), 404, "HW-1109", "")
	refused(t, "drop the PRIMARY", onStore("DropStore", "primary", `,"confirm":"primary"`), 400, "HW-1308", "")
	refused(t, "compare the PRIMARY", onStore("CompareStore", "primary", ""), 400, "HW-1308", "")
	refused(t, "roll back to nothing", onStore("RollbackStore", "none", ""), 404, "HW-1109", "")
	refused(t, "no such job", call(t, s, "Admin.GetJob", `{"id":"none"}`), 404, "HW-1110", "")
	refused(t, "rebuild a log", call(t, s, "Admin.Rebuild", `{"namespace":"demo-log"}`), 501, "HW-1107", "")
	if after := call(t, s, "Admin.ListStores", `{"namespace":"shop"}`); !reflect.DeepEqual(before.field(t, "stores"), after.field(t, "stores")) {
		t.Errorf("stores were\n%s\nand are\n%s", before, after)
	}
	is(t, "a SHADOW", applyDoc(t, s, stored["shop"]+shadowed))
	storeOf(t, s, "shop", "next", "COMPARING")
	refused(t, "drop without its name", onStore("DropStore", "next", `,"confirm":"primary"`), 400, "HW-1028", "")
	refused(t, "roll back to a SHADOW", onStore("RollbackStore", "next", ""), 400, "HW-1307", "")
}

// rebuilt rebuilds a namespace with what req leaves out, and promotes the store.
func rebuilt(t *testing.T, s *Server, name, req, store string) {
	t.Helper()
	r := call(t, s, "Admin.Rebuild", `{"namespace":"`+name+`",`+req+`}`)
	is(t, "rebuild", r)
	if end := awaitJob(t, s, r.field(t, "job").(string)); !strings.Contains(end, "and waits") {
		t.Errorf("%s of %s ended with %q", req, name, end)
	}
	storeOf(t, s, name, store, "COMPARING")
	other := strings.Replace(`{"namespace":"`+name+`",`+req+`}`, `"omit":[`, `"omit":[{"key":"else"},`, 1)
	if strings.Contains(other, "else") {
		refused(t, "another rebuild", call(t, s, "Admin.Rebuild", other), 400, "HW-1307", "")
	}
	is(t, "promote", call(t, s, "Admin.PromoteStore", `{"namespace":"`+name+`","store":"`+store+`","acceptDifferences":true}`), "store.state", "SERVING")
}

// TestARebuildLeavesOut: writes by their tokens, and what they make possible; and what
// is before a place in the log.
func TestARebuildLeavesOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc))
	}
	put := func(value, token string) reply {
		return send(t, s, "PUT", "/v1/kv/shop/id/k", value, "Idempotency-Key", token)
	}
	put("good", "t1")
	expectBody(t, put("bad", "t2"), 204, "")
	add := func(by, token string) reply {
		return send(t, s, "POST", "/v1/counter/tally/c?by="+by, "", "Idempotency-Key", token)
	}
	add("5", "t1")
	add("20", "t2")
	bad := essence(t, add("20", "t2"))
	is(t, "adds", call(t, s, "Counter.AddCounts", `{"namespace":"tally","adds":[{"counter":"c","delta":1},{"counter":"c","delta":30,"token":{"key":"t2b"}}],"token":{"key":"t3"}}`))
	hold := call(t, s, "Counter.ReserveCount", `{"namespace":"tally","counter":"c","amount":4,"lease":"3600s","token":{"key":"t4"}}`).field(t, "reservationId").(string)
	settle := `{"namespace":"tally","reservationId":"` + hold + `","amount":3,"token":{"key":"t5"}}`
	call(t, s, "Counter.SettleReservation", settle)
	settled := essence(t, call(t, s, "Counter.SettleReservation", settle))
	value := func() any {
		return call(t, s, "Counter.GetCount", `{"namespace":"tally","counter":"c","accuracy":"ACCURATE"}`).field(t, "count.value")
	}
	if v := value(); v != "53" {
		t.Fatalf("value is %v", v)
	}
	rebuilt(t, s, "shop", `"omit":[{"key":"t2"}]`, "rebuild")
	rebuilt(t, s, "tally", `"omit":[{"key":"t2"},{"key":"t2b"},{"key":"t4"}]`, "rebuild")
	for range 2 {
		expectBody(t, send(t, s, "GET", "/v1/kv/shop/id/k", ""), 200, "good")
		if v := value(); v != "6" {
			t.Errorf("value without what was left out is %v", v)
		}
		// What was answered stands, and nothing is done again.
		expectBody(t, put("bad", "t2"), 204, "")
		if now := essence(t, add("20", "t2")); now != bad {
			t.Errorf("a copy of what was left out is answered %s, not %s", now, bad)
		}
		if now := essence(t, call(t, s, "Counter.SettleReservation", settle)); now != settled {
			t.Errorf("a copy of a settlement is answered %s, not %s", now, settled)
		}
		closeServer(t, s)
		s = open(t, dir)
	}
	expectBody(t, send(t, s, "GET", "/v1/kv/shop/id/k", ""), 200, "good")

	at := send(t, s, "PUT", "/v1/kv/shop/id/later", "v").header.Get("Headwater-Position")
	send(t, s, "PUT", "/v1/kv/shop/id/last", "v")
	rebuilt(t, s, "shop", `"from":{"position":"`+at+`"}`, "rebuild-2")
	for key, want := range map[string]int{"k": 404, "later": 404, "last": 200} {
		if r := send(t, s, "GET", "/v1/kv/shop/id/"+key, ""); r.status != want {
			t.Errorf("%s after a rebuild from its middle: %s", key, r)
		}
	}
	refused(t, "from nowhere", call(t, s, "Admin.Rebuild", `{"namespace":"shop","from":{"position":"x"}}`), 400, "HW-1012", "")
	refused(t, "from what is empty", call(t, s, "Admin.Rebuild", `{"namespace":"shop","from":{}}`), 400, "HW-1027", "")
	refused(t, "omit no token", call(t, s, "Admin.Rebuild", `{"namespace":"shop","omit":[{}]}`), 400, "HW-1006", "")
	closeServer(t, s)
}

// TestARebuildFromTheMiddleFollowsDecisions: a record that is still in the log after a
// trim is done again as it was decided.
func TestARebuildFromTheMiddleFollowsDecisions(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "make tally", applyDoc(t, s, "namespace: tally\nabstraction: counter\nlog: {partitions: 1, retention: 0s}\ncounter: {floor: 0}\n"))
	add := func(by string) reply {
		return send(t, s, "POST", "/v1/counter/tally/c?by="+by, "")
	}
	at := add("5").field(t, "result.position").(string)
	add("-100") // below the floor
	add("7")
	x := spaceOf(t, s, "tally")
	b, err := x.log.Bounds(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.trimTo(t.Context(), 0, b, retention.Floor{Durable: 1, Parked: retention.Unparked}, 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	refused(t, "rebuild what is trimmed", call(t, s, "Admin.Rebuild", `{"namespace":"tally"}`), 400, "HW-1309", "")
	rebuilt(t, s, "tally", `"from":{"position":"`+at+`"}`, "rebuild")
	got := call(t, s, "Counter.GetCount", `{"namespace":"tally","counter":"c","accuracy":"ACCURATE"}`)
	is(t, "the count without its first add", got, "count.value", "7")
}

// TestADifferenceIsFound changes an item of a SHADOW behind everybody's back.
func TestADifferenceIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc+shadowed))
	}
	w := &storeWrites{t: t, s: s}
	w.round()
	x := spaceOf(t, s, "shop")
	storeOf(t, s, "shop", "next", "COMPARING")
	eachStoreIsTold(t, s)
	st := x.store("next")
	p := wal.PartitionOf([]byte("id2"), 2)
	err := st.do(t.Context(), p, func(ctx context.Context) error {
		pebble := st.backend.(*kvBackend).items
		state, err := pebble.State(ctx, p)
		if err != nil {
			return err
		}
		b := pebble.Begin(p)
		b.Put([]byte("id2"), wal.Version{Time: state.MaxTime + 1, Class: wal.Live}, &kv.StoredItem{Key: []byte("k"), Value: []byte("x"), Size: 1})
		return b.Commit(ctx, state)
	})
	if err != nil {
		t.Fatal(err)
	}
	r := onStoreCompare(t, s)
	if end := awaitJob(t, s, r); !strings.HasPrefix(end, "1 differences in") {
		t.Errorf("compared: %s", end)
	}
	examples := func() string {
		m := call(t, s, "Admin.ListStores", `{"namespace":"shop"}`).field(t, "stores").([]any)[1].(map[string]any)
		return fmt.Sprint(m["compared"].(map[string]any)["examples"])
	}
	found := examples()
	closeServer(t, s)
	s = open(t, dir)
	storeOf(t, s, "shop", "next", "COMPARING")
	if now := examples(); now != found || !strings.Contains(found, "id2") {
		t.Errorf("examples are %s, and after a restart %s", found, now)
	}
	refused(t, "promote one that differs", call(t, s, "Admin.PromoteStore", `{"namespace":"shop","store":"next"}`), 400, "HW-1307", "")
	is(t, "promote it all the same", call(t, s, "Admin.PromoteStore", `{"namespace":"shop","store":"next","acceptDifferences":true}`), "store.state", string(namespace.Serving))
	closeServer(t, s)
}

// eachStoreIsTold: in Status, readiness and the metrics.
func eachStoreIsTold(t *testing.T, s *Server) {
	t.Helper()
	ns := call(t, s, "Admin.Status", `{"namespace":"shop"}`).field(t, "namespaces").([]any)[0].(map[string]any)
	var told []string
	for _, st := range ns["stores"].([]any) {
		m := st.(map[string]any)
		told = append(told, fmt.Sprint(m["name"], m["role"], m["generation"], m["stage"], m["state"], m["lagRecords"]))
	}
	if want := []string{"primaryPRIMARY1SERVINGrunning0", "nextSHADOW2COMPARINGrunning0"}; !slices.Equal(told, want) {
		t.Errorf("stores in Status are %q, not %q", told, want)
	}
	applied := ns["partitions"].([]any)[0].(map[string]any)["applied"].(map[string]any)
	if applied["PRIMARY"] == nil || applied["PRIMARY"] != applied["SHADOW"] {
		t.Errorf("applied is %v", applied)
	}
	for query, want := range map[string]string{
		"namespace=shop&role=SHADOW": "200 ready", "namespace=shop&role=CACHE": `503 not ready: namespace shop has no store of role "CACHE"`,
		"role=SHADOW": "400 role is of a store of a namespace; give namespace too",
	} {
		if r := admin(t, s, "/readyz?"+query); r.String() != want {
			t.Errorf("readyz?%s: %q, want %q", query, r, want)
		}
	}
	metrics := admin(t, s, "/metrics").body
	for _, role := range []string{"PRIMARY", "SHADOW"} {
		// What was just written may block the trim until it is saved.
		for name, value := range map[string]string{"apply_lag_records": "0\n", "apply_lag_seconds": "0\n", "log_trim_blocked_seconds": ""} {
			if line := fmt.Sprintf("headwater_%s{namespace=\"shop\",role=\"%s\"} %s", name, role, value); !strings.Contains(metrics, line) {
				t.Errorf("the metrics lack %s", line)
			}
		}
	}
}

func onStoreCompare(t *testing.T, s *Server) string {
	t.Helper()
	r := call(t, s, "Admin.CompareStore", `{"namespace":"shop","store":"next"}`)
	is(t, "compare", r)
	return r.field(t, "job").(string)
}
