package kafkalog

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// shares waits until the members have so many of the partitions of a topic each, and each partition one member.
func shares(t *testing.T, topic string, partitions int, members []*Group, want ...int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		got, once := make([]int, len(members)), true
		for p := range wal.Partition(partitions) {
			n := 0
			for i, g := range members {
				if g.Assigned(topic, p) {
					got[i]++
					n++
				}
			}
			once = once && n == 1
		}
		if once && fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the members have %v partitions, not %v", got, want)
		}
	}
}

// TestGroupShares: members share the partitions of the topics that they add, also of one that is added later; who leaves
// has none, and the others have its share.
func TestGroupShares(t *testing.T) {
	t.Parallel()
	b := openBroker(t, fakeConfig(newCluster(t)))
	for _, topic := range []string{"headwater.kv.a.1", "headwater.kv.b.1"} {
		if _, err := b.Create(t.Context(), wal.TopicSpec{Name: topic, Partitions: 4}); err != nil {
			t.Fatal(err)
		}
	}
	var members []*Group
	join := func() *Group {
		g, err := b.JoinGroup(GroupConfig{Name: "headwater.workers.kv", Session: 6 * time.Second, Heartbeat: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		members = append(members, g)
		return g
	}
	join().Add("headwater.kv.a.1")
	shares(t, "headwater.kv.a.1", 4, members, 4)
	join().Add("headwater.kv.a.1")
	shares(t, "headwater.kv.a.1", 4, members, 2, 2)
	for _, g := range members {
		g.Add("headwater.kv.b.1")
	}
	shares(t, "headwater.kv.b.1", 4, members, 2, 2)
	if err := members[0].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	shares(t, "headwater.kv.a.1", 4, members, 0, 4)
	members[1].Remove("headwater.kv.a.1")
	for p := range wal.Partition(4) {
		if members[1].Assigned("headwater.kv.a.1", p) {
			t.Errorf("partition %d of a topic that was removed is assigned", p)
		}
	}
	shares(t, "headwater.kv.b.1", 4, members, 0, 4)
}
