package gateway

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// GroupsNamespace is the log namespace whose messages are groups: the writes of a MutateItems that no single record of
// the log can hold. Each is brought to the logs of its namespaces by a GroupRelay.
const GroupsNamespace = "headwater-groups"

// GroupsDocument makes it.
const GroupsDocument = "namespace: " + GroupsNamespace + "\nabstraction: log\n" +
	"description: groups of MutateItems over several partitions, on their way to the namespaces that they write to\n"

// MutateItems does a group of mutations as one: all of it takes place, or none.
//
// What is puts and deletes in one partition of one namespace, as those of one record always are, is one record: it is seen
// at once, and its conditions hold for all of it. Any other group is one message of GroupsNamespace. When that is durable
// the group takes place, whatever becomes of the caller; the call answers when all of it is in the logs of its namespaces,
// or when its time is nearly over: see LogService.GetGroup.
func (s *KeyValue) MutateItems(ctx context.Context, req *headwaterv1.MutateItemsRequest) (*headwaterv1.MutateItemsResponse, error) {
	fail := func(err error) (*headwaterv1.MutateItemsResponse, error) {
		return nil, forWrite(err, false, req.GetToken())
	}
	ms := req.GetMutations()
	if len(ms) == 0 || len(ms) > MaxItems {
		return fail(apierrors.New(apierrors.TooManyItems, "a group has %d mutations; it takes 1 to %d", len(ms), MaxItems))
	}
	g := &groupCall{dir: s.dir, spaces: make(map[string]*groupSpace)}
	for i, m := range ms {
		if err := g.take(ctx, i, m); err != nil {
			return fail(err)
		}
	}
	if g.items > MaxItems {
		return fail(apierrors.New(apierrors.TooManyItems, "the group has %d items; it takes %d", g.items, MaxItems))
	}
	tok, err := parseToken(req.GetToken())
	if err != nil {
		return fail(err)
	}
	if len(g.units) > 1 && g.conditional {
		return fail(kv.ErrAcrossPartitions)
	}
	for _, sp := range g.order {
		if err := sp.ns.admitWrite(sp.count, sp.size); err != nil {
			return fail(err)
		}
	}
	if len(g.units) == 1 && g.units[0].items != nil {
		return g.units[0].write(ctx, tok, req)
	}
	return s.mutateAll(ctx, g, tok, req)
}

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

// groupUnit is what is made into records together: the items of one partition, the adds or the events of a namespace, or
// one message. One of the other fields is set.
type groupUnit struct {
	*groupSpace
	items   *kv.Request
	adds    []*headwaterv1.CounterAdd
	events  []timeseries.Event
	message *delivery.Message
}

// inGroup is the request that a mutation is.
type inGroup interface {
	proto.Message
	GetNamespace() string
	GetToken() *headwaterv1.IdempotencyToken
}

// requestOf returns what a mutation is; nil: nothing that is known here.
func requestOf(m *headwaterv1.Mutation) inGroup {
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

func (g *groupCall) takeRequest(ctx context.Context, q inGroup) (size int, err error) {
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
		one := &headwaterv1.CounterAdd{Counter: q.GetCounter(), Delta: q.GetDelta(), EventTime: q.GetEventTime(), Ttl: q.GetTtl()}
		var a counter.Add
		err = parseAdd(&a, one.GetCounter(), one.GetDelta(), one.GetEventTime(), one.GetTtl(), nil)
		u := g.unit(sp, &sp.other)
		u.adds = append(u.adds, one)
		return len(q.GetCounter()) + 64, err
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

// write writes a group that is one record.
func (u *groupUnit) write(ctx context.Context, tok wal.Token, req *headwaterv1.MutateItemsRequest) (*headwaterv1.MutateItemsResponse, error) {
	u.items.Token = tok
	res := u.ns.KV.Write(ctx, []*kv.Request{u.items})[0]
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	return &headwaterv1.MutateItemsResponse{
		Results: []*headwaterv1.WriteResult{writeResult(u.ns, &res, req.GetToken())},
		GroupId: u.ns.groupID(res.Partition, res.Offset, len(req.GetMutations())),
	}, nil
}

// stage makes the records of a unit, and adds them to a group.
func (u *groupUnit) stage(ctx context.Context, tok wal.Token, g *delivery.Group) error {
	var as []wal.Appending
	var err error
	switch {
	case u.items != nil:
		u.items.Token = tok
		as = make([]wal.Appending, 1)
		as[0], err = u.ns.KV.Stage(u.items)
	case u.message != nil:
		u.message.Token = wal.Token{GenerationTime: tok.GenerationTime, Nonce: delivery.NonceOf(tok.Nonce, len(g.Parts))}
		as = make([]wal.Appending, 1)
		as[0], err = u.ns.Messages.Stage(u.message)
	case len(u.adds) > 0:
		var adds *counter.Adds
		if adds, err = parseAdds(u.ns.Counter, u.adds); err == nil {
			as, err = u.ns.Counter.Stage(tok, adds)
		}
	default:
		as, err = u.ns.TimeSeries.Stage(ctx, tok, u.events)
		err = eventError(err)
	}
	if err != nil {
		return err
	}
	for i := range as {
		g.Add(u.ns.Name, u.ns.Stream.Info().Incarnation, as[i].Record)
		u.parts[as[i].Partition] = true
	}
	return nil
}

// mutateAll writes a group that is a message of GroupsNamespace.
func (s *KeyValue) mutateAll(
	ctx context.Context, call *groupCall, tok wal.Token, req *headwaterv1.MutateItemsRequest,
) (*headwaterv1.MutateItemsResponse, error) {
	fail := func(err error) (*headwaterv1.MutateItemsResponse, error) {
		return nil, forWrite(err, false, req.GetToken())
	}
	groups, err := s.groups(ctx)
	if err != nil {
		return fail(err)
	}
	if tok.Nonce == (wal.Nonce{}) {
		tok.Nonce = wal.NewNonce()
	}
	if tok.GenerationTime == 0 { // all parts have the same
		tok.GenerationTime = groups.Messages.Clock.Next(groups.Messages.Now())
	}
	g := &delivery.Group{Mutations: len(req.GetMutations())}
	for _, u := range call.units {
		if err := u.stage(ctx, tok, g); err != nil {
			return fail(err)
		}
	}
	payload := g.Encode()
	switch {
	case len(g.Parts) > delivery.MaxGroupParts:
		return fail(apierrors.New(apierrors.TooManyItems, "the group is %d records; it may be %d", len(g.Parts), delivery.MaxGroupParts))
	case len(payload) > wal.MaxRecordBytes-envelopeRoom:
		return fail(apierrors.New(apierrors.RequestTooLarge, "the group has %d bytes; it may have %d", len(payload), wal.MaxRecordBytes-envelopeRoom))
	}
	if err := groups.admitWrite(1, len(payload)); err != nil {
		return fail(err)
	}
	w, err := groups.Messages.Write(ctx, &delivery.Message{
		Token: tok, Hash: g.Hash(), Body: delivery.Body{Payload: payload, Targets: []string{delivery.GroupTarget}},
	})
	if err != nil {
		return nil, forWrite(err, errors.Is(err, wal.ErrUnknown), tokenMessage(w.Token, req.GetToken()))
	}
	done := awaitGroup(ctx, groups, &w)
	out := &headwaterv1.MutateItemsResponse{GroupId: groups.groupID(w.Partition, w.Offset, g.Mutations)}
	for _, sp := range call.order {
		res := &headwaterv1.WriteResult{
			Token: tokenMessage(w.Token, req.GetToken()), Durability: groups.durability(), Duplicate: duplicateOf(w.Duplicate, w.Unsure),
		}
		if done {
			res.Position = sp.position(ctx)
		}
		out.Results = append(out.Results, res)
	}
	return out, nil
}

// groups is the namespace of groups, which is made with the first group.
func (s *KeyValue) groups(ctx context.Context) (*Namespace, error) {
	if ns, ok := s.dir.Get(GroupsNamespace); ok && ns.Ready() || s.MakeGroups == nil {
		return s.dir.messages(ctx, GroupsNamespace, "MutateItems")
	}
	if err := s.MakeGroups(ctx); err != nil {
		return nil, err
	}
	return s.dir.messages(ctx, GroupsNamespace, "MutateItems")
}

const (
	// groupWait bounds how long a call waits for its group to be in all logs.
	groupWait = 10 * time.Second
	// groupLook and groupLookMost are the pauses between two looks, where another process brings the group.
	groupLook     = time.Millisecond
	groupLookMost = 50 * time.Millisecond
)

// position covers what a group that is done has in a namespace: what the log has by now of the partitions. "": it is not
// known.
func (sp *groupSpace) position(ctx context.Context) string {
	at, err := sp.ns.Stream.MergeAfter(nil) // a position of this stream, covering nothing
	if err != nil {
		return ""
	}
	at.Offsets = make(map[wal.Partition]wal.Offset, len(sp.parts))
	for p := range sp.parts {
		b, err := sp.ns.Stream.Log().Bounds(ctx, p)
		if err != nil || b.End == 0 {
			return ""
		}
		at.Offsets[p] = b.End - 1
	}
	return at.String()
}

// awaitGroup returns when a group is in the logs of its namespaces, or when a tenth of the call's time is left, and reports
// whether it is.
func awaitGroup(ctx context.Context, groups *Namespace, w *delivery.Written) bool {
	wait := groupWait
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)*9/10)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for pause := groupLook; ; pause = min(2*pause, groupLookMost) {
		settled := groups.nextSettled()
		st, known, err := groups.Messages.Status(ctx, w.Partition, w.Offset)
		if err == nil && (!known || st.Ended()) {
			return known && st.Has(delivery.Delivered)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-settled: // here, else a look tells
		case <-ctx.Done():
			t.Stop()
			return false
		}
		t.Stop()
	}
}
