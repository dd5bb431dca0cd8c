package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// GroupsNamespace is the log namespace whose messages are groups: the writes of a MutateItems that no single record
// of the log can hold. Each is brought to the logs of its namespaces by a GroupRelay.
const GroupsNamespace = "headwater-groups"

// GroupsDocument makes it.
const GroupsDocument = "namespace: " + GroupsNamespace + "\nabstraction: log\n" +
	"description: groups of MutateItems over several partitions, on their way to the namespaces that they write to\n"

// MutateItems does a group of mutations as one: all of it takes place, or none.
//
// What is puts and deletes in one partition of one namespace, as those of one record always are, is one record: it
// is seen at once, and its conditions hold for all of it. Any other group is one message of GroupsNamespace. When
// that is durable the group takes place, whatever becomes of the caller; the call answers when all of it is in the
// logs of its namespaces, or when its time is nearly over: see LogService.GetGroup.
func (s *KeyValue) MutateItems(
	ctx context.Context, req *headwaterv1.MutateItemsRequest,
) (*headwaterv1.MutateItemsResponse, error) {
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

// write writes a group that is one record.
func (u *groupUnit) write(
	ctx context.Context, tok wal.Token, req *headwaterv1.MutateItemsRequest,
) (*headwaterv1.MutateItemsResponse, error) {
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
	case u.adds != nil:
		as, err = u.ns.Counter.Stage(tok, u.adds)
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
		const many = "the group is %d records; it may be %d"
		return fail(apierrors.New(apierrors.TooManyItems, many, len(g.Parts), delivery.MaxGroupParts))
	case len(payload) > mostGroup:
		const large = "the group has %d bytes; it may have %d"
		return fail(apierrors.New(apierrors.RequestTooLarge, large, len(payload), mostGroup))
	}
	if err := groups.admitWrite(1, len(payload)); err != nil {
		return fail(err)
	}
	w, err := groups.Messages.Write(ctx, &delivery.Message{
		Token: tok, Hash: g.Hash(),
		Body: delivery.Body{Payload: payload, Targets: []string{delivery.GroupTarget}},
	})
	if err != nil {
		return nil, forWrite(err, errors.Is(err, wal.ErrUnknown), tokenMessage(w.Token, req.GetToken()))
	}
	done := awaitGroup(ctx, groups, &w)
	out := &headwaterv1.MutateItemsResponse{GroupId: groups.groupID(w.Partition, w.Offset, g.Mutations)}
	for _, sp := range call.order {
		res := &headwaterv1.WriteResult{
			Token: tokenMessage(w.Token, req.GetToken()), Durability: groups.durability(),
			Duplicate: duplicateOf(w.Duplicate, w.Unsure),
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
	// mostGroup is the largest encoded group.
	mostGroup = wal.MaxRecordBytes - envelopeRoom
	// groupWait bounds how long a call waits for its group to be in all logs.
	groupWait = 10 * time.Second
	// groupLook and groupLookMost are the pauses between two looks, where another process brings the group.
	groupLook     = time.Millisecond
	groupLookMost = 50 * time.Millisecond
)

// position covers what a group that is done has in a namespace: what the log has by now of the partitions. "": it is
// not known.
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

// awaitGroup returns when a group is in the logs of its namespaces, or when a tenth of the call's time is left, and
// reports whether it is.
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
