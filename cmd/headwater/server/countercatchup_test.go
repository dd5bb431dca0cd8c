package server

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestACountThatCatchesUpSaysSo deletes the stores under a log of many adds and
// reads while they are rebuilt: an answer that says that nothing is pending must
// be whole.
func TestACountThatCatchesUpSaysSo(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	calls, perCall := 100, 10_000
	if testing.Short() {
		calls, perCall = 60, 2_000
	}
	adds := strings.Repeat(`{"counter":"x","delta":1},`, perCall)
	body := `"adds":[` + adds[:len(adds)-1] + `]`
	for range calls {
		is(t, "adds", onCounter(t, s, "AddCounts", body), "result.durability", "SYNC")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "stores")); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{DataDir: dir, Demo: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	behind := 0
	for deadline := time.Now().Add(2 * time.Minute); ; {
		r := onCounter(t, s, "GetCount", `"counter":"x"`)
		if r.status != http.StatusOK {
			t.Fatal(r)
		}
		value, err := strconv.Atoi(fmt.Sprint(r.field(t, "count.value")))
		if err != nil || value > calls*perCall {
			t.Fatalf("value of %s: %v", r, err)
		}
		if value == calls*perCall {
			break
		}
		behind++
		if r.field(t, "count.pending") == "0" {
			t.Fatalf("%d of %d, and nothing is pending: %s", value, calls*perCall, r)
		}
		if time.Now().After(deadline) {
			t.Fatalf("still at %s", r)
		}
	}
	t.Logf("%d answers were behind, and said so", behind)
	is(t, "accurate", onCounter(t, s, "GetCount", `"counter":"x","accuracy":"ACCURATE"`), "count.value", strconv.Itoa(calls*perCall), "count.pending", "0")
}
