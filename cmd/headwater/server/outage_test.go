package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// outage is a cluster of one broker whose partitions can lose their leader.
type outage struct {
	*kfake.Cluster
	brokers []string
}

func newOutage(t *testing.T) outage {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return outage{c, c.ListenAddrs()}
}

// lose takes a topic's partitions their leader for some requests, all of a
// partition's when none are named, until it is removed.
func (o outage) lose(topic string, p wal.Partition, keys ...kmsg.Key) *kfake.FaultHandle {
	if len(keys) == 0 {
		keys = []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch, kmsg.Produce, kmsg.Metadata, kmsg.DeleteRecords}
	}
	return o.Fault(kfake.Fault{Keys: keys, Topic: topic, Partitions: []int32{int32(p)}, Err: kerr.LeaderNotAvailable, Count: -1})
}

// until asks until ok, which is what the test waits for.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

// metric is a sample of a scrape.
func metric(t *testing.T, s *Server, name string) float64 {
	t.Helper()
	r := get(t, "http://"+inside(s).AdminAddr()+"/metrics")
	m := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(name) + " (\\S+)$").FindStringSubmatch(r.body)
	if m == nil {
		t.Fatalf("no %s in the scrape, %d: %.2000s", name, r.status, r.body)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// keysOf are names of records, one in each partition of a namespace.
func keysOf(t *testing.T, s *Server, name string) []string {
	t.Helper()
	n, ok := s.spaces.dir.Get(name)
	if !ok {
		t.Fatalf("no namespace %s", name)
	}
	keys := make([]string, n.Stream.Info().Partitions)
	for i, found := 0, 0; found < len(keys); i++ {
		key := fmt.Sprintf("key-%d", i)
		if p := n.Stream.PartitionOf([]byte(key)); keys[p] == "" {
			keys[p], found = key, found+1
		}
	}
	return keys
}

const oneOfTwo = `{"config":"namespace: two\nabstraction: kv\nlog: {partitions: 2}\n"}`

// TestLagIsToldInAnOutage: a partition loses its leader while records of it wait.
func TestLagIsToldInAnOutage(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	s := onKafka(t, o.brokers, newPrefix(), t.TempDir())
	defer closeServer(t, s)
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", oneOfTwo), 200, "")
	e, _ := s.names.Get("two")
	keys := keysOf(t, s, "two")
	put := func(p wal.Partition, value string) reply {
		return send(t, s, "PUT", "/v1/kv/two/"+keys[p]+"/k", value)
	}
	expectBody(t, put(0, "before"), 204, "")
	lag, seconds := `headwater_apply_lag_records{namespace="two",role="PRIMARY"}`, `headwater_apply_lag_seconds{namespace="two",role="PRIMARY"}`
	until(t, "nothing waits", func() bool { return metric(t, s, lag) == 0 && metric(t, s, seconds) == 0 })

	unread := o.lose(e.Topic, 0, kmsg.Fetch) // what is appended cannot be read
	for range 3 {
		expectBody(t, put(0, "waits"), 204, "")
	}
	if got := metric(t, s, lag); got != 3 {
		t.Fatalf("%v records wait, not 3", got)
	}
	asked := o.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: e.Topic, Count: -1, Observe: true})
	lost := o.lose(e.Topic, 0)
	before := asked.Hits()
	until(t, "its leader is looked for in vain", func() bool { return asked.Hits() > before+1 })
	var waited float64
	until(t, "the lag in seconds grows", func() bool {
		if got := metric(t, s, lag); got != 3 {
			t.Fatalf("%v records wait in the outage, not 3", got)
		}
		was := waited
		waited = metric(t, s, seconds)
		if waited < was {
			t.Fatalf("the lag fell from %v to %v seconds in the outage", was, waited)
		}
		return was > 0 && waited > was
	})
	part := call(t, s, "Admin.Status", `{"namespace":"two"}`)
	if !strings.Contains(part.body, `"appended":"3"`) || !strings.Contains(part.body, `"lagRecords":"3"`) {
		t.Errorf("status in the outage: %s", part.body)
	}
	// The other partition is written and read.
	expectBody(t, put(1, "goes on"), 204, "")

	lost.Remove()
	unread.Remove()
	until(t, "all is applied", func() bool { return metric(t, s, lag) == 0 && metric(t, s, seconds) == 0 })
}

// TestOneLeaderlessPartitionHoldsNoOther: neither the other partition of its
// namespace nor another namespace, in what is done in the background.
func TestOneLeaderlessPartitionHoldsNoOther(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	s := onKafka(t, o.brokers, newPrefix(), t.TempDir())
	defer closeServer(t, s)
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", oneOfTwo), 200, "")
	e, _ := s.names.Get("two")
	lost := o.lose(e.Topic, 0)
	defer lost.Remove()
	keys := keysOf(t, s, "two")
	expectBody(t, send(t, s, "PUT", "/v1/kv/two/"+keys[1]+"/k", "goes on"), 204, "")
	later := `{"config":"namespace: later\nabstraction: kv\nlog: {partitions: 1}\ntokens: {max_live: 3}\n"}`
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", later), 200, "")

	// Trimming has looked at what it could.
	blocked := func(name string, p int) string {
		var st struct {
			Namespaces []struct {
				Partitions []struct{ TrimBlockedBy string }
			}
		}
		if err := json.Unmarshal([]byte(call(t, s, "Admin.Status", `{"namespace":"`+name+`"}`).body), &st); err != nil {
			t.Fatal(err)
		}
		return st.Namespaces[0].Partitions[p].TrimBlockedBy
	}
	n := 0
	until(t, "the tokens of a later namespace are counted, and writes shed", func() bool {
		n++
		r := send(t, s, "PUT", "/v1/kv/later/key/k", "v", "Idempotency-Key", fmt.Sprint(n))
		return strings.Contains(r.body, "HW-1403")
	})
	until(t, "a later namespace is trimmed", func() bool { return blocked("later", 0) != "" })
	until(t, "the partition beside the lost one is trimmed", func() bool { return blocked("two", 1) != "" })
	lost.Remove()
	eventually(t, 204, func() reply { return send(t, s, "PUT", "/v1/kv/two/"+keys[0]+"/k", "is back") })
	until(t, "the partition that is back is trimmed", func() bool { return blocked("two", 0) != "" })
}

// TestADeletedTopicThatStaysHoldsNoOtherNamespace: no controller answers for the
// topics of a deleted namespace.
func TestADeletedTopicThatStaysHoldsNoOtherNamespace(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	s := onKafka(t, o.brokers, newPrefix(), t.TempDir())
	defer closeServer(t, s)
	e, _ := s.names.Get("demo-kv")
	stuck := o.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DeleteTopics}, Topic: e.Topic, Err: kerr.NotController, Count: -1})
	expectBody(t, call(t, s, "Namespace.DeleteNamespace", `{"namespace":"demo-kv","confirm":"demo-kv"}`), 200, "")
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", oneOfTwo), 200, "")
	expectBody(t, send(t, s, "PUT", "/v1/kv/two/key/k", "served"), 204, "")
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", `{"config":"namespace: demo-kv\nabstraction: kv\n"}`), 200, "")
	expectBody(t, send(t, s, "PUT", greeting, "the next life"), 204, "")
	stuck.Remove()
	until(t, "the topic is gone", func() bool {
		_, err := s.broker.Open(t.Context(), e.Topic)
		return errors.Is(err, wal.ErrTopicNotFound)
	})
}
