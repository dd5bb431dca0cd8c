package server

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// upload stages a value in chunks, last chunk first, and commits it.
func upload(t *testing.T, s *Server, key, compression string, value []byte, commit string) reply {
	t.Helper()
	begun := call(t, s, "KeyValue.BeginUpload", fmt.Sprintf(`{"namespace":"demo-kv","id":"big","key":%q,"size":"%d","compression":%q,"contentType":"image/png"}`, b64([]byte(key)), len(value), compression))
	if begun.status != 200 {
		t.Fatal(begun)
	}
	id := begun.field(t, "uploadId").(string)
	const chunk = 256 << 10
	n := (len(value) + chunk - 1) / chunk
	for i := n - 1; i >= 0; i-- {
		part := value[i*chunk : min(len(value), (i+1)*chunk)]
		r := call(t, s, "KeyValue.UploadChunk", fmt.Sprintf(`{"namespace":"demo-kv","uploadId":%q,"index":%d,"data":%q}`, id, i, b64(part)))
		if r.status != 200 {
			t.Fatal(r)
		}
	}
	sum := sha256.Sum256(value)
	return call(t, s, "KeyValue.CommitUpload", fmt.Sprintf(`{"namespace":"demo-kv","uploadId":%q,"chunks":%d,"size":"%d","sha256":%q%s}`, id, n, len(value), b64(sum[:]), commit))
}

func TestLargeValuesAppearWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	value := make([]byte, 5<<20+12345)
	if _, err := rand.Read(value); err != nil {
		t.Fatal(err)
	}
	if r := upload(t, s, "photo", "", value, ""); r.status != 200 {
		t.Fatal(r)
	}
	read := func(s *Server) {
		t.Helper()
		r := send(t, s, "GET", "/v1/kv/demo-kv/big/photo", "")
		if r.status != 200 || sha256.Sum256([]byte(r.body)) != sha256.Sum256(bytes.TrimSpace(value)) || r.header.Get("Content-Type") != "image/png" {
			t.Errorf("read %d bytes, status %d, type %q", len(r.body), r.status, r.header.Get("Content-Type"))
		}
		head := call(t, s, "KeyValue.GetItem", `{"namespace":"demo-kv","id":"big","key":"`+b64([]byte("photo"))+`"}`)
		head.body, _, _ = strings.Cut(head.body, "\n")
		if sum := sha256.Sum256(value); head.field(t, "header.sha256") != b64(sum[:]) {
			t.Errorf("the header has another checksum: %s", head)
		}
		item := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"big"}`).field(t, "items").([]any)[0].(map[string]any)
		if item["chunked"] != true || item["value"] != "" || item["size"] != fmt.Sprint(len(value)) {
			t.Errorf("a value over 4 MiB comes back as its size: %.200v", item)
		}
	}
	read(s)
	// A commit that states another size or checksum has no effect.
	before := send(t, s, "GET", "/v1/kv/demo-kv/big/photo", "").header.Get("ETag")
	bad := append([]byte{}, value[:1<<20]...)
	r := call(t, s, "KeyValue.BeginUpload", `{"namespace":"demo-kv","id":"big","key":"`+b64([]byte("photo"))+`","size":"1048576"}`)
	id := r.field(t, "uploadId").(string)
	if r := call(t, s, "KeyValue.UploadChunk", fmt.Sprintf(`{"namespace":"demo-kv","uploadId":%q,"index":0,"data":%q}`, id, b64(bad))); r.status != 200 {
		t.Fatal(r)
	}
	sum := sha256.Sum256([]byte("something else"))
	if r := call(t, s, "KeyValue.CommitUpload", fmt.Sprintf(`{"namespace":"demo-kv","uploadId":%q,"chunks":1,"size":"1048576","sha256":%q}`, id, b64(sum[:]))); r.status != 400 || r.field(t, "reason") != "HW-1206" || r.field(t, "outcome") != "NOT_APPLIED" {
		t.Errorf("commit with a false checksum: %s", r)
	}
	if got := send(t, s, "GET", "/v1/kv/demo-kv/big/photo", "").header.Get("ETag"); got != before {
		t.Errorf("a broken upload changed the item")
	}
	if r := call(t, s, "KeyValue.AbortUpload", fmt.Sprintf(`{"namespace":"demo-kv","uploadId":%q}`, id)); r.status != 200 {
		t.Errorf("abort: %s", r)
	}
	if r := call(t, s, "KeyValue.CommitUpload", fmt.Sprintf(`{"namespace":"demo-kv","uploadId":%q,"chunks":1,"size":"1048576","sha256":%q}`, id, b64(sum[:]))); r.status == 200 {
		t.Errorf("commit after abort: %s", r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	read(start(t, dir))
}

// TestCompressionIsTheClients: what a client compressed is kept as it is and
// undone for who cannot.
func TestCompressionIsTheClients(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	plain := bytes.Repeat([]byte("all work and no play "), 200_000) // 4.2 MB
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := enc.EncodeAll(plain[:100_000], nil)
	if r := call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"demo-kv","id":"z","items":[{"key":"","value":%q,"compression":"zstd"}]}`, b64(packed))); r.status != 200 {
		t.Fatal(r)
	}
	get := func(accept string) (value []byte, compression string) {
		r := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"z"`+accept+`}`)
		item := r.field(t, "items").([]any)[0].(map[string]any)
		v, err := base64.StdEncoding.DecodeString(item["value"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return v, item["compression"].(string)
	}
	if v, c := get(`,"acceptCompression":["zstd"]`); !bytes.Equal(v, packed) || c != "zstd" {
		t.Errorf("accepted: %d bytes, %q", len(v), c)
	}
	if v, c := get(""); !bytes.Equal(v, plain[:100_000]) || c != "" {
		t.Errorf("undone: %d bytes, %q", len(v), c)
	}
	// An upload, streamed through the same.
	packed = enc.EncodeAll(plain, nil)
	if r := upload(t, s, "zz", "zstd", packed, ""); r.status != 200 {
		t.Fatal(r)
	}
	if r := send(t, s, "GET", "/v1/kv/demo-kv/big/zz", ""); r.status != 200 || r.body != string(bytes.TrimSpace(plain)) {
		t.Errorf("uploaded and undone: %d bytes, status %d", len(r.body), r.status)
	}
}

func TestNamespacesAreLiveAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	apply := func(doc string) reply {
		b, err := json.Marshal(map[string]string{"config": doc})
		if err != nil {
			t.Fatal(err)
		}
		return call(t, s, "Namespace.ApplyNamespace", string(b))
	}
	if r := apply("namespace: plays\nabstraction: kv\nkv: {order: descending, default_ttl: 1h}\n"); r.status != 200 {
		t.Fatal(r)
	}
	for _, k := range []string{"a", "b", "c"} {
		if r := send(t, s, "PUT", "/v1/kv/plays/r/"+k, k); r.status != http.StatusNoContent {
			t.Fatal(r)
		}
	}
	items := call(t, s, "KeyValue.GetItems", `{"namespace":"plays","id":"r"}`).field(t, "items").([]any)
	if len(items) != 3 || items[0].(map[string]any)["key"] != b64([]byte("c")) || items[0].(map[string]any)["expiresAt"] == nil {
		t.Errorf("descending, with the default ttl: %v", items)
	}
	if r := apply("namespace: plays\nabstraction: kv\nkv: {order: descending, default_ttl: 1h}\nlimits: {max_value: 10}\n"); r.status != 200 {
		t.Fatal(r)
	}
	if r := send(t, s, "PUT", "/v1/kv/plays/r/d", "eleven bytes"); r.status != 400 {
		t.Errorf("a limit is in force when its change is answered: %s", r)
	}
	if r := call(t, s, "Namespace.DeleteNamespace", `{"namespace":"plays","confirm":"plays"}`); r.status != 200 {
		t.Fatal(r)
	}
	if r := send(t, s, "GET", "/v1/kv/plays/r/a", ""); r.status != 404 || r.field(t, "reason") != "HW-1101" {
		t.Errorf("after the delete: %s", r)
	}
	if r := apply("namespace: plays\nabstraction: kv\n"); r.status != 200 {
		t.Fatal(r)
	}
	if r := send(t, s, "GET", "/v1/kv/plays/r/a", ""); r.status != 404 || r.field(t, "reason") != "HW-1103" {
		t.Errorf("a new life is empty: %s", r)
	}
	if r := send(t, s, "PUT", "/v1/kv/plays/r/a", "new"); r.status != http.StatusNoContent {
		t.Fatal(r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r := send(t, start(t, dir), "GET", "/v1/kv/plays/r/a", ""); r.body != "new" {
		t.Errorf("after a restart: %s", r)
	}
}

// TestScanShardsSplitTheNamespace: every record is seen by exactly one shard,
// whether there are fewer shards than partitions or more.
func TestScanShardsSplitTheNamespace(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	const records = 60
	for i := range records {
		if r := send(t, s, "PUT", fmt.Sprintf("/v1/kv/demo-kv/rec-%d/k", i), strings.Repeat("v", 300)); r.status != http.StatusNoContent {
			t.Fatal(r)
		}
	}
	for _, of := range []int{1, 2, 3, 4, 7, 13} {
		seen := map[string]int{}
		for index := range of {
			token := ""
			for page := 0; page == 0 || token != ""; page++ {
				r := call(t, s, "KeyValue.ScanItems", fmt.Sprintf(`{"namespace":"demo-kv","pageSizeBytes":2048,"shard":{"index":%d,"of":%d},"pageToken":%q}`, index, of, token))
				if r.status != 200 || page > 200 {
					t.Fatal(r)
				}
				size := 0
				for _, x := range r.field(t, "records").([]any) {
					m := x.(map[string]any)
					seen[m["id"].(string)]++
					size += 400 * len(m["items"].([]any))
				}
				if size > 2048 {
					t.Errorf("a page of about %d bytes", size)
				}
				token = r.field(t, "nextPageToken").(string)
			}
		}
		if len(seen) != records {
			t.Errorf("of %d: %d records, want %d", of, len(seen), records)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("of %d: %s was seen %d times", of, id, n)
			}
		}
	}
}

func TestLogNamespace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	write := func(s *Server, key, payload, token string) reply {
		return call(t, s, "Log.WriteToLog", fmt.Sprintf(`{"namespace":"demo-log","key":%q,"payload":%q,"token":{"key":%q}}`, key, b64([]byte(payload)), token))
	}
	one := write(s, "k", "one", "t1")
	if one.field(t, "durable") != "SUCCEEDED" {
		t.Fatal(one)
	}
	again := write(s, "k", "one", "t1")
	if again.field(t, "result.duplicate") != "YES" || again.field(t, "result.position") != one.field(t, "result.position") {
		t.Errorf("a resend gets the first answer: %s", again)
	}
	if r := write(s, "k", "another", "t1"); r.status != 409 || r.field(t, "reason") != "HW-1201" {
		t.Errorf("another message under the token: %s", r)
	}
	write(s, "k", "two", "t2")
	write(s, "other", "three", "t3")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	if r := write(s, "k", "one", "t1"); r.field(t, "result.duplicate") != "YES" || r.field(t, "result.position") != one.field(t, "result.position") {
		t.Errorf("a resend after a restart: %s", r)
	}
	payloads := func(body string) (out []string) {
		sc := bufio.NewScanner(strings.NewReader(body))
		for sc.Scan() {
			var m struct{ Payload []byte }
			if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
				t.Fatalf("%v: %s", err, sc.Text())
			}
			out = append(out, string(m.Payload))
		}
		return out
	}
	r := call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"earliest":{}},"filter":{"key":"k"}}`)
	if got := payloads(r.body); fmt.Sprint(got) != "[one two]" {
		t.Errorf("filter by key, in order: %v", got)
	}
	r = call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"position":"`+one.field(t, "result.position").(string)+`"},"filter":{"key":"k"}}`)
	if got := payloads(r.body); fmt.Sprint(got) != "[two]" {
		t.Errorf("from a position: what follows it: %v", got)
	}
	// The position of the n-th message goes on behind it, in every partition.
	all := call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"earliest":{}}}`)
	seen := payloads(all.body)
	for n, line := range strings.Split(all.body, "\n") {
		var m struct{ Position string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		rest := payloads(call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"position":"`+m.Position+`"}}`).body)
		if len(rest) != len(seen)-n-1 {
			t.Errorf("behind message %d: %v, of %v", n, rest, seen)
		}
	}
	r = call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"latest":{}}}`)
	if got := payloads(r.body); len(got) != 0 {
		t.Errorf("from latest: %v", got)
	}
	r = call(t, s, "Log.ReadLog", `{"namespace":"demo-log","from":{"time":"2001-01-01T00:00:00Z"}}`)
	if got := payloads(r.body); len(got) != 3 {
		t.Errorf("from a time before all: %v", got)
	}
}

// TestDuplicateAnswersAreTheFirstOnes also with a ttl, a condition that failed, and
// after a restart.
func TestDuplicateAnswersAreTheFirstOnes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	bodies := map[string]string{
		"ttl":       `{"namespace":"demo-kv","id":"d","items":[{"key":"dA==","value":"dg==","ttl":"3600s"}],"token":{"key":"ttl"}}`,
		"condition": `{"namespace":"demo-kv","id":"d","items":[{"key":"Yw==","value":"dg=="}],"condition":{"ifAbsent":true},"token":{"key":"condition"}}`,
		"failed":    `{"namespace":"demo-kv","id":"d","items":[{"key":"Yw==","value":"eA=="}],"condition":{"ifAbsent":true},"token":{"key":"failed"}}`,
	}
	first := map[string]reply{}
	for _, name := range []string{"ttl", "condition", "failed"} {
		first[name] = call(t, s, "KeyValue.PutItems", bodies[name])
	}
	check := func(s *Server) {
		t.Helper()
		for name, body := range bodies {
			r := call(t, s, "KeyValue.PutItems", body)
			if r.status != first[name].status {
				t.Errorf("%s: %s, first %s", name, r, first[name])
				continue
			}
			if r.status == 200 {
				if fmt.Sprint(r.field(t, "versions")) != fmt.Sprint(first[name].field(t, "versions")) || r.field(t, "result.duplicate") != "YES" ||
					r.field(t, "result.position") != first[name].field(t, "result.position") {
					t.Errorf("%s: %s, first %s", name, r, first[name])
				}
				continue
			}
			if fmt.Sprint(r.field(t, "metadata")) != fmt.Sprint(first[name].field(t, "metadata")) || r.field(t, "reason") != "HW-1202" {
				t.Errorf("%s: %s, first %s", name, r, first[name])
			}
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(start(t, dir))
}

func TestGroupsAreOneAfterTheOtherAndSeenAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for _, k := range []string{"a", "b", "c"} {
		send(t, s, "PUT", "/v1/kv/demo-kv/g/"+k, "old")
	}
	put := func(k, v string) string {
		return fmt.Sprintf(`{"put":{"namespace":"demo-kv","id":"g","items":[{"key":%q,"value":%q}]}}`, b64([]byte(k)), b64([]byte(v)))
	}
	r := call(t, s, "KeyValue.MutateItems", `{"mutations":[`+put("x", "gone")+`,{"delete":{"namespace":"demo-kv","id":"g","predicate":{"matchAll":{}}}},`+put("a", "new")+`]}`)
	if r.status != 200 {
		t.Fatal(r)
	}
	items := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"g"}`).field(t, "items").([]any)
	if len(items) != 1 || items[0].(map[string]any)["value"] != b64([]byte("new")) {
		t.Errorf("got %v, want a=new alone", items)
	}
}
