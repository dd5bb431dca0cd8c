package gateway

import (
	"context"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// groupCall is a MutateItems that is being read.
type groupCall struct {
	dir    *Directory
	order  []*groupSpace // of first appearance
	spaces map[string]*groupSpace
	units  []*groupUnit // of first appearance
	items  int
	// conditional: some mutation has a condition.
	conditional bool
}

// groupSpace is what a group has of one namespace.
type groupSpace struct {
	ns          *Namespace
	count, size int
	kv          map[wal.Partition]*groupUnit
	other       *groupUnit             // its adds or its events
	parts       map[wal.Partition]bool // in which the group has something
}

// groupUnit is what is made into records together: the items of one partition, the adds or the events of a
// namespace, or one message. One of the other fields is set.
type groupUnit struct {
	*groupSpace
	items   *kv.Request
	adds    *counter.Adds
	events  []timeseries.Event
	message *delivery.Message
}

// requestOf returns what a mutation is; nil: nothing that is known here.
func requestOf(m *headwaterv1.Mutation) namespaceWrite {
	switch x := m.GetMutation().(type) {
	case *headwaterv1.Mutation_Put:
		return x.Put
	case *headwaterv1.Mutation_Delete:
		return x.Delete
	case *headwaterv1.Mutation_Add:
		return x.Add
	case *headwaterv1.Mutation_Event:
		return x.Event
	case *headwaterv1.Mutation_Message:
		return x.Message
	}
	return nil
}

// take checks mutation i, and puts it into its unit.
func (g *groupCall) take(ctx context.Context, i int, m *headwaterv1.Mutation) error {
	q := requestOf(m)
	switch {
	case hasUnknown(m), q != nil && hasUnknown(q):
		return laterError("MutateItems")
	case q == nil:
		return apierrors.New(apierrors.MissingField, "mutation %d is none of put, delete, add, event and message", i)
	case q.GetToken() != nil:
		return apierrors.New(apierrors.BadToken, "mutation %d has a token of its own; the group's token covers it", i)
	}
	size, err := g.takeRequest(ctx, q)
	if err != nil {
		return inGroupAt(i, err)
	}
	sp := g.spaces[q.GetNamespace()]
	if sp.size += size; sp.ns.KV == nil {
		sp.count++
	} else {
		sp.count = 1 // its puts and deletes are one write
	}
	return nil
}

// inGroupAt says of an error which mutation of a group it is about.
func inGroupAt(i int, err error) error {
	e := *fromDomain(err)
	e.Message = "mutation " + formatInt(i) + ": " + e.Message
	return e.With("mutation", formatInt(i))
}

func (g *groupCall) takeRequest(ctx context.Context, q namespaceWrite) (size int, err error) {
	switch q := q.(type) {
	case *headwaterv1.PutItemsRequest:
		sp, err := g.space(ctx, q.GetNamespace(), g.dir.kv)
		if err != nil {
			return 0, err
		}
		m, n, err := putMutation(sp.ns, q)
		g.items += len(m.Items)
		g.mutate(sp, &m)
		return n, err
	case *headwaterv1.DeleteItemsRequest:
		sp, err := g.space(ctx, q.GetNamespace(), g.dir.kv)
		if err != nil {
			return 0, err
		}
		m, err := deleteMutation(q)
		g.items++
		g.mutate(sp, &m)
		return 0, err
	case *headwaterv1.AddCountRequest:
		sp, err := g.space(ctx, q.GetNamespace(), g.dir.counter)
		if err != nil {
			return 0, err
		}
		var a counter.Add
		if err := parseAdd(&a, q.GetCounter(), q.GetDelta(), q.GetEventTime(), q.GetTtl(), nil); err != nil {
			return 0, err
		}
		u := g.unit(sp, &sp.other)
		if u.adds == nil {
			u.adds = sp.ns.Counter.NewAdds()
		}
		u.adds.Add(&a)
		return len(q.GetCounter()) + 64, nil
	case *headwaterv1.WriteEventRecordsSyncRequest:
		sp, err := g.space(ctx, q.GetNamespace(), g.dir.timeSeries)
		if err != nil {
			return 0, err
		}
		if n := len(q.GetEvents()); n != 1 {
			return 0, apierrors.New(apierrors.TooManyItems, "it has %d events; each event is a mutation of its own", n)
		}
		es, n, err := parseEvents(q.GetEvents())
		u := g.unit(sp, &sp.other)
		u.events = append(u.events, es...)
		return n, err
	case *headwaterv1.WriteToLogRequest:
		return g.takeMessage(ctx, q)
	}
	return 0, laterError("MutateItems")
}

func (g *groupCall) takeMessage(ctx context.Context, q *headwaterv1.WriteToLogRequest) (size int, err error) {
	sp, err := g.space(ctx, q.GetNamespace(), func(ctx context.Context, name string) (*Namespace, error) {
		return g.dir.messages(ctx, name, "MutateItems")
	})
	if err != nil {
		return 0, err
	}
	m, err := message(sp.ns, q)
	if err == nil {
		err = g.dir.checkDelivered(ctx, sp.ns, m)
	}
	var own *groupUnit
	g.unit(sp, &own).message = m
	return len(q.GetPayload()), err
}

// space finds what a group has of a namespace.
func (g *groupCall) space(
	ctx context.Context, name string, find func(context.Context, string) (*Namespace, error),
) (*groupSpace, error) {
	if sp := g.spaces[name]; sp != nil {
		if _, err := find(ctx, name); err != nil { // of another abstraction
			return nil, err
		}
		return sp, nil
	}
	ns, err := find(ctx, name)
	if err != nil {
		return nil, err
	}
	sp := &groupSpace{ns: ns, kv: make(map[wal.Partition]*groupUnit), parts: make(map[wal.Partition]bool)}
	g.spaces[name] = sp
	g.order = append(g.order, sp)
	return sp, nil
}

// unit is the one at at, which it makes where there is none.
func (g *groupCall) unit(sp *groupSpace, at **groupUnit) *groupUnit {
	if *at == nil {
		*at = &groupUnit{groupSpace: sp}
		g.units = append(g.units, *at)
	}
	return *at
}

func (g *groupCall) mutate(sp *groupSpace, m *kv.Mutation) {
	p := sp.ns.Stream.PartitionOf(m.ID)
	u := sp.kv[p]
	if u == nil {
		u = g.unit(sp, &u)
		u.items, sp.kv[p] = &kv.Request{}, u
	}
	u.items.Mutations = append(u.items.Mutations, *m)
	g.conditional = g.conditional || m.Condition.Kind != kv.Always
}
