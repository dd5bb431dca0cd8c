package kafkalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

// GroupConfig says which consumer group a process joins, and how soon it is missed there.
type GroupConfig struct {
	Name string
	// Session is after how long without a heartbeat the others get the partitions of a member. Default 10 s.
	Session time.Duration
	// Heartbeat is how often a member is heard of, and learns of changes. Default a tenth of Session.
	Heartbeat time.Duration
}

// Group is a membership in a consumer group, which is there for assignment alone: it reads nothing and commits
// nothing. Safe for concurrent use.
type Group struct {
	cl  *kgo.Client
	cfg GroupConfig

	mu       sync.Mutex // guards what follows
	topics   map[string]bool
	assigned map[string]map[int32]bool
	changed  chan struct{} // closed and replaced when assigned changes
	left     bool
}

// JoinGroup makes this process a member of a consumer group: classic protocol, cooperative, dynamic. It takes part
// in assignments from the first Add on.
func (b *Broker) JoinGroup(cfg GroupConfig) (*Group, error) {
	if cfg.Session == 0 {
		cfg.Session = 10 * time.Second
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = cfg.Session / 10
	}
	g := &Group{cfg: cfg, topics: make(map[string]bool), assigned: make(map[string]map[int32]bool), changed: make(chan struct{})}
	gone := func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { g.assign(ps, false) }
	opts := append(b.cfg.clientOpts(),
		kgo.ConsumerGroup(cfg.Name), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(cfg.Session), kgo.HeartbeatInterval(cfg.Heartbeat), kgo.RebalanceTimeout(max(cfg.Session, 5*time.Second)),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { g.assign(ps, true) }),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
		// Nothing is fetched: who applies a partition reads it from where its store is.
		kgo.AdjustFetchOffsetsFn(func(context.Context, map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			return nil, nil
		}),
	)
	var err error
	if g.cl, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("join consumer group %s: %w", cfg.Name, err)
	}
	return g, nil
}

// Heartbeat is how often the group is heard of.
func (g *Group) Heartbeat() time.Duration { return g.cfg.Heartbeat }

func (g *Group) assign(ps map[string][]int32, to bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for topic, all := range ps {
		for _, p := range all {
			if g.assigned[topic] == nil {
				g.assigned[topic] = make(map[int32]bool)
			}
			g.assigned[topic][p] = to && !g.left
		}
	}
	g.tellLocked()
}

func (g *Group) tellLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Add has partitions of a topic assigned to this member too.
func (g *Group) Add(topic string) {
	g.mu.Lock()
	there := g.topics[topic]
	g.topics[topic] = true
	g.mu.Unlock()
	if !there {
		g.cl.AddConsumeTopics(topic)
	}
}

// Remove ends what Add began.
func (g *Group) Remove(topic string) {
	g.mu.Lock()
	there := g.topics[topic]
	delete(g.topics, topic)
	delete(g.assigned, topic)
	g.mu.Unlock()
	if there {
		g.cl.PurgeTopicsFromConsuming(topic)
	}
}

// Assigned reports whether a partition is this member's, as far as it knows: a member that was cut off learns
// later that it is not.
func (g *Group) Assigned(topic string, p wal.Partition) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.assigned[topic][int32(p)]
}

// Changed returns a channel that is closed at the next change of what is assigned. Ask for it before Assigned.
func (g *Group) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Leave gives all partitions back, so that others get them at once. Nothing is assigned any more.
func (g *Group) Leave(ctx context.Context) error {
	g.mu.Lock()
	g.left = true
	clear(g.assigned)
	g.tellLocked()
	g.mu.Unlock()
	if err := g.cl.LeaveGroupContext(ctx); err != nil {
		return fmt.Errorf("leave consumer group %s: %w", g.cfg.Name, err)
	}
	return nil
}

// Close ends the membership; see Leave.
func (g *Group) Close() { g.cl.Close() }
