package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal/kafkalog"
)

// gatewaysLook is how often the gateways are counted.
const gatewaysLook = time.Second

// gateways counts those that share the limits of namespaces, this process among them. It is a member of a consumer group
// in which all of them are, and in which nothing is consumed: its topic is the registry's, which each has.
type gateways struct {
	s     *Server
	n     atomic.Int64
	group *membership // nil where nobody shares the limits
}

// join begins to count; it waits for no broker.
func (g *gateways) join() error {
	g.n.Store(1)
	b, ok := g.s.broker.(*kafkalog.Broker)
	if !ok || g.s.cfg.Role != Gateway {
		return nil
	}
	var err error
	if g.group, err = b.JoinGroup(kafkalog.GroupConfig{Name: g.name(), Session: g.s.cfg.SessionTimeout}); err != nil {
		return err
	}
	g.group.Add(g.s.names.Topic().Name)
	return nil
}

func (g *gateways) name() string { return g.s.groupName("gateways") }

// Load is how many there are, as of the last look.
func (g *gateways) Load() int64 { return g.n.Load() }

// watch counts until ctx is done.
func (g *gateways) watch(ctx context.Context) {
	b, ok := g.s.broker.(*kafkalog.Broker)
	if !ok || g.group == nil {
		return
	}
	t := time.NewTicker(gatewaysLook)
	defer t.Stop()
	for {
		if n, err := g.count(ctx, b); err == nil {
			g.n.Store(max(1, int64(n)))
		} else if ctx.Err() == nil { // as many as there were
			g.s.log.Debug("the gateways that share limits were not counted", "reason", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *gateways) count(ctx context.Context, b *kafkalog.Broker) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*gatewaysLook, errors.New("the group's coordinator did not answer in time"))
	defer cancel()
	return b.Members(ctx, g.name())
}

// leave tells the others that this one is gone.
func (g *gateways) leave(ctx context.Context) {
	if g.group == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := g.group.Leave(ctx); err != nil {
		g.s.log.Warn("the group of gateways was not left in good order; the others count this one until its session ends", "reason", err)
	}
}

func (g *gateways) close() {
	if g.group != nil {
		g.group.Close()
	}
}
