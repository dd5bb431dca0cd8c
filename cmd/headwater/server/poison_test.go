package server

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

func partition(i int) wal.Partition { return wal.Partition(i) }

// poison appends a record that cannot be applied, as a faulty producer would:
// its envelope is sound, its payload is not.
func poison(t *testing.T, s *Server, id string) wal.Offset {
	t.Helper()
	return poisonWith(t, s, "demo-kv", id, nil)
}

// poisonWith is poison in any key-value namespace, with more bytes in the record.
func poisonWith(t *testing.T, s *Server, ns, id string, more []byte) wal.Offset {
	t.Helper()
	l := topic(t, s, ns)
	rec := wal.AppendRecord(nil, &wal.Record{
		Kind: wal.KindKV, RoutingKey: []byte(id),
		Token:   wal.Token{GenerationTime: s.broker.Now().UnixMicro(), Nonce: wal.NewNonce()},
		Payload: append([]byte{1, 1, 0, 1, 99, 0}, more...),
	})
	p := wal.PartitionOf([]byte(id), l.Info().Partitions)
	res := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	n, ok := s.spaces.dir.Get(ns)
	if !ok {
		t.Fatal("no " + ns)
	}
	if err := n.Stream.WaitApplied(t.Context(), p, res.Offset); err != nil {
		t.Fatal(err)
	}
	return res.Offset
}

// TestPoisonParksItsKeyAndNothingElse follows a key through poison, a restart,
// a redrive that fails, and the drop that frees it.
func TestPoisonParksItsKeyAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	put := func(s *Server, id, value string, header ...string) reply {
		return send(t, s, "PUT", "/v1/kv/demo-kv/"+id+"/k", value, header...)
	}
	get := func(s *Server, id, query string) reply { return send(t, s, "GET", "/v1/kv/demo-kv/"+id+"/k"+query, "") }

	if r := put(s, "sick", "before"); r.status != http.StatusNoContent {
		t.Fatal(r)
	}
	poison(t, s, "sick")
	// What comes after waits behind it, and is acknowledged: the log has it.
	after := put(s, "sick", "after")
	if after.status != http.StatusNoContent {
		t.Fatal(after)
	}
	check := func(s *Server) {
		t.Helper()
		for _, q := range []string{"", "?consistency=LATEST", "?after=" + after.header.Get("Headwater-Position"), "?consistency=EVENTUAL&after=" + after.header.Get("Headwater-Position")} {
			if r := get(s, "sick", q); r.status != 400 || r.field(t, "reason") != "HW-1301" {
				t.Errorf("read of the parked key with %q: %s", q, r)
			}
		}
		if r := get(s, "sick", "?consistency=EVENTUAL"); r.status != 200 || r.body != "before" {
			t.Errorf("EVENTUAL shows what was before: %s", r)
		}
		if r := put(s, "sick", "x", "If-None-Match", "*"); r.status != 400 || r.field(t, "reason") != "HW-1301" || r.field(t, "outcome") != "NOT_APPLIED" {
			t.Errorf("a conditional write of the parked key: %s", r)
		}
		if r := put(s, "healthy", "fine"); r.status != http.StatusNoContent {
			t.Errorf("another key: %s", r)
		}
		if r := get(s, "healthy", ""); r.body != "fine" {
			t.Errorf("another key: %s", r)
		}
		scan := call(t, s, "KeyValue.ScanItems", `{"namespace":"demo-kv"}`)
		marked := map[string]any{}
		for _, r := range scan.field(t, "records").([]any) {
			m := r.(map[string]any)
			marked[m["id"].(string)] = m["parked"]
		}
		if marked["sick"] != true || marked["healthy"] != false {
			t.Errorf("a scan marks the parked record: %v", marked)
		}
		if r := call(t, s, "Admin.Status", `{"namespace":"demo-kv"}`); fmt.Sprint(r.field(t, "namespaces").([]any)[0].(map[string]any)["parkedKeys"]) != "1" {
			t.Errorf("status: %s", r)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check(s)

	list := call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-kv"}`).field(t, "deadLetters").([]any)
	if len(list) != 1 {
		t.Fatalf("%d dead letters, want 1: %v", len(list), list)
	}
	letter := list[0].(map[string]any)
	id := letter["id"].(string)
	if letter["disposition"] != "PARKED" || letter["reason"] != "poison" || letter["key"] != "sick" {
		t.Errorf("dead letter: %v", letter)
	}
	full := call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-kv","selection":{"ids":["`+id+`"]}}`).field(t, "deadLetters").([]any)[0].(map[string]any)
	raw, err := base64.StdEncoding.DecodeString(full["payload"].(string))
	var rec wal.Record
	if err != nil || wal.DecodeRecord(raw, &rec) != nil || string(rec.RoutingKey) != "sick" {
		t.Errorf("the letter carries the record: %v, %v", full, err)
	}
	if r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"demo-kv","selection":{"ids":["`+id+`"]},"dryRun":true}`); r.field(t, "matched") != "1" || r.field(t, "redriven") != "0" {
		t.Errorf("dry run: %s", r)
	}
	if r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"demo-kv"}`); r.field(t, "matched") != "1" || r.field(t, "redriven") != "0" {
		t.Errorf("redrive by a build that cannot apply it either: %s", r)
	}
	check(s)
	if r := call(t, s, "Log.DropDeadLetters", `{"namespace":"demo-kv","selection":{"key":"sick"}}`); r.field(t, "dropped") != "1" {
		t.Fatalf("drop: %s", r)
	}
	if r := get(s, "sick", ""); r.status != 200 || r.body != "after" {
		t.Errorf("after the drop, what waited is applied: %s", r)
	}
	again := call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-kv"}`).field(t, "deadLetters").([]any)
	if len(again) != 1 || again[0].(map[string]any)["disposition"] != "DROPPED" {
		t.Errorf("dead letters after the drop: %v", again)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A rebuild of the store does the same at the same places.
	if err := os.RemoveAll(filepath.Join(dir, "stores")); err != nil {
		t.Fatal(err)
	}
	s2 := start(t, dir)
	if r := get(s2, "sick", ""); r.status != 200 || r.body != "after" {
		t.Errorf("after a rebuild: %s", r)
	}
}

// TestUnknownRecordVersionStopsItsPartition: what cannot be read is never guessed
// at, and the others go on.
func TestUnknownRecordVersionStopsItsPartition(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	s := start(t, t.TempDir())
	l := topic(t, s, "demo-kv")
	if res := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: 2, Data: []byte{77, 1, 2, 3}}})[0]; res.Err != nil {
		t.Fatal(res.Err)
	}
	n, ok := s.spaces.dir.Get("demo-kv")
	if !ok {
		t.Fatal("no demo-kv")
	}
	if err := n.Stream.WaitApplied(t.Context(), 2, 0); err == nil {
		t.Fatal("the record was applied")
	}
	seen := map[int]bool{}
	for i := 0; len(seen) < 4; i++ {
		id := fmt.Sprintf("id-%d", i)
		p := int(wal.PartitionOf([]byte(id), 4))
		if seen[p] {
			continue
		}
		seen[p] = true
		r := send(t, s, "PUT", "/v1/kv/demo-kv/"+id+"/k", "v")
		if p == 2 && r.status != 503 || p != 2 && r.status != http.StatusNoContent {
			t.Errorf("partition %d: %s", p, r)
		}
	}
	st := call(t, s, "Admin.Status", `{"namespace":"demo-kv"}`)
	store := st.field(t, "namespaces").([]any)[0].(map[string]any)["stores"].([]any)[0].(map[string]any)
	if store["state"] != "stopped" {
		t.Errorf("status does not say it: %v", store)
	}
}
