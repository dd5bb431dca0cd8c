package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/wal"
)

// spread is a cluster of one gateway and several workers, whose namespaces are on a real Cassandra.
type spread struct {
	*split
	workers []*Server // nil of one that was closed
}

func newSpread(t *testing.T) *spread {
	t.Helper()
	return newSpreadOn(t, cassandraCluster(t))
}

func newSpreadOn(t *testing.T, main Cluster) *spread {
	t.Helper()
	t.TempDir() // the first one: directories of the test are removed after the workers on them are closed
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	made, err := main.Connect("main", false, nil)
	if err == nil {
		err = errors.Join(made.ApplySchema(t.Context()), made.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &spread{split: &split{brokers: k.ListenAddrs(), prefix: newPrefix(), clusters: map[string]Cluster{"main": main}}}
	c.gateway = c.open(t, Gateway, "")
	t.Cleanup(func() {
		closeServer(t, c.gateway)
		for i := range c.workers {
			c.stop(t, i, (*Server).Close)
		}
		k.Close()
	})
	return c
}

// add starts a worker on a directory and returns its number.
func (c *spread) add(t *testing.T, dir string) int {
	t.Helper()
	c.workers = append(c.workers, c.open(t, Worker, dir))
	return len(c.workers) - 1
}

func (c *spread) stop(t *testing.T, i int, how func(*Server) error) {
	t.Helper()
	s := c.workers[i]
	c.workers[i] = nil
	if s == nil {
		return
	}
	if err := how(s); err != nil {
		t.Errorf("close worker %d: %v", i, err)
	}
}

func (c *spread) drain(t *testing.T) func(*Server) error {
	return func(s *Server) error { return s.Drain(t.Context()) }
}

// held is how many partitions of a namespace each worker applies.
func (c *spread) held(name string) []int {
	out := make([]int, len(c.workers))
	for i, s := range c.workers {
		if s == nil {
			continue
		}
		s.spaces.mu.Lock()
		x := s.spaces.open[name]
		s.spaces.mu.Unlock()
		if x == nil || x.holding == nil {
			continue
		}
		for p := range wal.Partition(len(x.holding.parts)) {
			if x.serves(p) != nil {
				out[i]++
			}
		}
	}
	return out
}

// shares waits until the workers apply so many partitions each. None of them has stopped.
func (c *spread) shares(t *testing.T, name string, want ...int) {
	t.Helper()
	until(t, fmt.Sprintf("the workers share %v", want), func() bool {
		got := c.held(name)
		for i := range want {
			if want[i] != got[i] {
				return false
			}
		}
		return true
	})
	for i, s := range c.workers {
		if s == nil {
			continue
		}
		x := spaceOf(t, s, name)
		if state, reason := x.storeState(); state != "running" {
			t.Errorf("worker %d is %s: %s", i, state, reason)
		}
	}
}

// TestEngineCassandraPartitionsMove: workers come and go, planned and not, one with an old ledger and one with none,
// while callers write. Each conditional put has one effect and one answer, also of its copies.
func TestEngineCassandraPartitionsMove(t *testing.T) {
	t.Parallel()
	c := newSpread(t)
	s, old := c.gateway, t.TempDir()
	c.add(t, old)
	is(t, "make", applyDoc(t, s, "namespace: shop\nabstraction: kv\nlog: {partitions: 4}\nstorage:\n  - {role: PRIMARY, type: cassandra, cluster: main}\n  - {role: CACHE, type: pebble}\n"))
	c.shares(t, "shop", 4)
	stop := make(chan struct{})
	var work sync.WaitGroup
	const callers = 4
	counts := make([]int, callers)
	for i := range callers {
		work.Go(func() {
			version := ""
			for n := 0; ; n++ {
				select {
				case <-stop:
					counts[i] = n
					return
				default:
				}
				version = c.count(t, fmt.Sprintf("id%d", i), n, version)
				if t.Failed() {
					return
				}
			}
		})
	}
	pause := func() { <-time.After(300 * time.Millisecond) }
	pause()
	c.add(t, t.TempDir())
	c.shares(t, "shop", 2, 2)
	pause()
	c.told(t, "shop", 4)
	c.stop(t, 0, c.drain(t))
	c.shares(t, "shop", 0, 4)
	pause()
	c.add(t, old)
	c.shares(t, "shop", 0, 2, 2)
	pause()
	c.stop(t, 1, (*Server).Close)
	c.shares(t, "shop", 0, 0, 4)
	pause()
	c.add(t, t.TempDir())
	c.shares(t, "shop", 0, 0, 2, 2)
	pause()
	c.shares(t, "shop", 0, 0, 2, 2)
	close(stop)
	work.Wait()
	for i, n := range counts {
		want := base64.StdEncoding.EncodeToString(fmt.Append(nil, n-1))
		expectBody(t, call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","predicate":{"matchAll":{}},"consistency":"LATEST"}`, i)), http.StatusOK, fmt.Sprintf("%q", want))
	}
	t.Logf("%v writes", counts)
}

// told waits until the status that the gateway gives of a namespace has each partition as its owner knows it.
func (c *spread) told(t *testing.T, name string, partitions int) {
	t.Helper()
	until(t, "the status tells how far each partition is applied", func() bool {
		var told struct {
			Namespaces []struct {
				Partitions []struct {
					Owner, Appended string
					Applied         map[string]string
				}
			}
		}
		r := call(t, c.gateway, "Admin.Status", fmt.Sprintf(`{"namespace":%q}`, name))
		if err := json.Unmarshal([]byte(r.body), &told); err != nil || len(told.Namespaces) != 1 || len(told.Namespaces[0].Partitions) != partitions {
			t.Fatalf("%v: %s", err, r)
		}
		owners := make(map[string]bool)
		for _, p := range told.Namespaces[0].Partitions {
			if p.Appended != "-1" && p.Applied["PRIMARY"] == "-1" {
				return false
			}
			owners[p.Owner] = true
		}
		return len(owners) == 2
	})
}

// count replaces the number n-1 of a record by n, if it is of a version, and sends that once more. It returns n's
// version.
func (c *spread) count(t *testing.T, id string, n int, version string) string {
	t.Helper()
	condition := `{"ifAbsent":true}`
	if version != "" {
		condition = fmt.Sprintf(`{"ifVersion":%q}`, version)
	}
	body := fmt.Sprintf(`{"namespace":"shop","id":%q,"token":{"key":"%s-%d"},"items":[{"key":"YQ==","value":%q}],"condition":%s}`,
		id, id, n, base64.StdEncoding.EncodeToString(fmt.Append(nil, n)), condition)
	var versions []string
	for deadline := time.Now().Add(30 * time.Second); len(versions) < 2; {
		r := call(t, c.gateway, "KeyValue.PutItems", body)
		switch {
		case r.status == http.StatusOK:
			versions = append(versions, fmt.Sprint(r.field(t, "versions")))
		case r.status == http.StatusServiceUnavailable && time.Now().Before(deadline):
			<-time.After(20 * time.Millisecond)
		default:
			t.Errorf("%s: %d: %d %s", id, n, r.status, r.body)
			return ""
		}
	}
	if versions[0] != versions[1] {
		t.Errorf("%s: %d has the versions %v", id, n, versions)
	}
	return strings.Trim(versions[0], "[]")
}

// TestEngineCassandraSpreadAndHome: a namespace that is spread gets a home with its first SHADOW, is promoted to Pebble and
// rolled back there, and is spread again when its home is released, with all that was written meanwhile.
func TestEngineCassandraSpreadAndHome(t *testing.T) {
	t.Parallel()
	c := newSpread(t)
	s := c.gateway
	c.add(t, t.TempDir())
	c.add(t, t.TempDir())
	const spread = "namespace: shop\nabstraction: kv\nlog: {partitions: 4}\nstorage:\n  - {role: PRIMARY, type: cassandra, cluster: main}\n"
	is(t, "make", applyDoc(t, s, spread))
	c.shares(t, "shop", 2, 2)
	versions, n := make([]string, 6), 0
	write := func() {
		t.Helper()
		for i := range versions {
			versions[i] = c.count(t, fmt.Sprintf("id%d", i), n, versions[i])
		}
		n++
	}
	write()
	refused(t, "release", call(t, s, "Admin.ReleaseNamespace", `{"namespace":"shop","confirm":"shop"}`), http.StatusBadRequest, "HW-1212", "")
	is(t, "a SHADOW", applyDoc(t, s, spread+"  - {role: SHADOW, type: pebble, name: here}\n"))
	home := 0
	until(t, "one worker applies all partitions", func() bool {
		got := c.held("shop")
		home = slices.Index(got, 4)
		return home >= 0
	})
	write()
	equal(t, storeOf(t, s, "shop", "here", "COMPARING"))
	is(t, "promote", call(t, s, "Admin.PromoteStore", `{"namespace":"shop","store":"here"}`))
	write()
	is(t, "roll back", call(t, s, "Admin.RollbackStore", `{"namespace":"shop","store":"primary"}`))
	write()
	is(t, "drop", call(t, s, "Admin.DropStore", `{"namespace":"shop","store":"here","confirm":"here"}`))
	write()
	is(t, "release", call(t, s, "Admin.ReleaseNamespace", `{"namespace":"shop","confirm":"shop"}`))
	c.shares(t, "shop", 2, 2)
	write()
	c.stop(t, home, (*Server).Close)
	want := []int{4, 4}
	want[home] = 0
	c.shares(t, "shop", want...)
	write()
}

// TestEngineCassandraTakenFromATrimmedLog: a worker without a ledger takes partitions over of which the log and the
// decisions topic have the end alone: what is parked there, an upload that has begun, versions above what was deleted, and
// what was written.
func TestEngineCassandraTakenFromATrimmedLog(t *testing.T) {
	t.Parallel()
	c := newSpread(t)
	s := c.gateway
	c.add(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: shop\nabstraction: kv\nlog: {partitions: 1}\nstorage:\n  - {role: PRIMARY, type: cassandra, cluster: main}\n"))
	c.shares(t, "shop", 1)
	versions := make([]string, 3)
	write := func(n int) {
		t.Helper()
		for i := range versions {
			versions[i] = c.count(t, fmt.Sprintf("id%d", i), n, versions[i])
		}
	}
	for n := range 100 {
		write(n)
	}
	value := bytes.Repeat([]byte("large."), 200_000)
	sum := sha256.Sum256(value)
	half := len(value) / 2
	begun := call(t, s, "KeyValue.BeginUpload", fmt.Sprintf(`{"namespace":"shop","id":"large","key":"aw==","size":"%d"}`, len(value)))
	id := begun.field(t, "uploadId").(string)
	chunk := func(i int, part []byte) {
		t.Helper()
		is(t, "chunk", call(t, s, "KeyValue.UploadChunk", fmt.Sprintf(`{"namespace":"shop","uploadId":%q,"index":%d,"data":%q}`, id, i, b64(part))))
	}
	chunk(0, value[:half])
	far := time.Now().Add(8 * time.Second).UTC().Format(time.RFC3339Nano)
	is(t, "delete", call(t, s, "KeyValue.DeleteItems", fmt.Sprintf(`{"namespace":"shop","id":"gone","token":{"generationTime":%q,"nonce":"AAAAAAAAAAAAAAAAAAAAAQ=="},"predicate":{"matchAll":{}}}`, far)))
	x := spaceOf(t, c.workers[0], "shop")
	if err := x.renew(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	// What is written from here on is what the log keeps.
	b, err := x.log.Bounds(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		write(100 + n)
	}
	if err := x.log.Trim(t.Context(), 0, b.End); err != nil {
		t.Fatal(err)
	}
	if err := x.freeDecisions(t.Context(), 0, b.End); err != nil {
		t.Fatal(err)
	}
	if d, err := x.decisions.Bounds(t.Context(), 0); err != nil || d.Start == 0 {
		t.Errorf("nothing of the decisions topic was freed: %+v, %v", d, err)
	}
	// A ledger that has nothing begins with the last window, or what is parked.
	st, standing := x.primary(), x.claims.Standing(0)
	for _, w := range []struct {
		parked wal.Offset
		in     time.Duration
		want   wal.Offset
	}{{wal.NoOffset, 0, b.End}, {wal.NoOffset, time.Hour, standing.Applied + 1}, {b.End + 2, time.Hour, b.End + 2}} {
		standing.Parked, standing.ReadTime = w.parked, time.Now().Add(w.in).UnixMicro()
		if o, err := st.beginsAt(t.Context(), 0, &standing, b.End); err != nil || o != w.want {
			t.Errorf("it begins at %d, %v, not at %d (parked %d, in %v)", o, err, w.want, w.parked, w.in)
		}
	}
	c.add(t, t.TempDir())
	c.stop(t, 0, c.drain(t))
	c.shares(t, "shop", 0, 1)
	write(103)
	is(t, "put", call(t, s, "KeyValue.PutItems", `{"namespace":"shop","id":"gone","items":[{"key":"YQ==","value":"AAAA"}],"condition":{"ifAbsent":true}}`))
	expectBody(t, call(t, s, "KeyValue.GetItems", `{"namespace":"shop","id":"gone","predicate":{"matchAll":{}},"consistency":"LATEST"}`), http.StatusOK, "AAAA")
	chunk(1, value[half:])
	is(t, "commit", call(t, s, "KeyValue.CommitUpload", fmt.Sprintf(`{"namespace":"shop","uploadId":%q,"chunks":2,"size":"%d","sha256":%q}`, id, len(value), b64(sum[:]))))
	if r := send(t, s, "GET", "/v1/kv/shop/large/k", ""); r.status != http.StatusOK || r.body != string(value) {
		t.Errorf("the upload that began before is %d, %d bytes", r.status, len(r.body))
	}
	for i := range versions {
		expectBody(t, call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shop","id":"id%d","predicate":{"matchAll":{}},"consistency":"LATEST"}`, i)), http.StatusOK, fmt.Sprintf("%q", b64([]byte("103"))))
	}
}
