package server

import (
	"context"
	"fmt"
	"sync"

	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// outlets are namespaces that this process writes to and does not serve: those that messages are delivered to. Each is
// no more than its log and what makes records for it.
type outlets struct {
	mu sync.Mutex // held while one is opened
	by map[string]*outlet
}

type outlet struct {
	x      *space
	config *namespace.Config
}

// outlet returns the namespace of a name to append records to, which nobody here waits for. A
// *delivery.PermanentError: it was deleted.
func (sp *spaces) outlet(ctx context.Context, name string) (*gateway.Namespace, error) {
	e, ok := sp.s.names.Get(name)
	if !ok { // or who took the message has heard of it before this process
		if err := sp.s.names.Sync(ctx); err != nil {
			return nil, err
		}
		if e, ok = sp.s.names.Get(name); !ok {
			return nil, &delivery.PermanentError{Err: fmt.Errorf("namespace %s does not exist", name)}
		}
	}
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	if x != nil && x.front != nil && x.ns.Failed() == nil && x.entry.Incarnation == e.Incarnation {
		if !x.ns.Ready() {
			return nil, fmt.Errorf("namespace %s is reading its log", name)
		}
		return x.ns, nil
	}
	if !sp.s.shared() { // who does not serve it here serves it nowhere
		return nil, fmt.Errorf("namespace %s is not served: %w", name, wal.ErrUnavailable)
	}
	return sp.s.outlets.get(ctx, sp.s, e)
}

// newestOutlet is the outlet of a name as the registry's end says. It writes nothing to the registry: each message that
// is about to be a dead letter asks.
func (sp *spaces) newestOutlet(ctx context.Context, name string) (*gateway.Namespace, error) {
	if err := sp.s.names.ReachEnd(ctx); err != nil {
		return nil, err
	}
	if e, ok := sp.s.names.Get(name); ok { // what is open here follows the registry a moment behind
		if err := sp.reach(ctx, e.ChangedAt()); err != nil {
			return nil, err
		}
	}
	return sp.outlet(ctx, name)
}

func (o *outlets) get(ctx context.Context, s *Server, e *namespace.Entry) (*gateway.Namespace, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by == nil {
		o.by = make(map[string]*outlet)
	}
	out := o.by[e.Name]
	if out != nil && out.x.entry.Incarnation != e.Incarnation {
		out.x.cancel()
		out.x.work.Wait()
		out = nil
	}
	if out == nil {
		x, err := s.openOutlet(ctx, e)
		if err != nil {
			return nil, err
		}
		out = &outlet{x: x}
		o.by[e.Name] = out
	}
	if out.config != e.Config {
		out.config = e.Config
		out.x.ns.SetConfig(e.Config)
	}
	return out.x.ns, nil
}

// close ends what outlets have begun.
func (o *outlets) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.by {
		out.x.cancel()
		out.x.work.Wait()
	}
	o.by = nil
}

// openOutlet opens the log of a namespace and what makes its records. Nothing is asked of who applies it.
func (s *Server) openOutlet(ctx context.Context, e *namespace.Entry) (*space, error) {
	log, err := s.openTopic(ctx, e)
	if err != nil {
		return nil, err
	}
	x := &space{s: s, entry: e, log: log, progress: wal.NewProgress(log.Info().Partitions)}
	x.run, x.cancel = context.WithCancel(s.run)
	stream := wal.NewStream(wal.StreamConfig{Namespace: e.Name, Log: log, Progress: x.progress})
	x.ns = &gateway.Namespace{Name: e.Name, Stream: stream}
	x.ns.SetConfig(e.Config)
	x.ns.Stream.LetBehind(true)
	switch e.Config.Abstraction {
	case namespace.KV:
		x.newKVDB(nil)
	case namespace.Counter:
		x.newCounterDB(nil, nil)
	case namespace.TimeSeries:
		x.newTimeSeriesDB(nil)
	case namespace.Log:
		x.newDeliveryDB(nil)
	}
	return x, nil
}
