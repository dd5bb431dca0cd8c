package server

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// cassandraCluster is a real Cassandra with a keyspace of the test's own.
func cassandraCluster(t *testing.T) Cluster {
	t.Helper()
	at, keyspace := enginetest.Keyspace(t)
	return Cluster{Type: cassandraType, Hosts: []string{at}, Keyspace: keyspace, Replication: map[string]int{"datacenter1": 1}}
}

func onCassandra(t *testing.T) func(t *testing.T, dir string) *Server {
	c := cassandraCluster(t)
	return func(t *testing.T, dir string) *Server {
		t.Helper()
		return withCluster(t, dir, c)
	}
}

const shopOnCassandra = "namespace: shop\nabstraction: kv\nlog: {partitions: 2}\nstorage: [{role: PRIMARY, type: cassandra, cluster: main, dataset: 'sh''op; x'}]\n"

// TestEngineCassandraItems goes through every call, and through a restart.
func TestEngineCassandraItems(t *testing.T) {
	t.Parallel()
	open, dir := onCassandra(t), t.TempDir()
	s := open(t, dir)
	is(t, "make", applyDoc(t, s, shopOnCassandra))
	const odd = `a'; DROP TABLE kv_items_1; --`
	key := base64.StdEncoding.EncodeToString([]byte(`k'"; \x00`))
	for i := range 30 {
		is(t, "put", call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","items":[{"key":"YQ==","value":"%s"},{"key":"Yg==","value":"AAAA"}]}`, i, base64.StdEncoding.EncodeToString(fmt.Append(nil, i)))))
	}
	is(t, "an odd name", call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shop","id":%q,"items":[{"key":%q,"value":"AAAA","contentType":"x/y'"}]}`, odd, key)))
	is(t, "what ends", call(t, s, "KeyValue.PutItems", `{"namespace":"shop","id":"mortal","items":[{"key":"YQ==","value":"AAAA","ttl":"0.3s"},{"key":"Yg==","value":"AAAA","ttl":"3600s"}]}`))
	is(t, "delete an item", call(t, s, "KeyValue.DeleteItems", `{"namespace":"shop","id":"id1","predicate":{"matchKeys":{"keys":["YQ=="]}}}`))
	is(t, "delete a range", call(t, s, "KeyValue.DeleteItems", `{"namespace":"shop","id":"id2","predicate":{"matchRange":{"start":"Yg=="}}}`))
	is(t, "delete a record", call(t, s, "KeyValue.DeleteItems", `{"namespace":"shop","id":"id3","predicate":{"matchAll":{}}}`))
	absent := func(id, token string) string {
		return fmt.Sprintf(`{"namespace":"shop","id":"%s","items":[{"key":"YQ==","value":"Q0NDQw=="}],"condition":{"ifAbsent":true},"token":{"key":"%s"}}`, id, token)
	}
	is(t, "if absent, and it is", call(t, s, "KeyValue.PutItems", absent("id3", "t1")))
	refused(t, "if absent, and it is there", call(t, s, "KeyValue.PutItems", absent("id4", "t2")), http.StatusConflict, "HW-1202", "NOT_APPLIED")
	// A delete of a time that has yet to come hides what is written before it, and Cassandra does not say so.
	soon := time.Now().Add(5 * time.Second).UTC().Format(time.RFC3339Nano)
	is(t, "a delete from the future", call(t, s, "KeyValue.DeleteItems", fmt.Sprintf(`{"namespace":"shop","id":"ahead","predicate":{"matchAll":{}},"token":{"generationTime":%q,"key":"t3"}}`, soon)))
	is(t, "if absent, under it", call(t, s, "KeyValue.PutItems", absent("ahead", "t4")))
	for round := range 2 {
		is(t, "a copy of what held", call(t, s, "KeyValue.PutItems", absent("id3", "t1")), "result.duplicate", "YES")
		refused(t, "a copy of what did not", call(t, s, "KeyValue.PutItems", absent("id4", "t2")), http.StatusConflict, "HW-1202", "NOT_APPLIED")
		count := func(id string, want int) {
			t.Helper()
			r := call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":%q,"predicate":{"matchAll":{}}}`, id))
			if n := len(r.field(t, "items").([]any)); n != want {
				t.Errorf("round %d: %s has %d items, not %d: %s", round, id, n, want, r)
			}
		}
		count("id0", 2)
		count("id1", 1)
		count("id2", 1)
		count("id3", 1)
		count(odd, 1)
		count("ahead", 1)
		until(t, "what ended is gone", func() bool {
			r := call(t, s, "KeyValue.GetItems", `{"namespace":"shop","id":"mortal","predicate":{"matchAll":{}}}`)
			return len(r.field(t, "items").([]any)) == 1
		})
		expectBody(t, call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":%q,"predicate":{"matchKeys":{"keys":[%q]}},"consistency":"LATEST"}`, odd, key)), http.StatusOK, `"contentType":"x/y'"`)
		seen := 0
		for token := ""; ; {
			r := call(t, s, "KeyValue.ScanItems", fmt.Sprintf(`{"namespace":"shop","pageSizeBytes":1024,"pageToken":%q}`, token))
			is(t, "scan", r)
			for _, x := range r.field(t, "records").([]any) {
				seen += len(x.(map[string]any)["items"].([]any))
			}
			next, _ := r.field(t, "nextPageToken").(string)
			if token = next; token == "" {
				break
			}
		}
		if want := 30*2 + 1 + 1 + 1 - 3; seen != want {
			t.Errorf("round %d: a scan finds %d items, not %d", round, seen, want)
		}
		closeServer(t, s)
		s = open(t, dir)
		is(t, "all is applied", call(t, s, "KeyValue.GetItems", `{"namespace":"shop","id":"x","predicate":{"matchAll":{}},"consistency":"LATEST"}`))
	}
	expectBody(t, applyDoc(t, s, strings.Replace(shopOnCassandra, "shop", "other", 1)), http.StatusOK, `"namespace"`)
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: kv\nstorage: [{role: PRIMARY, type: cassandra, cluster: other}]\n"), http.StatusBadRequest, "no cluster \\\"other\\\"; it has main")
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: kv\nstorage: [{role: PRIMARY, type: cassandra}]\n"), http.StatusBadRequest, "cluster: is missing")
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: timeseries\nstorage: [{role: PRIMARY, type: cassandra, cluster: main}]\n"), http.StatusBadRequest, "type cassandra is not in this build")
}

// TestEngineCassandraShadowTakesOver moves a namespace from Pebble to Cassandra and back.
func TestEngineCassandraShadowTakesOver(t *testing.T) {
	t.Parallel()
	migrates(t, onCassandra(t), "shop", "type: cassandra, cluster: main", "dataset: 'it''s one'", func(s *Server) {
		is(t, "all is applied", call(t, s, "KeyValue.GetItems", `{"namespace":"shop","id":"x","predicate":{"matchAll":{}},"consistency":"LATEST"}`))
	})
}

// TestEngineCassandraAway: while Cassandra does not answer, also over a restart, writes are taken and other
// namespaces go on. When it is back, every write is there once.
func TestEngineCassandraAway(t *testing.T) {
	t.Parallel()
	c, dir := cassandraCluster(t), t.TempDir()
	way := newCuttable(t, c.Hosts[0])
	c.Hosts = []string{way.l.Addr().String()}
	s := withCluster(t, dir, c)
	is(t, "make", applyDoc(t, s, shopOnCassandra))
	written := 0
	write := func(s *Server) {
		t.Helper()
		for range 2 { // and a copy of it
			is(t, "write", call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","items":[{"key":"YQ==","value":"AAAA"}],"token":{"key":"k%d"}}`, written%5, written)))
		}
		written++
	}
	const read = `{"namespace":"shop","id":"id1","predicate":{"matchAll":{}},"consistency":"EVENTUAL"}`
	for range 10 {
		write(s)
	}
	expectBody(t, call(t, s, "KeyValue.GetItems", strings.Replace(read, "EVENTUAL", "LATEST", 1)), http.StatusOK, `"key":"YQ=="`)
	way.set(true)
	for range 20 {
		write(s)
	}
	refused(t, "read", call(t, s, "KeyValue.GetItems", read), http.StatusServiceUnavailable, "HW-1516", "")
	refused(t, "read of one's writes", call(t, s, "KeyValue.GetItems", strings.Replace(read, "EVENTUAL", "READ_YOUR_WRITES", 1)), http.StatusServiceUnavailable, "HW-1504", "")
	if r := send(t, s, "PUT", "/v1/kv/demo-kv/a/b", "1"); r.status != http.StatusNoContent {
		t.Errorf("another namespace: %s", r)
	}
	expectBody(t, send(t, s, "GET", "/v1/kv/demo-kv/a/b", ""), http.StatusOK, "1")
	closeServer(t, s)
	s = withCluster(t, dir, c)
	for range 20 {
		write(s)
	}
	way.set(false)
	for i := range 5 {
		until(t, "what was written is read", func() bool {
			r := call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","predicate":{"matchAll":{}},"consistency":"LATEST"}`, i))
			return r.status == http.StatusOK && strings.Contains(r.body, "AAAA")
		})
	}
	rows := func() (n int) {
		t.Helper()
		cfg := gocql.NewCluster(enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra"))
		cfg.Keyspace, cfg.Timeout = c.Keyspace, 30*time.Second
		db, err := cfg.CreateSession()
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, table := range []string{"kv_items_1", "kv_records_1"} {
			var k int
			if err := db.Query("SELECT count(*) FROM " + table).Scan(&k); err != nil {
				t.Fatal(err)
			}
			n += k
		}
		return n
	}
	if n := rows(); n != 10 {
		t.Errorf("%d rows of five items and five records", n)
	}
	is(t, "delete", call(t, s, "Namespace.DeleteNamespace", `{"namespace":"shop","confirm":"shop"}`))
	until(t, "its rows are gone", func() bool { return rows() == 0 })
}

// TestEngineCassandraCache turns a cache on and off under load, moves its PRIMARY away and back, and looks at
// what is told of it.
func TestEngineCassandraCache(t *testing.T) {
	t.Parallel()
	open, dir := onCassandra(t), t.TempDir()
	s := open(t, dir)
	const without = "namespace: shop\nabstraction: kv\nlog: {partitions: 2}\nstorage:\n  - {role: PRIMARY, type: cassandra, cluster: main}\n"
	const with = without + "  - {role: CACHE, type: pebble, ttl: 180s, max_bytes: 16MiB}\n"
	is(t, "make", applyDoc(t, s, with))
	n := 0
	read := func() {
		t.Helper()
		for i := range 5 {
			want := base64.StdEncoding.EncodeToString(fmt.Append(nil, n))
			is(t, "put", call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","items":[{"key":"YQ==","value":%q}]}`, i, want)))
			for range 3 {
				expectBody(t, call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","predicate":{"matchKeys":{"keys":["YQ=="]}}}`, i)), http.StatusOK, fmt.Sprintf(`"value":%q`, want))
				expectBody(t, call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","predicate":{"matchAll":{}},"consistency":"LATEST"}`, i)), http.StatusOK, fmt.Sprintf(`"value":%q`, want))
			}
			n++
		}
	}
	stats := func() (hits int64, on bool) {
		st, _ := spaceOf(t, s, "shop").s.spaces.cacheStats("shop")
		return st.Hits, st.On
	}
	read()
	hits, on := stats()
	if !on || hits < 20 {
		t.Errorf("on %v, %d hits of 30 reads", on, hits)
	}
	storeOf(t, s, "shop", "cache", "SERVING")
	for _, want := range []string{`headwater_cache_requests_total{namespace="shop",result="hit"}`, `headwater_cache_bytes{namespace="shop"}`, `headwater_cache_evicted_total{namespace="shop"} 0`} {
		if r := get(t, "http://"+inside(s).AdminAddr()+"/metrics"); !strings.Contains(r.body, want) {
			t.Errorf("a scrape has no %s", want)
		}
	}
	refused(t, "compare", call(t, s, "Admin.CompareStore", `{"namespace":"shop","store":"cache"}`), http.StatusNotImplemented, "HW-1107", "")
	refused(t, "promote", call(t, s, "Admin.PromoteStore", `{"namespace":"shop","store":"cache"}`), http.StatusNotImplemented, "HW-1107", "")
	closeServer(t, s)
	s = open(t, dir)
	read()
	is(t, "without", applyDoc(t, s, without))
	if _, on := stats(); on {
		t.Error("the cache is on after its document is without it")
	}
	read()
	is(t, "with", applyDoc(t, s, with))
	read()
	if h, on := stats(); !on || h < 20 {
		t.Errorf("on %v, %d hits of 30 reads", on, h)
	}
	is(t, "a SHADOW", applyDoc(t, s, with+"  - {role: SHADOW, type: pebble, name: here}\n"))
	equal(t, storeOf(t, s, "shop", "here", "COMPARING"))
	is(t, "promote", call(t, s, "Admin.PromoteStore", `{"namespace":"shop","store":"here"}`))
	read()
	is(t, "roll back", call(t, s, "Admin.RollbackStore", `{"namespace":"shop","store":"primary"}`))
	read()
	if h, on := stats(); !on || h < 20 {
		t.Errorf("after a roll back: on %v, %d hits of 30 reads", on, h)
	}
	is(t, "drop", call(t, s, "Admin.DropStore", `{"namespace":"shop","store":"cache","confirm":"cache"}`))
	until(t, "the cache is off after it was dropped", func() bool { _, on := stats(); return !on }) // what is answered is in the registry
	read()
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: kv\nstorage: [{role: PRIMARY, type: pebble}, {role: CACHE, type: pebble}]\n"), http.StatusBadRequest, "a cache is of a store on another server")
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: kv\nstorage: [{role: PRIMARY, type: cassandra, cluster: main}, {role: CACHE, type: cassandra, cluster: main}]\n"), http.StatusBadRequest, "a cache is on the machine itself")
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: kv\nstorage: [{role: PRIMARY, type: cassandra, cluster: main, max_bytes: 1GiB}]\n"), http.StatusBadRequest, "belongs to role CACHE")
}

// TestEngineCassandraWithoutOwner: while the worker is away, a gateway answers reads that ask for no position
// from Cassandra, and no others.
func TestEngineCassandraWithoutOwner(t *testing.T) {
	t.Parallel()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := &split{brokers: k.ListenAddrs(), prefix: newPrefix(), dir: t.TempDir(), clusters: map[string]Cluster{"main": cassandraCluster(t)}}
	main := c.clusters["main"]
	made, err := main.Connect("main", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(made.ApplySchema(t.Context()), made.Close()); err != nil {
		t.Fatal(err)
	}
	c.worker, c.gateway = c.open(t, Worker, c.dir), c.open(t, Gateway, "")
	t.Cleanup(func() {
		for _, s := range []*Server{c.gateway, c.worker} {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	is(t, "make", applyDoc(t, c.gateway, shopOnCassandra))
	owned(t, c.gateway)
	for i := range 5 {
		is(t, "put", call(t, c.gateway, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","items":[{"key":"YQ==","value":"AAAA"}]}`, i)))
	}
	read := func(i int, consistency string) reply {
		t.Helper()
		return call(t, c.gateway, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","predicate":{"matchAll":{}},"consistency":"%s"}`, i, consistency))
	}
	for i := range 5 {
		expectBody(t, read(i, "LATEST"), http.StatusOK, "AAAA")
	}
	until(t, "the registry knows the rows", func() bool {
		e, ok := c.gateway.names.Get("shop")
		if !ok {
			return false
		}
		l, ok := e.Store("primary")
		return ok && l.Rows != nil
	})
	if err := c.worker.Close(); err != nil {
		t.Fatal(err)
	}
	is(t, "put", call(t, c.gateway, "KeyValue.PutItems", `{"namespace":"shop","id":"id0","items":[{"key":"Yg==","value":"AAAA"}]}`))
	for i := range 5 {
		expectBody(t, read(i, "EVENTUAL"), http.StatusOK, `"key":"YQ=="`)
	}
	expectBody(t, call(t, c.gateway, "KeyValue.GetItems", `{"namespace":"shop","id":"none","predicate":{"matchKeys":{"keys":["YQ=="]}},"consistency":"EVENTUAL"}`), http.StatusOK, `"items":[]`)
	refused(t, "read of one's writes", read(0, "READ_YOUR_WRITES"), http.StatusServiceUnavailable, "HW-1517", "")
	refused(t, "the latest", read(0, "LATEST"), http.StatusServiceUnavailable, "HW-1517", "")
	c.worker = c.open(t, Worker, c.dir)
	until(t, "the worker is back", func() bool { return read(0, "LATEST").status == http.StatusOK })
	expectBody(t, read(0, "EVENTUAL"), http.StatusOK, `"key":"Yg=="`)
}
