package server

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/retention"
	"github.com/headwater-db/headwater/wal"
)

// appendCopies appends to a log namespace what other gateways might have: a copy of
// the message of a key, another message under its token, and one whose token is long
// out of the window.
func appendCopies(t *testing.T, s *Server, name, key string) {
	t.Helper()
	log := topic(t, s, name)
	p := wal.PartitionOf([]byte(key), log.Info().Partitions)
	err := wal.ReadOne(t.Context(), log, p, 0, func(first *wal.Entry) error {
		var rec wal.Record
		if err := wal.DecodeRecord(first.Data, &rec); err != nil {
			return err
		}
		again := wal.AppendRecord(nil, &rec)
		rec.Payload, rec.RequestHash = []byte("another"), wal.Hash{1, 2}
		conflict := wal.AppendRecord(nil, &rec)
		rec.Token = wal.Token{GenerationTime: time.Now().Add(-time.Hour).UnixMicro(), Nonce: wal.Nonce{9}}
		for _, data := range [][]byte{again, conflict, wal.AppendRecord(nil, &rec)} {
			if r := log.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: data}})[0]; r.Err != nil {
				return r.Err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestACopyOfAMessageIsNeverRead: neither at once nor after restarts, and what
// another message's token came with is a dead letter.
func TestACopyOfAMessageIsNeverRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	const token = "order-7"
	write := func() reply {
		return send(t, s, "POST", "/v1/log/demo-log/k", "once", "Idempotency-Key", token)
	}
	first := write()
	is(t, "first", first, "durable", "SUCCEEDED", "result.duplicate", "NO")
	appendCopies(t, s, "demo-log", "k")
	send(t, s, "POST", "/v1/log/demo-log/k", "later")
	for range 2 {
		r := send(t, s, "GET", "/v1/log/demo-log?from=earliest", "")
		if lines := r.lines(); len(lines) != 2 || !strings.Contains(lines[0], b64([]byte("once"))) || !strings.Contains(lines[1], b64([]byte("later"))) {
			t.Errorf("the log reads %s", r)
		}
		var reasons []string
		for _, l := range call(t, s, "Log.ListDeadLetters", `{"namespace":"demo-log"}`).field(t, "deadLetters").([]any) {
			reasons = append(reasons, l.(map[string]any)["reason"].(string))
		}
		if slices.Sort(reasons); !slices.Equal(reasons, []string{"token_conflict", "too_old"}) {
			t.Errorf("dead letters: %v", reasons)
		}
		copied := write()
		is(t, "a copy", copied, "durable", "SUCCEEDED", "result.duplicate", "YES")
		if got, want := copied.field(t, "result.position"), first.field(t, "result.position"); got != want {
			t.Errorf("a copy is at %v, the first at %v", got, want)
		}
		expectBody(t, send(t, s, "POST", "/v1/log/demo-log/k", "other", "Idempotency-Key", token), http.StatusConflict, "HW-1201")
		closeServer(t, s)
		s = open(t, dir)
	}
	closeServer(t, s)
}

// TestTheStoreOfALogGoesOnWhereTheLogBegins: a store that is lost, or older than what
// was trimmed, lacks nothing that a namespace needs.
func TestTheStoreOfALogGoesOnWhereTheLogBegins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", `{"config":"namespace: short\nabstraction: log\nlog: {partitions: 1, retention: 0s}\n"}`), http.StatusOK, "")
	write := func(payload string) {
		t.Helper()
		is(t, payload, send(t, s, "POST", "/v1/log/short/k", payload, "Idempotency-Key", payload), "durable", "SUCCEEDED")
	}
	write("first")
	e, _ := s.names.Get("short")
	stores := filepath.Join(dir, "stores", e.Incarnation.String())
	closeServer(t, s)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(stores)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	write("second")
	x := spaceOf(t, s, "short")
	b, err := x.log.Bounds(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.progress.Wait(t.Context(), 0, b.End-1); err != nil { // a write is answered before it is applied
		t.Fatal(err)
	}
	if err := x.trimTo(t.Context(), 0, b, retention.Floor{Durable: int64(b.End), Parked: retention.Unparked}, 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	write("third")
	for _, what := range []string{"an old store", "no store"} {
		closeServer(t, s)
		err := os.RemoveAll(stores)
		if what == "an old store" {
			err = errors.Join(err, os.CopyFS(stores, os.DirFS(old)))
		}
		if err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		r := send(t, s, "GET", "/v1/log/short?from=earliest", "")
		if lines := r.lines(); len(lines) != 1 || !strings.Contains(lines[0], b64([]byte("third"))) {
			t.Errorf("with %s the log reads %s", what, r)
		}
		is(t, "a copy with "+what, send(t, s, "POST", "/v1/log/short/k", "third", "Idempotency-Key", "third"), "result.duplicate", "YES")
	}
	closeServer(t, s)
}
