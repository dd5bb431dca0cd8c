package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// names are eight routing keys. A namespace of four partitions has some of them
// in one partition and some in others.
func names() (out []string) {
	for i := range 8 {
		out = append(out, fmt.Sprintf("name-%d", i))
	}
	return out
}

// TestOneKeyIsAnotherWriteOnEachRecord writes to eight records under one business
// key, over each route that takes one. Which partitions the records fall into must
// not show.
func TestOneKeyIsAnotherWriteOnEachRecord(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for _, id := range names() {
		r := send(t, s, http.MethodPut, "/v1/kv/demo-kv/"+id+"/k", "of "+id, "Idempotency-Key", "plain")
		if r.status != http.StatusNoContent {
			t.Errorf("put %s: %s", id, r)
		}
	}
	for _, id := range names() {
		expectBody(t, send(t, s, http.MethodGet, "/v1/kv/demo-kv/"+id+"/k", ""), http.StatusOK, "of "+id)
		// The key is that of one write to the record.
		expectBody(t, send(t, s, http.MethodPut, "/v1/kv/demo-kv/"+id+"/k", "of "+id, "Idempotency-Key", "plain"), http.StatusNoContent, "")
		refused(t, "another value", send(t, s, http.MethodPut, "/v1/kv/demo-kv/"+id+"/k", "other", "Idempotency-Key", "plain"), 409, "HW-1201", "NOT_APPLIED")
	}
	for _, dup := range []string{"NO", "YES"} {
		for _, id := range names() {
			body := fmt.Sprintf(`{"namespace":"demo-kv","id":"%s","items":[{"key":"cnBj","value":"dg=="}],"token":{"key":"rpc"}}`, id)
			is(t, "PutItems "+id, call(t, s, "KeyValue.PutItems", body), "result.duplicate", dup, "result.token.key", "rpc")
		}
		for _, id := range names() {
			body := fmt.Sprintf(`{"namespace":"demo-kv","id":"%s","predicate":{"matchKeys":{"keys":["bm9uZQ=="]}},"token":{"key":"delete"}}`, id)
			is(t, "DeleteItems "+id, call(t, s, "KeyValue.DeleteItems", body), "result.duplicate", dup)
		}
		var puts []string
		for _, id := range names() {
			puts = append(puts, fmt.Sprintf(`{"namespace":"demo-kv","id":"%s","items":[{"key":"YmF0Y2g=","value":"dg=="}],"token":{"key":"batch"}}`, id))
		}
		r := call(t, s, "KeyValue.BatchPutItems", `{"requests":[`+strings.Join(puts, ",")+`]}`)
		for i, a := range r.field(t, "responses").([]any) {
			if got := fmt.Sprint(a); !strings.Contains(got, "duplicate:"+dup) {
				t.Errorf("put %d of a batch: %s", i, got)
			}
		}
		for _, id := range names() {
			body := fmt.Sprintf(`{"namespace":"demo-kv","id":"%s","key":"dXA=","size":1,"token":{"key":"upload"}}`, id)
			is(t, "BeginUpload "+id, call(t, s, "KeyValue.BeginUpload", body), "result.duplicate", dup)
		}
		for _, id := range names() {
			r := send(t, s, http.MethodPost, "/v1/log/demo-log/"+id, "of all", "Idempotency-Key", "message")
			is(t, "message "+id, r, "durable", "SUCCEEDED", "result.duplicate", dup)
		}
	}
}

// TestOneKeyIsAnotherWriteOnEachCounter is the same for counters.
func TestOneKeyIsAnotherWriteOnEachCounter(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for _, dup := range []string{"NO", "YES"} {
		repeated := fmt.Sprint(dup == "YES")
		for _, c := range names() {
			is(t, "AddCount "+c, onCounter(t, s, "AddCount", `"counter":"add/`+c+`","delta":3,"token":{"key":"k"}`), "result.duplicate", dup, "result.token.key", "k")
		}
		for _, c := range names() {
			is(t, "plain "+c, send(t, s, "POST", "/v1/counter/demo-counter/plain%2F"+c+"?by=3", "", "Idempotency-Key", "k"), "count.value", "3", "duplicate", repeated)
		}
		for _, c := range names() {
			is(t, "ClearCount "+c, onCounter(t, s, "ClearCount", `"counter":"clear/`+c+`","token":{"key":"k"}`), "result.duplicate", dup)
		}
		ids := map[any]bool{}
		for _, c := range names() {
			is(t, "AddAndGetCount "+c, onCounter(t, s, "AddAndGetCount", `"counter":"held/`+c+`","delta":3,"token":{"key":"k"}`), "count.value", "3", "duplicate", repeated)
			r := onCounter(t, s, "ReserveCount", `"counter":"held/`+c+`","amount":1,"lease":"60s","token":{"key":"hold"}`)
			is(t, "ReserveCount "+c, r, "count.held", "1", "result.duplicate", dup)
			ids[r.field(t, "reservationId")] = true
		}
		if len(ids) != len(names()) {
			t.Errorf("%d reservations have %d ids", len(names()), len(ids))
		}
		var adds []string
		for _, c := range names() {
			adds = append(adds, fmt.Sprintf(`{"counter":"own/%s","delta":3,"token":{"key":"k"}}`, c))
		}
		is(t, "own tokens in one call", onCounter(t, s, "AddCounts", `"adds":[`+strings.Join(adds, ",")+`]`))
	}
	for _, c := range names() {
		for _, kind := range []string{"add/", "own/", "plain%2F"} {
			kind = strings.Replace(kind, "%2F", "/", 1)
			is(t, "the value of "+kind+c, onCounter(t, s, "GetCount", `"counter":"`+kind+c+`","accuracy":"ACCURATE"`), "count.value", "3")
		}
	}
}

// TestAnAddIsTheSameByItselfAndInACall: the token of an AddCount is that of an add
// of AddCounts which has it for its own.
func TestAnAddIsTheSameByItselfAndInACall(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	single := func(c string, delta int) reply {
		return onCounter(t, s, "AddCount", fmt.Sprintf(`"counter":"%s","delta":%d,"token":{"key":"k"}`, c, delta))
	}
	inCall := func(c string, delta int) reply {
		return onCounter(t, s, "AddCounts", fmt.Sprintf(`"adds":[{"counter":"%s","delta":%d,"token":{"key":"k"}}]`, c, delta))
	}
	is(t, "single first", single("a", 3), "result.duplicate", "NO")
	is(t, "then in a call", inCall("a", 3), "result.duplicate", "YES")
	is(t, "in a call first", inCall("b", 3), "result.duplicate", "NO")
	is(t, "then single", single("b", 3), "result.duplicate", "YES")
	refused(t, "another delta in a call", inCall("a", 4), 409, "HW-1201", "NOT_APPLIED")
	refused(t, "another delta by itself", single("b", 4), 409, "HW-1201", "NOT_APPLIED")
	for _, c := range []string{"a", "b"} {
		is(t, "the value of "+c, onCounter(t, s, "GetCount", `"counter":"`+c+`","accuracy":"ACCURATE"`), "count.value", "3")
		// Its answer is part of this call, so it is another request.
		refused(t, "add and get", onCounter(t, s, "AddAndGetCount", `"counter":"`+c+`","delta":3,"token":{"key":"k"}`), 409, "HW-1201", "NOT_APPLIED")
	}
	// The token of a call is apart from those of its adds.
	is(t, "the call's token", onCounter(t, s, "AddCounts", `"adds":[{"counter":"a","delta":3}],"token":{"key":"k"}`), "result.duplicate", "NO")
	is(t, "the value of a", onCounter(t, s, "GetCount", `"counter":"a","accuracy":"ACCURATE"`), "count.value", "6")
	refused(t, "the call's token with more adds", onCounter(t, s, "AddCounts", `"adds":[{"counter":"a","delta":3},{"counter":"aa","delta":1}],"token":{"key":"k"}`), 409, "HW-1201", "NOT_APPLIED")
}

// TestAGroupIsApartFromItsWrites: a group over several ids has an identity of its
// own, one of a single id that of a write to it.
func TestAGroupIsApartFromItsWrites(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a, b := "name-0", ""
	parts := topic(t, s, "demo-kv").Info().Partitions
	for _, id := range append(names(), "name-8", "name-9", "name-10", "name-11", "name-12") {
		if id != a && wal.PartitionOfString(id, parts) == wal.PartitionOfString(a, parts) {
			b = id
		}
	}
	put := func(id string) string {
		return fmt.Sprintf(`{"put":{"namespace":"demo-kv","id":"%s","items":[{"key":"aw==","value":"dg=="}]}}`, id)
	}
	group := func(ids ...string) reply {
		var ms []string
		for _, id := range ids {
			ms = append(ms, put(id))
		}
		return call(t, s, "KeyValue.MutateItems", `{"mutations":[`+strings.Join(ms, ",")+`],"token":{"key":"k"}}`)
	}
	one := group(a)
	if one.status != http.StatusOK {
		t.Fatal(one)
	}
	is(t, "the write that a group of one is", call(t, s, "KeyValue.PutItems", `{"namespace":"demo-kv","id":"`+a+`","items":[{"key":"aw==","value":"dg=="}],"token":{"key":"k"}}`), "result.duplicate", "YES")
	two := group(a, b)
	if two.status != http.StatusOK || two.field(t, "groupId") == one.field(t, "groupId") {
		t.Errorf("a group of two: %s; of one: %s", two, one)
	}
	if again := group(a, b); again.field(t, "groupId") != two.field(t, "groupId") || !strings.Contains(again.body, `"YES"`) {
		t.Errorf("the group again: %s, first %s", again, two)
	}
}
