package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// patienceForVersion is how long an applier waits for a version of the
// configuration before it lets its runner try again.
const patienceForVersion = 5 * time.Second

// primary is the role of the store that decides and answers.
const primary = "PRIMARY"

// space is one open namespace: what takes its calls, and its stores.
type space struct {
	s *Server
	// entry is as of the opening: what stays for this life of the namespace. What may
	// change is ns.Config, and the registry's.
	entry *namespace.Entry
	ns    *gateway.Namespace
	log   wal.Log
	// letters is the topic of dead letters.
	letters wal.Log
	// progress is how far the stores that serve have applied.
	progress  *wal.Progress
	decisions wal.Log         // nil where the log is not shared
	claims    *decisions.Book // who holds which partition; nil as decisions
	owners    *remote.Client  // of a Gateway
	holding   *holding        // nil where no other process takes partitions
	group     *membership     // nil: all partitions are applied here, and nowhere else
	// front takes the calls of the abstraction; nil in a stand-in.
	front front
	// stores by name; the siblings among them follow each other.
	siblings *consumers.Siblings
	serving  []atomic.Pointer[served] // by partition; nil: no store answers yet
	run      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	ready    chan struct{} // closed when it takes writes, or never will
	// reconcile wakes the goroutine that keeps the stores in step with the registry.
	reconcile chan struct{}
	stepping  sync.Mutex // held while a store is opened, promoted or dropped
	caching   caching
	consumers *durable.Local // nil where another process has the partitions

	turning sync.Mutex // held while a store begins to answer

	mu     sync.Mutex // guards what follows
	stores map[string]*store
	upkeep []upkeep // by partition
	// durable is how far each store was when it was last synced; nil before the first time.
	durable      map[*store]map[wal.Partition]wal.Offset
	wide         wideSeries                   // of a time-series namespace
	lastSettings atomic.Pointer[lastSettings] // of a time-series namespace
}

// front is the part of a namespace that takes calls, of each abstraction.
type front interface {
	gateway.Parker
	// noteTokens lets the DB shed writes by how many tokens are remembered.
	noteTokens(n int64)
}

// frontOptions are what every front acts on.
func frontOptions(c *namespace.Config) consumers.FrontOptions {
	return consumers.FrontOptions{
		Version: c.Version, DriftPast: c.Tokens.MaxDriftPast, DriftFuture: c.Tokens.MaxDriftFuture, TokenWindow: c.Tokens.Window,
		MaxLiveTokens: c.Tokens.MaxLive,
	}
}

// openSpace opens a namespace and starts applying its log. It returns before the
// log is caught up; the namespace is ready then.
func (s *Server) openSpace(ctx context.Context, e *namespace.Entry) (_ *space, err error) {
	x := &space{s: s, entry: e, ready: make(chan struct{}), siblings: consumers.NewSiblings(), stores: make(map[string]*store), reconcile: make(chan struct{}, 1)}
	x.run, x.cancel = context.WithCancel(s.run)
	if s.spreads(e) {
		if x.group, err = s.groups.of(e); err != nil {
			x.cancel()
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.stop())
		}
	}()
	if x.keeps() {
		if err := x.mayOwn(); err != nil {
			return nil, err
		}
	}
	if err := x.serve(ctx); err != nil {
		return nil, err
	}
	if s.cfg.Role.applies() {
		if err := x.openStores(ctx); err != nil {
			return nil, err
		}
		if err := x.claim(ctx); err != nil {
			return nil, err
		}
		x.work.Go(func() { x.followers(x.run) }) // of a PRIMARY that answers
		x.work.Go(func() { x.watchServing(x.run) })
	}
	if s.cfg.Role == Gateway { // which has nothing to catch up: it is known to callers once it takes writes
		x.catchUp(ctx)
	} else {
		x.noteEnds(ctx)
		x.work.Go(func() { x.catchUp(x.run) })
	}
	x.addTargets()
	return x, nil
}

// serve opens what takes the calls of the namespace: its log, its dead letters,
// and the front of its abstraction.
func (x *space) serve(ctx context.Context) (err error) {
	s, e := x.s, x.entry
	if x.log, err = s.openTopic(ctx, e); err != nil {
		return err
	}
	info := x.log.Info()
	x.upkeep = make([]upkeep, info.Partitions)
	x.serving = make([]atomic.Pointer[served], info.Partitions)
	x.ns = &gateway.Namespace{Name: e.Name, StoreState: x.storeState, Stores: x.storeViews, TrimBlocked: x.trimBlocked, Gateways: x.s.gateways.Load}
	x.ns.SetConfig(e.Config)
	x.progress = wal.NewProgress(info.Partitions)
	if err := x.openDecisions(ctx); err != nil {
		return err
	}
	if err := x.openLetters(ctx); err != nil {
		return err
	}
	x.ns.Stream = wal.NewStream(wal.StreamConfig{Namespace: e.Name, Log: x.log, Progress: x.progress})
	x.ns.Stream.LetBehind(x.letBehind(e.Config))
	if err := x.openFront(); err != nil {
		return err
	}
	x.openConsumers()
	return nil
}

// primary is the store of role PRIMARY, nil while there is none.
func (x *space) primary() *store {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, st := range x.stores {
		if st.hasRole(primary) {
			return st
		}
	}
	return nil
}

// configure puts a changed configuration into force.
func (x *space) configure(e *namespace.Entry) {
	x.ns.SetConfig(e.Config)
	if x.ns.Stream != nil { // it is served
		x.ns.Stream.LetBehind(x.letBehind(e.Config))
	}
	for _, st := range x.all() {
		st.ledger.SetTokenWindow(e.Config.Tokens.Window)
		if b, ok := st.backend.(*deliveryBackend); ok {
			b.configured()
		}
	}
	x.setCaches(e.Config)
	x.changedStores()
}

// all are the stores that are open.
func (x *space) all() []*store {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Values(x.stores))
}

// letBehind reports whether writes are taken however far the stores are behind: where one of
// them is on another server, or another process has them.
func (x *space) letBehind(c *namespace.Config) bool {
	return !x.s.cfg.Role.applies() || remotePrimary(c)
}

// noteEnds counts what the log holds as acknowledged: an earlier process did so.
// Until it is applied, reads of this one's writes wait for it, and an answer at
// once says that it is pending instead of passing for complete. A log that
// cannot be asked now is asked by catchUp.
func (x *space) noteEnds(ctx context.Context) {
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		if b, err := x.log.Bounds(ctx, p); err == nil {
			x.progress.Ack(p, b.End-1)
		}
	}
}

// catchUp lets writes in once everything that the log held is applied: only then
// is every token known. It does not wait for a store on another server: a copy of a
// write that is not applied yet is appended then, answered as perhaps one, and changes
// nothing.
func (x *space) catchUp(ctx context.Context) {
	behind := x.letBehind(x.entry.Config)
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		o, err := x.end(ctx, p)
		if err == nil {
			x.ns.Stream.Progress().Ack(p, o)
			x.ns.Stream.Inherit(p, o)
			if !behind {
				err = x.ns.Stream.WaitApplied(ctx, p, o)
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				x.ns.Fail(fmt.Errorf("namespace %s: read its log: %w", x.ns.Name, err))
				x.s.log.Error("a namespace takes no writes", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			}
			close(x.ready)
			return
		}
	}
	x.ns.SetReady()
	close(x.ready)
}

// end asks for the end of a partition's log until it gets an answer.
func (x *space) end(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	for {
		b, err := x.log.Bounds(ctx, p)
		if err == nil {
			return b.End - 1, nil
		}
		if !errors.Is(err, wal.ErrUnavailable) {
			return wal.NoOffset, err
		}
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return wal.NoOffset, ctx.Err()
		}
	}
}

func (x *space) waitReady(ctx context.Context) error {
	select {
	case <-x.ready:
		return x.ns.Failed()
	case <-ctx.Done():
		return fmt.Errorf("wait for namespace %s to read its log: %w", x.ns.Name, ctx.Err())
	}
}

// storeState tells how the store that serves fares: a partition that has stopped
// counts before one that is retried.
func (x *space) storeState() (state, reason string) {
	if x.owners != nil {
		return x.ownerState()
	}
	st := x.primary()
	if st == nil {
		return "stopped", "no store is open"
	}
	return runnerState(st.runner)
}

// storeViews tells of each store, the PRIMARY first.
func (x *space) storeViews() []gateway.StoreView {
	e, ok := x.s.names.Get(x.entry.Name)
	if !ok || e.Generation != x.entry.Generation {
		return nil // it is being removed
	}
	if x.owners != nil {
		conf := storeConfig(e.Config, e.Config.Primary())
		state, reason := x.ownerState()
		return []gateway.StoreView{{Name: conf.ID(), Role: conf.Role, Type: conf.Type, Stage: namespace.Serving, State: state, Reason: reason, Progress: x.progress}}
	}
	out := make([]gateway.StoreView, 0, len(e.Stores))
	for _, l := range e.Stores {
		conf := storeConfig(e.Config, l.Name)
		v := gateway.StoreView{Name: l.Name, Role: conf.Role, Type: conf.Type, Generation: l.Generation, Stage: l.State, Held: x.holds}
		if st := x.primary(); v.Role == namespace.CacheRole && st != nil {
			v.State, v.Reason, v.Progress = st.cacheState()
		} else if st := x.store(l.Name); l.State == namespace.Failed {
			v.State, v.Reason = "stopped", l.Message
		} else if st == nil || st.generation != l.Generation {
			v.State, v.Reason = "retrying", "it is being opened"
		} else {
			v.State, v.Reason = runnerState(st.runner)
			v.Progress = st.progress
			if v.State == "running" && l.State == namespace.Building {
				v.State = "catching up"
			}
		}
		if v.Role == primary {
			out = slices.Insert(out, 0, v)
		} else {
			out = append(out, v)
		}
	}
	return out
}

func runnerState(r *consumers.Runner) (state, reason string) {
	state = "running"
	for _, h := range r.Health() {
		if h.Stopped != nil {
			return "stopped", fmt.Sprintf("partition %d: %v", h.Partition, h.Stopped)
		}
		if h.Retrying != nil {
			state, reason = "retrying", fmt.Sprintf("partition %d: %v", h.Partition, h.Retrying)
		}
	}
	return state, reason
}

// failedSpace stands for a namespace that cannot be opened, so that its callers
// are told why.
func (s *Server) failedSpace(e *namespace.Entry, err error) *space {
	x := &space{s: s, entry: e, ready: make(chan struct{})}
	close(x.ready)
	reason := err.Error()
	switch {
	case errors.Is(err, namespace.ErrReleased):
		reason = apierrors.Released + ": " + reason
	case errors.Is(err, namespace.ErrOwned):
		reason = apierrors.NotOwner + ": " + reason
	}
	x.ns = &gateway.Namespace{Name: e.Name, StoreState: func() (string, string) { return "stopped", reason }}
	x.ns.SetConfig(e.Config)
	x.ns.Fail(err)
	return x
}

// close stops applying, after the batches in hand, and closes the stores.
func (x *space) close() error {
	x.removeTargets()
	return x.stop()
}

func (x *space) stop() error {
	if x.cancel != nil {
		x.cancel()
	}
	x.s.spaces.holders.CompareAndDelete(string(x.entry.Incarnation[:]), x)
	if x.holding != nil { // whoever follows looks for another
		for i := range x.holding.parts {
			x.progress.Interrupt(wal.Partition(i), errGivenAway)
		}
	}
	if x.group != nil {
		x.group.Remove(x.entry.Topic)
	}
	x.work.Wait() // what opens stores is over
	if x.claims != nil {
		defer x.claims.Close() // which the stores go on by until they are stopped
	}
	stores := x.all()
	errs := make([]error, len(stores))
	var stopping sync.WaitGroup
	for i, st := range stores {
		stopping.Go(func() { errs[i] = st.stop(context.Background()) })
	}
	stopping.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("namespace %s: %w", x.entry.Name, err)
	}
	return nil
}

func (x *space) removeStore(ctx context.Context) error {
	return x.s.removeStores(ctx, x.s.dir.storeDir(x.entry.Incarnation.String()))
}
