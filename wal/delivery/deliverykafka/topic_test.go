package deliverykafka

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cluster(t *testing.T, topics ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func open(t *testing.T, c *kfake.Cluster, topic string) delivery.Forwarder {
	t.Helper()
	to, err := Open(Config{Brokers: c.ListenAddrs(), Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := to.Close(); err != nil {
			t.Error(err)
		}
	})
	return to.Forwarder(0)
}

func messages(n, keys int) (ms []*delivery.Attempt) {
	for i := range n {
		m := &delivery.Attempt{ID: fmt.Sprint("id-", i), Token: wal.Token{Nonce: wal.Nonce{byte(i), 1}}, Payload: fmt.Append(nil, i), Time: time.UnixMilli(int64(1e12 + i))}
		if i%keys > 0 {
			m.Key = fmt.Sprint("key", i%keys)
		}
		if i%2 == 0 {
			m.Headers = []delivery.Header{{Name: "trace", Value: fmt.Sprint("t", i)}}
		}
		ms = append(ms, m)
	}
	return ms
}

// read returns n records of a topic.
func read(t *testing.T, c *kfake.Cluster, topic string, n int) (rs []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(rs) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", len(rs), n, err)
		}
		rs = append(rs, fs.Records()...)
	}
	return rs
}

// TestAMessageIsARecord with its key, headers, id and token, in order of its key.
func TestAMessageIsARecord(t *testing.T) {
	t.Parallel()
	c := cluster(t, "orders")
	ms := messages(100, 5)
	if n, err := open(t, c, "orders").Forward(t.Context(), ms); n != 100 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	last := make(map[string]int)
	for _, r := range read(t, c, "orders", 100) {
		var i int
		if _, err := fmt.Sscan(string(r.Value), &i); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]string)
		for _, h := range r.Headers {
			got[h.Key] = string(h.Value)
		}
		want := map[string]string{HeaderID: ms[i].ID, HeaderToken: base64.StdEncoding.EncodeToString(ms[i].Token.Nonce[:])}
		for _, h := range ms[i].Headers {
			want[h.Name] = h.Value
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || string(r.Key) != ms[i].Key || (r.Key == nil) != (ms[i].Key == "") || !r.Timestamp.Equal(ms[i].Time) {
			t.Errorf("message %d came as %v with %v at %v", i, string(r.Key), got, r.Timestamp)
		}
		if r.Key != nil && last[string(r.Key)] > i {
			t.Errorf("message %d of %s came behind message %d", i, r.Key, last[string(r.Key)])
		}
		last[string(r.Key)] = i
	}
}

// TestWhatATopicNeverTakesIsPermanent, and all else is tried again.
func TestWhatATopicNeverTakesIsPermanent(t *testing.T) {
	t.Parallel()
	c := cluster(t, "orders")
	permanent := func(what string, n, want int, err error, says string) {
		t.Helper()
		if _, is := err.(*delivery.PermanentError); !is || n != want || !strings.Contains(err.Error(), says) { //nolint:errorlint // as a relay gets it
			t.Errorf("%s: %d, %v; want a permanent error of message %d that says %q", what, n, err, want, says)
		}
	}
	n, err := open(t, c, "nowhere").Forward(t.Context(), messages(3, 2))
	permanent("no topic", n, 0, err, "does not exist")
	to := open(t, c, "orders")
	ms := messages(3, 2)
	ms[1].Payload = make([]byte, maxRecord)
	n, err = to.Forward(t.Context(), ms)
	permanent("a large message", n, 1, err, "8388608")
	if n, err := to.Forward(t.Context(), ms[2:]); n != 1 || err != nil {
		t.Errorf("the message behind it: %d, %v", n, err)
	}
	answer := kerr.InvalidRecord
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			st := kmsg.NewProduceResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewProduceResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, answer.Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	n, err = to.Forward(t.Context(), messages(1, 2))
	permanent("an invalid record", n, 0, err, "INVALID_RECORD")
}

// TestABrokerThatIsAwayIsAskedAgain: what was not produced is, when it is back.
func TestABrokerThatIsAwayIsAskedAgain(t *testing.T) {
	t.Parallel()
	c := cluster(t, "orders")
	to := open(t, c, "orders")
	if n, err := to.Forward(t.Context(), messages(1, 2)); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, false })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	block := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		<-block
		return nil, nil, false
	})
	n, err := to.Forward(ctx, messages(3, 2))
	close(block)
	if _, is := err.(*delivery.PermanentError); err == nil || is { //nolint:errorlint // as a relay gets it
		t.Errorf("a broker that does not answer: %d, %v", n, err)
	}
	if n, err := to.Forward(t.Context(), messages(3, 2)); n != 3 || err != nil {
		t.Errorf("once it answers: %d, %v", n, err)
	}
}
