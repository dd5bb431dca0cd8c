package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// stock makes, or changes, a counter namespace whose counters do not go below 0.
func stock(t *testing.T, s *Server, settings string) {
	t.Helper()
	doc := "namespace: stock\\nabstraction: counter\\nlog: { partitions: 1 }\\ncounter: { floor: 0 }\\n" + settings
	if r := call(t, s, "Namespace.ApplyNamespace", `{"config":"`+doc+`"}`); r.status != 200 {
		t.Fatal(r)
	}
}

// sellNothing takes one off each of n counters that have none, in one call, and
// waits until all are refused.
func sellNothing(t *testing.T, s *Server, n int) {
	t.Helper()
	var adds []string
	for i := range n {
		adds = append(adds, fmt.Sprintf(`{"counter":"a counter with a name of some length %d","delta":-1}`, i))
	}
	if r := call(t, s, "Counter.AddCounts", `{"namespace":"stock","adds":[`+strings.Join(adds, ",")+`]}`); r.status != 200 {
		t.Fatal(r)
	}
	if r := call(t, s, "Counter.GetCount", `{"namespace":"stock","counter":"x","accuracy":"ACCURATE"}`); r.status != 200 {
		t.Fatal(r)
	}
}

// letterIDs lists all dead letters of the namespace, by pages.
func letterIDs(t *testing.T, s *Server) (ids []string) {
	t.Helper()
	for token := ""; ; {
		r := call(t, s, "Log.ListDeadLetters", fmt.Sprintf(`{"namespace":"stock","pageSize":700,"pageToken":%q}`, token))
		if r.status != 200 {
			t.Fatal(r)
		}
		list, _ := r.field(t, "deadLetters").([]any)
		for _, l := range list {
			ids = append(ids, l.(map[string]any)["id"].(string)+" "+l.(map[string]any)["disposition"].(string))
		}
		if token, _ = r.field(t, "nextPageToken").(string); token == "" {
			return ids
		}
	}
}

// wantLetters checks the list, Status and the metric of the process.
func wantLetters(t *testing.T, s *Server, n, counted, trimmed int) []string {
	t.Helper()
	ids, seen := letterIDs(t, s), map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	if len(ids) != n || len(seen) != n {
		t.Errorf("%d letters are listed, %d different; want %d", len(ids), len(seen), n)
	}
	st := call(t, s, "Admin.Status", `{"namespace":"stock"}`).field(t, "namespaces").([]any)[0].(map[string]any)
	if got := fmt.Sprint(st["deadLetters"]); got != fmt.Sprint(n) {
		t.Errorf("status tells of %s letters, want %d", got, n)
	}
	text := get(t, "http://"+inside(s).AdminAddr()+"/metrics").body
	want := fmt.Sprintf(`headwater_dead_letters_total{reason="bound"} %d`, counted)
	if got := strings.Contains(text, `headwater_dead_letters_total{reason="bound"}`); counted == 0 && got || counted > 0 && !strings.Contains(text, want+"\n") {
		t.Errorf("no %s in the metrics", want)
	}
	if want := fmt.Sprintf(`headwater_dead_letters_trimmed_total{namespace="stock"} %d`, trimmed); !strings.Contains(text, want+"\n") {
		t.Errorf("no %s in the metrics", want)
	}
	return ids
}

// TestAReplayDoublesNoLetters: a store that is behind, as after kill -9, has its
// records applied again. Their letters are there already.
func TestAReplayDoublesNoLetters(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	dir := t.TempDir()
	stores, old := filepath.Join(dir, "stores"), filepath.Join(t.TempDir(), "old")
	s := open(t, dir)
	stock(t, s, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(old, os.DirFS(stores)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	sellNothing(t, s, 1500)
	sellNothing(t, s, 20)
	before := wantLetters(t, s, 1520, 1520, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(stores), os.CopyFS(stores, os.DirFS(old))); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	if after := wantLetters(t, s, 1520, 0, 0); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Error("the letters are others after the replay")
	}
	sellNothing(t, s, 5) // and what is new is new
	wantLetters(t, s, 1525, 5, 0)
}

// trimNow trims the letters of the namespace as the sweeper does from time to time.
// The store has all that was applied then, as a recount makes sure.
func trimNow(t *testing.T, s *Server) {
	t.Helper()
	if r := call(t, s, "Counter.VerifyCount", `{"namespace":"stock","counter":"x"}`); r.status != 200 {
		t.Fatal(r)
	}
	x := spaceOf(t, s, "stock")
	_, err := x.keep(t.Context(), 0)
	if err == nil {
		_, err = x.trimLetters(t.Context(), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDeadLettersAreTrimmed: by the configuration in force, counted, and not below
// those of what is parked.
func TestDeadLettersAreTrimmed(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	stock(t, s, "")
	rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindCounter, RoutingKey: []byte("sick"), Payload: []byte{99}})
	sellNothing(t, s, 10)
	if r := topic(t, s, "stock").Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: rec}})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	for range 3 {
		sellNothing(t, s, 4000) // some 500,000 bytes of letters
	}
	trimNow(t, s)
	wantLetters(t, s, 12_011, 12_010, 0)
	stock(t, s, "dead_letters: { max_bytes: 1MiB }")
	trimNow(t, s)
	ids := wantLetters(t, s, 12_001, 12_010, 10)
	if !strings.HasSuffix(ids[0], " PARKED") {
		t.Errorf("the first is %s", ids[0])
	}
	if r := call(t, s, "Log.DropDeadLetters", `{"namespace":"stock"}`); r.field(t, "dropped") != "1" {
		t.Fatal(r)
	}
	if ids := letterIDs(t, s); len(ids) != 12_001 || !strings.HasSuffix(ids[12_000], " DROPPED") {
		t.Errorf("%d letters, the last is %s", len(ids), ids[len(ids)-1])
	}
	trimNow(t, s)
	if n := len(letterIDs(t, s)); n != 8001 && n != 4001 {
		t.Errorf("%d letters are left", n)
	}
}
