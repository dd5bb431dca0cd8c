package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// leaderless takes a partition of a topic its leader, until it is removed.
func leaderless(c *kfake.Cluster, topic string, p int32) *kfake.FaultHandle {
	return c.Fault(kfake.Fault{
		Keys:  []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch, kmsg.Produce, kmsg.Metadata, kmsg.DeleteRecords},
		Topic: topic, Partitions: []int32{p}, Err: kerr.LeaderNotAvailable, Count: -1,
	})
}

// TestEdgesAreKnownWithoutAsking: what others append is heard of in the
// background, and a partition without a leader keeps what was known and holds no
// other up.
func TestEdgesAreKnownWithoutAsking(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 2)
	if b, at := l.LastBounds(1); b.Start != 0 || b.End != 0 || at == 0 {
		t.Fatalf("of a new topic %+v is known, at %v", b, at)
	}
	opened, err := openBroker(t, fakeConfig(c)).Open(testContext(t), l.info.Name)
	if err != nil {
		t.Fatal(err)
	}
	other := opened.(*Log)
	for p := range wal.Partition(2) {
		for i := range 3 {
			appendOne(t, other, p, record(i))
		}
		if b, _ := other.LastBounds(p); b.End != 3 {
			t.Fatalf("after its own appends the end is %d to a process", b.End)
		}
		eventually(t, "the end that another process has made", func() bool {
			b, _ := l.LastBounds(p)
			return b.End == 3
		})
	}

	lost := leaderless(c, l.info.Name, 0)
	appendOne(t, other, 1, record(3))
	if err := other.Trim(testContext(t), 1, 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edges of the partition beside the lost one", func() bool {
		b, _ := l.LastBounds(1)
		return b.Start == 2 && b.End == 4
	})
	if b, _ := l.LastBounds(0); b.Start != 0 || b.End != 3 {
		t.Errorf("of the lost partition %+v is known", b)
	}
	eventually(t, "a look that finds no leader", func() bool { return l.parts[0].leader.Load() < 0 })

	lost.Remove()
	appendOne(t, other, 0, record(3))
	eventually(t, "the end of the partition that is back", func() bool {
		b, _ := l.LastBounds(0)
		return b.End == 4
	})
}

// TestEdgesAreAskedForInFewRequests: two of each broker, whatever the topics and
// partitions.
func TestEdgesAreAskedForInFewRequests(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.CheckInterval = time.Hour
	b := openBroker(t, cfg)
	var logs []*Log
	for i := range 4 {
		logs = append(logs, createLog(t, b, fmt.Sprintf("headwater.kv.a.%d", i+1), 12))
	}
	asked := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Count: -1, Observe: true})
	before := time.Now().UnixMicro()
	b.readEdges()
	if n := asked.Hits(); n > 6 {
		t.Errorf("%d requests for the edges of %d partitions on 3 brokers", n, 4*12)
	}
	for _, l := range logs {
		for p := range wal.Partition(12) {
			if _, at := l.LastBounds(p); at < before {
				t.Fatalf("%s/%d is known as of %v", l.info.Name, p, at)
			}
		}
	}
}

// TestEdgesOfAnotherLifeAreNotKept: the topic is made again by the same name.
func TestEdgesOfAnotherLifeAreNotKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.CheckInterval = time.Hour
	b := openBroker(t, cfg)
	l := createLog(t, b, "headwater.kv.a.1", 1)
	other := openBroker(t, fakeConfig(c))
	if err := other.Delete(testContext(t), l.info.Name); err != nil {
		t.Fatal(err)
	}
	again := createLog(t, other, l.info.Name, 1)
	for i := range 5 {
		appendOne(t, again, 0, record(i))
	}
	b.readEdges()
	if known, _ := l.LastBounds(0); known.End != 0 {
		t.Errorf("the end of the next life, %d, is taken for that of the life before", known.End)
	}
}

// TestSizeStaysKnownInAnOutage: a broker that does not answer makes no log
// smaller.
func TestSizeStaysKnownInAnOutage(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.ReplicationFactor, cfg.MinISR, cfg.AllowUnsafe = 1, 1, true
	b := openBroker(t, cfg)
	l := createLog(t, b, "headwater.kv.a.1", 6)
	for p := range wal.Partition(6) {
		appendOne(t, l, p, record(0))
	}
	b.readSizes()
	before := b.Usage().LogBytes
	if before <= 0 {
		t.Fatalf("the log has %d bytes", before)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeLogDirs}, Nodes: []int32{l.parts[0].leader.Load()}, Count: -1})
	b.readSizes()
	if now := b.Usage().LogBytes; now != before {
		t.Errorf("the log fell from %d to %d bytes", before, now)
	}
}

// TestATopicThatDoesNotAnswerKeepsNoOtherFromBeingOpened, made or deleted.
func TestATopicThatDoesNotAnswerKeepsNoOtherFromBeingOpened(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	b := openBroker(t, fakeConfig(c))
	const stuck, other = "headwater.kv.stuck.1", "headwater.kv.other.1"
	createLog(t, openBroker(t, fakeConfig(c)), stuck, 1)
	lost := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: stuck, Err: kerr.LeaderNotAvailable, Count: -1})
	opened := make(chan error, 2)
	for range cap(opened) { // the second waits for the first
		go func() {
			_, err := b.Open(testContext(t), stuck)
			opened <- err
		}()
	}
	eventually(t, "the leader is looked for", func() bool { return lost.Hits() > 1 })
	createLog(t, b, other, 1)
	if _, err := b.Open(testContext(t), other); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(testContext(t), other); err != nil {
		t.Fatal(err)
	}
	// One who gives up while it waits for its turn.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Open(ctx, stuck); !errors.Is(err, context.Canceled) {
		t.Errorf("opened with a context that is done: %v", err)
	}
	lost.Remove()
	for range cap(opened) {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
	if n := len(b.opening.m); n != 0 {
		t.Errorf("%d names are held after all is opened", n)
	}
}
