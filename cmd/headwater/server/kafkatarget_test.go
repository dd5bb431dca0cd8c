package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal/delivery/deliverykafka"
)

// produced reads n records of a topic.
func produced(t *testing.T, brokers []string, topic string, n int) (rs []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(rs) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("%d of %d records of %s: %v", len(rs), n, topic, err)
		}
		rs = append(rs, fs.Records()...)
	}
	return rs
}

func makeTopic(t *testing.T, brokers []string, topic string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// TestMessagesGoToATopic of a cluster, in order of their key; what goes to one that is not there is redriven once it is.
func TestMessagesGoToATopic(t *testing.T) {
	t.Parallel()
	toTopic(t, kafkaFake(t))
}

func TestEngineKafkaMessagesGoToATopic(t *testing.T) { toTopic(t, kafkaEngine(t)) }

func toTopic(t *testing.T, brokers []string) {
	s := withCluster(t, t.TempDir(), Cluster{Type: "kafka", Brokers: brokers})
	here, later := newPrefix()+"-here", newPrefix()+"-later"
	makeTopic(t, brokers, here)
	document(t, s, fmt.Sprintf("namespace: orders\nabstraction: log\nlog: {partitions: 2}\ndelivery: {targets: [{name: here, kafka: {cluster: main, topic: %s}}, {name: later, kafka: {cluster: main, topic: %s}, default: false}]}\n", here, later))
	var want [5][]string
	var ids []string
	for i := range 200 {
		key, body := i%5, fmt.Sprint(i)
		want[key] = append(want[key], body)
		ids = append(ids, write(t, s, "orders", fmt.Sprint("key", key), body, "Headwater-Header-Trace", "t"+body))
	}
	var got [5][]string
	for _, r := range produced(t, brokers, here, 200) {
		key := strings.TrimPrefix(string(r.Key), "key")
		i := slices.Index([]string{"0", "1", "2", "3", "4"}, key)
		if i < 0 {
			t.Fatalf("a record of key %q", r.Key)
		}
		got[i] = append(got[i], string(r.Value))
		at := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == deliverykafka.HeaderID })
		if at < 0 || !slices.Contains(ids, string(r.Headers[at].Value)) || r.Headers[0].Key != "Trace" || string(r.Headers[0].Value) != "t"+string(r.Value) {
			t.Errorf("record %s has headers %v", r.Value, r.Headers)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("there came %v, want %v", got, want)
	}
	until(t, "all are told as delivered", func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return stateOf(t, s, "orders", id) != "DELIVERED" })
	})

	id := write(t, s, "orders", "k", "early", "Headwater-Target", "later", "Headwater-Delay", "20ms")
	until(t, "it is given up", func() bool { return stateOf(t, s, "orders", id) == "DEAD" })
	if r := call(t, s, "Log.ListDeadLetters", `{"namespace":"orders"}`); !strings.Contains(r.body, "topic "+later+" does not exist") {
		t.Errorf("letters: %s", r)
	}
	makeTopic(t, brokers, later)
	until(t, "it is produced after all", func() bool { // a moment after the topic was made
		is(t, "redrive", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","selection":{"target":"later"}}`))
		return stateOf(t, s, "orders", id) == "DELIVERED"
	})
	if r := produced(t, brokers, later, 1)[0]; string(r.Value) != "early" || string(r.Key) != "k" {
		t.Errorf("there came %s, %s", r.Key, r.Value)
	}
}

// TestATopicThatMayNotBeWrittenIsRefused by the document.
func TestATopicThatMayNotBeWrittenIsRefused(t *testing.T) {
	t.Parallel()
	wholeOnly(t)
	brokers := kafkaFake(t)
	s := onKafka(t, brokers, "mine", t.TempDir())
	defer closeServer(t, s)
	for target, says := range map[string]string{
		"{cluster: out, topic: t}":                 "no cluster",
		"{cluster: out}":                           "has no topic",
		"{topic: t}":                               "has no cluster",
		"{cluster: out, topic: a/b}":               "not a topic's name",
		"{cluster: out, topic: mine.kv.demo-kv.1}": "own topics",
	} {
		r := applyDoc(t, s, "namespace: orders\nabstraction: log\ndelivery: {targets: [{name: out, kafka: "+target+"}]}\n")
		if r.status != 400 || !strings.Contains(r.body, says) {
			t.Errorf("%s: %s; want it to say %q", target, r, says)
		}
	}
}
