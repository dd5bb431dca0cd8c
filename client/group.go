package client

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Group collects writes of several namespaces that take place all or not at all. It is not safe for concurrent use.
type Group struct {
	c   *Client
	ms  []*headwaterv1.Mutation
	err error // the first of what was put together wrongly
	// namespaces are those of ms, in order of first appearance.
	namespaces []string
}

// Group returns an empty group; Write sends it.
func (c *Client) Group() *Group { return &Group{c: c} }

func (g *Group) add(namespace string, m *headwaterv1.Mutation, err error) *Group {
	if err != nil && g.err == nil {
		g.err = fmt.Errorf("mutation %d of a group: %w", len(g.ms), err)
	}
	g.ms = append(g.ms, m)
	if !slices.Contains(g.namespaces, namespace) {
		g.namespaces = append(g.namespaces, namespace)
	}
	return g
}

// Put adds items of a record of a kv namespace. Values are at most 1 MiB each.
func (g *Group) Put(namespace, id string, items ...PutItem) *Group {
	req := &headwaterv1.PutItemsRequest{Namespace: namespace, Id: id}
	var err error
	for i := range items {
		var m *headwaterv1.PutItem
		if m, err = g.c.KV(namespace).putItem(&items[i]); err != nil {
			break
		}
		if len(m.GetValue()) > maxInline {
			err = invalid(apierrors.ValueTooLarge, fmt.Sprintf("a value has %d bytes; in a group it may have %d", len(m.GetValue()), maxInline))
			break
		}
		req.Items = append(req.Items, m)
	}
	return g.add(namespace, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Put{Put: req}}, err)
}

// Delete adds the deletion of items of a record of a kv namespace.
func (g *Group) Delete(namespace, id string, w Which) *Group {
	predicate, err := w.predicate()
	req := &headwaterv1.DeleteItemsRequest{Namespace: namespace, Id: id, Predicate: predicate}
	return g.add(namespace, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Delete{Delete: req}}, err)
}

// Add adds an add to a counter.
func (g *Group) Add(namespace, counter string, delta int64) *Group {
	req := &headwaterv1.AddCountRequest{Namespace: namespace, Counter: counter, Delta: delta}
	return g.add(namespace, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Add{Add: req}}, nil)
}

// Event adds an event of a series.
func (g *Group) Event(namespace string, e Event) *Group {
	m, err := e.Message()
	req := &headwaterv1.WriteEventRecordsSyncRequest{Namespace: namespace, Events: []*headwaterv1.EventRecord{m}}
	return g.add(namespace, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Event{Event: req}}, err)
}

// Message adds a message of a log namespace. Its Token is of no account.
func (g *Group) Message(namespace string, m NewMessage) *Group {
	req := &headwaterv1.WriteToLogRequest{
		Namespace: namespace, Key: m.Key, Payload: m.Payload, Headers: m.Headers, Targets: m.Targets, Lifecycle: m.lifecycle(),
	}
	return g.add(namespace, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Message{Message: req}}, nil)
}

// GroupResult is an acknowledged group.
type GroupResult struct {
	// ID is for Client.GroupState.
	ID string
	// Token is the one that the group went under.
	Token Token
	// Results has one for each namespace, in order of first appearance. They have no positions where the group was not yet
	// known to be in all logs: see Client.GroupState.
	Results []WriteResult
}

// Write sends the group under a token, of which the zero one has the client make one, and again until it has an
// answer or ctx ends. What is acknowledged takes place. It is in the logs of all namespaces by then, unless one of
// them could not take its part: see GroupState.
func (g *Group) Write(ctx context.Context, t Token) (GroupResult, error) {
	if g.err != nil {
		return GroupResult{}, g.err
	}
	token := g.c.complete(t)
	req := &headwaterv1.MutateItemsRequest{Mutations: g.ms, Token: token.message()}
	var res *headwaterv1.MutateItemsResponse
	err := g.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = g.c.kv.MutateItems(ctx, req, opts...)
		return err
	})
	if err != nil {
		return GroupResult{}, err
	}
	out := GroupResult{ID: res.GetGroupId(), Token: token}
	for i, r := range res.GetResults() {
		if i < len(g.namespaces) {
			out.Results = append(out.Results, g.c.result(g.namespaces[i], r, token, nil))
		}
	}
	return out, nil
}

// GroupState tells how far a group is: done of total mutations are in the logs of their namespaces. The group is
// whole when they are equal.
func (c *Client) GroupState(ctx context.Context, id string) (done, total int, err error) {
	var res *headwaterv1.GetGroupResponse
	err = c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = c.log.GetGroup(ctx, &headwaterv1.GetGroupRequest{GroupId: id}, opts...)
		return err
	})
	return int(res.GetDone()), int(res.GetTotal()), err
}
