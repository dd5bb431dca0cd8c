package server

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal/kafkalog"
)

// membership is this process's in the consumer group of an abstraction.
type membership = kafkalog.Group

// groups are those that this process is a member of, one for each abstraction: each is joined with the first
// namespace that its members share.
type groups struct {
	s   *Server
	mu  sync.Mutex // guards all
	all map[namespace.Abstraction]*membership
}

// of is the group for a namespace. It waits for no broker: the error is that of a wrong setting.
func (g *groups) of(e *namespace.Entry) (*membership, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.all[e.Config.Abstraction]; m != nil {
		return m, nil
	}
	b, ok := g.s.broker.(*kafkalog.Broker)
	if !ok {
		return nil, errors.New("the log has no consumer groups")
	}
	m, err := b.JoinGroup(kafkalog.GroupConfig{
		Name: g.s.groupName("workers." + string(e.Config.Abstraction)), Session: g.s.cfg.SessionTimeout,
	})
	if err != nil {
		return nil, err
	}
	g.all[e.Config.Abstraction] = m
	return m, nil
}

// groupName is that of a consumer group of this installation.
func (s *Server) groupName(of string) string {
	return cmp.Or(s.cfg.TopicPrefix, "headwater") + "." + of
}

func (g *groups) members() (all []*membership) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.all {
		all = append(all, m)
	}
	return all
}

// handOverFor is how long a process that is to stop waits for others to take its partitions.
const handOverFor = 10 * time.Second

// handOver gives the partitions of the groups to other workers: each is applied and answered here until another has
// claimed it, or for a moment where nobody does.
func (g *groups) handOver(ctx context.Context) {
	all := g.members()
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(handOverFor, g.s.cfg.ShutdownTimeout/3))
	defer cancel()
	for _, x := range g.s.spaces.opened() {
		if x.group == nil {
			continue
		}
		if err := x.syncStores(ctx); err != nil {
			g.s.log.Warn("a namespace was not saved before it is handed over", "namespace", x.ns.Name, "reason", err)
		}
		x.publishAll(ctx)
	}
	for _, m := range all {
		if err := m.Leave(ctx); err != nil {
			g.s.log.Warn("a consumer group was not left in good order; the others miss this process after the session timeout", "reason", err)
		}
	}
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for g.s.spaces.holdShared() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// holdShared reports whether a partition of a group is applied here.
func (sp *spaces) holdShared() bool {
	for _, x := range sp.opened() {
		if x.group == nil {
			continue
		}
		for i := range x.holding.parts {
			if h := &x.holding.parts[i]; h.epoch.Load() >= 0 {
				return true
			}
		}
	}
	return false
}

// close ends the memberships.
func (g *groups) close() {
	for _, m := range g.members() {
		m.Close()
	}
}
