package server

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// decision asks what became of a write.
func decision(t *testing.T, s *Server, ns, key, token string) reply {
	t.Helper()
	return call(t, s, "Admin.GetDecision", fmt.Sprintf(`{"namespace":"%s","key":"%s","token":{"key":"%s"}}`, ns, key, token))
}

// TestWhatBecameOfAWrite asks for the decision of writes that were applied, refused,
// parked, dropped, and of none.
func TestWhatBecameOfAWrite(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	put := func(id, token, more string) reply {
		return call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"demo-kv","id":"%s","items":[{"key":"aw==","value":"dg=="}],"token":{"key":"%s"}%s}`, id, token, more))
	}
	r := put("a", "first", "")
	is(t, "put", r)
	is(t, "applied", decision(t, s, "demo-kv", "a", "first"), "known", "true", "outcome", "APPLIED", "position", fmt.Sprint(r.field(t, "result.position")))
	refused(t, "a condition", put("a", "second", `,"condition":{"ifAbsent":true}`), 409, "HW-1202", "NOT_APPLIED")
	is(t, "refused", decision(t, s, "demo-kv", "a", "second"), "known", "true", "outcome", "REFUSED", "reason", "condition_failed")
	for _, key := range []string{"a", "b"} {
		r := decision(t, s, "demo-kv", key, "none")
		is(t, "of none", r, "known", "false")
		if m := r.body; m != `{"known":false}` {
			t.Errorf("of none: %s", m)
		}
	}
	is(t, "of another record", decision(t, s, "demo-kv", "b", "first"), "known", "false")

	poison(t, s, "sick")
	is(t, "put behind", put("sick", "behind", ""))
	is(t, "parked", decision(t, s, "demo-kv", "sick", "behind"), "known", "true", "outcome", "PARKED")
	is(t, "drop", call(t, s, "Log.DropDeadLetters", `{"namespace":"demo-kv","selection":{"key":"sick"}}`), "dropped", "1")
	is(t, "applied after the drop", decision(t, s, "demo-kv", "sick", "behind"), "known", "true", "outcome", "APPLIED")

	// The token of what was dropped is that of the record.
	list := call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-kv"}`).field(t, "deadLetters").([]any)
	full := call(t, s, "Log.ListDeadLetters", fmt.Sprintf(`{"namespace":"demo-kv","selection":{"ids":["%s"]}}`, list[0].(map[string]any)["id"])).field(t, "deadLetters").([]any)[0].(map[string]any)
	var rec wal.Record
	raw, err := base64.StdEncoding.DecodeString(full["payload"].(string))
	if err != nil || wal.DecodeRecord(raw, &rec) != nil {
		t.Fatalf("the letter carries no record: %v %v", err, full)
	}
	nonce := b64(rec.Token.Nonce[:])
	is(t, "dropped", call(t, s, "Admin.GetDecision", `{"namespace":"demo-kv","key":"sick","token":{"nonce":"`+nonce+`"}}`), "known", "true", "outcome", "DROPPED", "reason", "poison")

	onCounter(t, s, "AddAndGetCount", `"counter":"c","delta":3,"token":{"key":"add"}`)
	onCounter(t, s, "AddAndGetCount", `"counter":"c","delta":-9,"bounds":{"floor":0},"token":{"key":"low"}`)
	is(t, "added", decision(t, s, "demo-counter", "c", "add"), "outcome", "APPLIED")
	is(t, "below the floor", decision(t, s, "demo-counter", "c", "low"), "outcome", "REFUSED", "reason", "bound")
	refused(t, "no token", call(t, s, "Admin.GetDecision", `{"namespace":"demo-kv","key":"a"}`), 400, "HW-1006", "")
	refused(t, "a log", decision(t, s, "demo-log", "a", "x"), 400, "HW-1102", "")
}
