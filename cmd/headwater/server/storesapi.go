package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// storesAPI is gateway.Stores over the namespaces of this process.
type storesAPI struct{ s *Server }

var _ gateway.Stores = storesAPI{}

// space finds a namespace and the registry's entry of it.
func (a storesAPI) space(name string) (*space, *namespace.Entry, error) {
	e, ok := a.s.names.Get(name)
	if !ok {
		return nil, nil, apierrors.New(apierrors.NamespaceNotFound, "namespace %.64q does not exist; create it with `headwater namespace apply`", name)
	}
	a.s.spaces.mu.Lock()
	x := a.s.spaces.open[name]
	a.s.spaces.mu.Unlock()
	if x == nil || x.front == nil {
		return nil, nil, apierrors.New(apierrors.NamespaceStopped, "namespace %s is not served here; see headwater status", name)
	}
	return x, e, nil
}

// life finds a store of a namespace.
func (a storesAPI) life(ns, store string) (*space, *namespace.Entry, namespace.StoreLife, error) {
	x, e, err := a.space(ns)
	if err != nil {
		return nil, nil, namespace.StoreLife{}, err
	}
	l, ok := e.Store(store)
	if !ok {
		return nil, nil, l, apierrors.New(apierrors.StoreNotFound, "namespace %s has no store %.64q; see headwater store list %s", ns, store, ns)
	}
	return x, e, l, nil
}

// List implements gateway.Stores.
func (a storesAPI) List(_ context.Context, name string) ([]*headwaterv1.Store, error) {
	x, e, err := a.space(name)
	if err != nil {
		return nil, err
	}
	out := make([]*headwaterv1.Store, len(e.Stores))
	for i, l := range e.Stores {
		out[i] = x.toAPI(e, l)
	}
	return out, nil
}

// toAPI tells how a store stands.
func (x *space) toAPI(e *namespace.Entry, l namespace.StoreLife) *headwaterv1.Store {
	conf := storeConfig(e.Config, l.Name)
	m := &headwaterv1.Store{
		Name: l.Name, Role: conf.Role, Type: conf.Type, Generation: int64(l.Generation),
		State: headwaterv1.Store_State(headwaterv1.Store_State_value[string(l.State)]),
	}
	if l.Message != "" {
		m.Message = proto.String(l.Message)
	}
	if c := l.Compared; c != nil {
		m.Compared = &headwaterv1.Store_Comparison{Items: c.Items, Differences: c.Differences}
	}
	st := x.store(l.Name)
	if conf.Role == namespace.CacheRole {
		if st = x.primary(); st == nil {
			return m
		}
	} else if st == nil || st.generation != l.Generation {
		return m
	}
	st.mu.Lock()
	if r := st.report; r != nil && m.Compared != nil {
		for _, d := range r.Examples {
			m.Compared.Examples = append(m.Compared.Examples, &headwaterv1.Store_Difference{Partition: int32(d.Partition), Key: d.Key, Detail: d.Detail})
		}
	}
	st.mu.Unlock()
	at := wal.Position{Namespace: e.Name, Incarnation: e.Incarnation, Offsets: make(map[wal.Partition]wal.Offset)}
	var oldest int64
	for p := range wal.Partition(len(x.serving)) {
		o := st.progress.Applied(p)
		end := x.log.LastEnd(p).End
		m.ItemsTotal += max(0, int64(end))
		if o < 0 {
			continue
		}
		at.Offsets[p] = o
		m.ItemsDone += int64(o) + 1
		if t := st.progress.LogTime(p); oldest == 0 || t < oldest {
			oldest = t
		}
	}
	m.ItemsDone = min(m.ItemsDone, m.ItemsTotal)
	m.Position = at.String()
	if oldest > 0 {
		m.AppliedAt = timestamppb.New(timeOf(oldest))
	}
	if state, reason := runnerState(st.runner); state != "running" && m.Message == nil {
		m.Message = proto.String(state + ": " + reason)
	}
	return m
}

// Compare implements gateway.Stores.
func (a storesAPI) Compare(_ context.Context, ns, store string) (string, error) {
	x, e, l, err := a.life(ns, store)
	if err != nil {
		return "", err
	}
	if store == e.Config.Primary() {
		return "", apierrors.New(apierrors.StoreServes, "store %s is the PRIMARY of namespace %s; compare another store with it", store, ns)
	}
	if err := copies(e, l); err != nil {
		return "", err
	}
	st, err := x.caughtUp(l)
	if err != nil {
		return "", err
	}
	return a.s.jobs.compare(x, st).id, nil
}

// copies refuses a store that is no copy of the PRIMARY.
func copies(e *namespace.Entry, l namespace.StoreLife) error {
	if c := e.Config.Cache(); c != nil && c.ID() == l.Name {
		return apierrors.New(apierrors.NotOffered, "store %s of namespace %s is a cache of the PRIMARY; it is neither compared nor promoted", l.Name, e.Name)
	}
	if l.Name != e.Config.Events() {
		return nil
	}
	return apierrors.New(apierrors.NotOffered, "store %s of namespace %s has the events alone; it is neither compared nor promoted", l.Name, e.Name)
}

// caughtUp returns an open store that has caught up.
func (x *space) caughtUp(l namespace.StoreLife) (*store, error) {
	switch l.State {
	case namespace.Comparing, namespace.Retiring, namespace.Serving:
	case namespace.Building:
		return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s is BUILDING; wait until it is COMPARING", l.Name, x.ns.Name)
	case namespace.Failed:
		return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s is FAILED: %s; drop it, and apply the namespace with a new one", l.Name, x.ns.Name, l.Message)
	}
	st := x.store(l.Name)
	if st == nil || st.generation != l.Generation {
		return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s is being opened; try again in a moment", l.Name, x.ns.Name)
	}
	return st, nil
}

// Promote implements gateway.Stores.
func (a storesAPI) Promote(ctx context.Context, ns, name string, acceptDifferences bool) (*headwaterv1.Store, error) {
	return a.turn(ctx, ns, name, namespace.Retiring, func(x *space, l namespace.StoreLife) (*store, error) {
		st, err := x.caughtUp(l)
		switch {
		case err != nil:
			return nil, err
		case l.State == namespace.Retiring:
			return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s is RETIRING; headwater store rollback makes it the PRIMARY again", name, ns)
		case l.Compared == nil:
			return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s has not been compared yet; wait for the comparison, or start one with headwater store compare", name, ns)
		case l.Compared.Differences > 0 && !acceptDifferences:
			return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s has %d differences in %d items; see headwater store list, or pass --accept-differences", name, ns, l.Compared.Differences, l.Compared.Items)
		}
		return st, nil
	})
}

// Rollback implements gateway.Stores.
func (a storesAPI) Rollback(ctx context.Context, ns, name string) (*headwaterv1.Store, error) {
	return a.turn(ctx, ns, name, namespace.Comparing, func(x *space, l namespace.StoreLife) (*store, error) {
		if l.State != namespace.Retiring {
			return nil, apierrors.New(apierrors.StoreNotReady, "store %s of namespace %s is %s; only a RETIRING store can be rolled back to", name, ns, l.State)
		}
		return x.caughtUp(l)
	})
}

// turn makes a store the PRIMARY, unless it is, and the PRIMARY what former says. may
// returns the store, or why it cannot be.
func (a storesAPI) turn(ctx context.Context, ns, name string, former namespace.StoreState, may func(*space, namespace.StoreLife) (*store, error)) (m *headwaterv1.Store, err error) {
	x, _, _, err := a.life(ns, name)
	if err != nil {
		return nil, err
	}
	err = x.step(ctx, name, func(e *namespace.Entry, l namespace.StoreLife) error {
		if name == e.Config.Primary() {
			m = x.toAPI(e, l)
			return nil
		}
		if err := copies(e, l); err != nil {
			return err
		}
		st, err := may(x, l)
		if err != nil {
			return err
		}
		m, err = x.exchanged(ctx, st, former)
		return err
	})
	return m, err
}

// step does f about a store of the registry while nobody else changes stores, once it
// is known which store decides.
func (x *space) step(ctx context.Context, store string, f func(*namespace.Entry, namespace.StoreLife) error) error {
	x.stepping.Lock()
	defer x.stepping.Unlock()
	if err := x.steady(ctx); err != nil {
		return err
	}
	e, l, err := x.again(store)
	if err != nil {
		return err
	}
	return f(e, l)
}

// steady waits until the namespace has applied what its log held when it was opened,
// and finishes a promote that a crash has interrupted. Before that nobody knows which
// store decides, nor what steps the log has: of two promotes of one step the later does
// nothing. The caller holds stepping.
func (x *space) steady(ctx context.Context) error {
	select {
	case <-x.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	e, ok := x.s.names.Get(x.ns.Name)
	if !ok {
		return apierrors.New(apierrors.NamespaceNotFound, "namespace %s does not exist any more", x.ns.Name)
	}
	return x.finishPromotion(ctx, e)
}

// again reads a store's life once more, now that nobody else changes it.
func (x *space) again(store string) (*namespace.Entry, namespace.StoreLife, error) {
	e, ok := x.s.names.Get(x.ns.Name)
	if !ok {
		return nil, namespace.StoreLife{}, apierrors.New(apierrors.NamespaceNotFound, "namespace %s does not exist any more", x.ns.Name)
	}
	l, ok := e.Store(store)
	if !ok {
		return nil, l, apierrors.New(apierrors.StoreNotFound, "namespace %s has no store %.64q any more", x.ns.Name, store)
	}
	return e, l, nil
}

func (x *space) exchanged(ctx context.Context, st *store, former namespace.StoreState) (*headwaterv1.Store, error) {
	if err := x.exchange(ctx, st, former, "operator"); err != nil {
		return nil, fmt.Errorf("promote store %s of namespace %s; send it again to have it finished: %w", st.name, x.ns.Name, err)
	}
	e, l, err := x.again(st.name)
	if err != nil {
		return nil, err
	}
	return x.toAPI(e, l), nil
}

// Drop implements gateway.Stores.
func (a storesAPI) Drop(ctx context.Context, ns, store, confirm string) error {
	x, e, err := a.space(ns)
	if err != nil {
		return err
	}
	if confirm != store {
		return apierrors.New(apierrors.BadConfirm, "confirm must be the store's name, %.64q; nothing was dropped", store)
	}
	if _, ok := e.Store(store); !ok && e.Dropped(store) {
		return nil
	}
	if _, _, _, err := a.life(ns, store); err != nil {
		return err
	}
	if err := x.drop(ctx, store); err != nil {
		return err
	}
	return x.reconcileOnce(ctx)
}

// drop takes a store out of the document. Its directory goes with reconcileOnce.
func (x *space) drop(ctx context.Context, store string) error {
	return x.step(ctx, store, func(e *namespace.Entry, _ namespace.StoreLife) error {
		if store == e.Config.Primary() {
			return apierrors.New(apierrors.StoreServes, "store %s is the PRIMARY of namespace %s; promote another store first", store, e.Name)
		}
		err := x.s.names.DropStore(ctx, e.Name, store, "operator")
		if errors.Is(err, namespace.ErrNotFound) {
			return apierrors.New(apierrors.NamespaceNotFound, "namespace %s does not exist any more", e.Name)
		}
		return err
	})
}

// Rebuild implements gateway.Stores.
func (a storesAPI) Rebuild(ctx context.Context, r *gateway.Rebuild) (string, error) {
	x, e, err := a.space(r.Namespace)
	if err != nil {
		return "", err
	}
	switch _, known := e.Store(r.Store); {
	case e.Config.Abstraction == namespace.Log:
		return "", apierrors.New(apierrors.NotOffered, "namespace %s is a log; its store holds the tokens of one window and nothing that could be rebuilt", e.Name)
	case e.Config.Abstraction == namespace.Counter && remotePrimary(e.Config):
		return "", apierrors.New(apierrors.NotOffered, "the counters of namespace %s are in Cassandra, and this build makes no second store beside them; a worker whose directory is removed makes its own again from what is published", e.Name)
	case r.Store != "" && !known:
		return "", apierrors.New(apierrors.StoreNotFound, "namespace %s has no store %.64q; see headwater store list %s", e.Name, r.Store, e.Name)
	case r.Store != "" && r.Store != e.Config.Primary():
		return "", apierrors.New(apierrors.NotOffered, "store %s is not the PRIMARY of namespace %s, and only that is rebuilt; drop the store and apply the namespace with a new one", r.Store, e.Name)
	}
	if err := x.reachesBack(ctx, r.From); err != nil {
		return "", err
	}
	if r.DryRun {
		return "", nil
	}
	return x.rebuild(ctx, leftOf(r))
}

// leftOf is what a rebuild leaves out, nil for nothing.
func leftOf(r *gateway.Rebuild) *namespace.LeftOut {
	if len(r.Omit) == 0 && r.From == nil {
		return nil
	}
	l := &namespace.LeftOut{}
	for _, o := range r.From {
		l.From = append(l.From, int64(o))
	}
	for _, n := range r.Omit {
		l.Omit = append(l.Omit, bytes.Clone(n[:]))
	}
	return l
}

// Jobs implements gateway.Stores.
func (a storesAPI) Jobs() []*headwaterv1.Job { return a.s.jobs.list() }

// Job implements gateway.Stores.
func (a storesAPI) Job(id string) *headwaterv1.Job {
	j := a.s.jobs.find(id)
	if j == nil {
		return nil
	}
	return j.toAPI()
}

// Cancel implements gateway.Stores.
func (a storesAPI) Cancel(ctx context.Context, id string) (*headwaterv1.Job, error) {
	j := a.s.jobs.find(id)
	if j == nil {
		return nil, nil
	}
	j.cancel()
	select {
	case <-j.ended:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if j.kind != jobRebuild {
		return j.toAPI(), nil
	}
	// The store stays as any other, and no restart takes the job up again.
	err := a.s.names.SetStore(ctx, j.namespace, j.store, func(l *namespace.StoreLife) bool {
		was := l.Rebuild
		l.Rebuild = false
		return was
	})
	if errors.Is(err, namespace.ErrNotFound) {
		err = nil
	}
	return j.toAPI(), err
}
