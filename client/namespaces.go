package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Namespaces is the configuration of namespaces.
type Namespaces struct{ c *Client }

// Namespaces returns a handle on the configuration of namespaces.
func (c *Client) Namespaces() *Namespaces { return &Namespaces{c: c} }

// Namespace is one version of a namespace.
type Namespace struct {
	Name        string
	Version     int64
	Abstraction string
	// Config is the document, as YAML.
	Config    string
	UpdatedAt time.Time
	// Incarnation is one life of the name.
	Incarnation string
	// Home is the id of the data directory that holds its store; empty when there is
	// none, none any more, or it needs none.
	Home string
}

func namespaceOf(m *headwaterv1.Namespace) Namespace {
	n := Namespace{Name: m.GetNamespace(), Version: m.GetVersion(), Abstraction: m.GetAbstraction(), Config: m.GetConfig(), Incarnation: m.GetIncarnation(), Home: m.GetHome()}
	if t := m.GetUpdatedAt(); t != nil {
		n.UpdatedAt = t.AsTime()
	}
	return n
}

// ApplyOptions are about one change of a namespace.
type ApplyOptions struct {
	// DryRun says what would change and changes nothing.
	DryRun bool
	// BaseVersion above 0 is the version that the change is based on:
	// ErrConditionFailed when another is current.
	BaseVersion int64
}

// NamespaceChange is one setting that differs. From is empty when it was not
// set, To when it is set no more.
type NamespaceChange struct{ Path, From, To string }

// Applied is what an Apply did.
type Applied struct {
	Name string
	// Version in force; on a dry run the current one, 0 when there is none.
	Version int64
	Changes []NamespaceChange
}

// Apply creates or changes a namespace by its document, YAML or JSON, as a whole
// or not at all. It is in force on return. It carries no token: where its
// outcome is unknown, look with Get, or apply it again.
func (n *Namespaces) Apply(ctx context.Context, document string, o ApplyOptions) (Applied, error) {
	kind := writesBare
	if o.DryRun {
		kind = reads
	}
	req := &headwaterv1.ApplyNamespaceRequest{Config: document, DryRun: o.DryRun, BaseVersion: o.BaseVersion}
	var res *headwaterv1.ApplyNamespaceResponse
	err := n.c.call(ctx, kind, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.namespaces.ApplyNamespace(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Applied{}, err
	}
	a := Applied{Name: res.GetNamespace(), Version: res.GetVersion()}
	for _, c := range res.GetChanges() {
		a.Changes = append(a.Changes, NamespaceChange{Path: c.GetPath(), From: c.GetFrom(), To: c.GetTo()})
	}
	return a, nil
}

// Get reads a namespace: ErrNotFound when there is none.
func (n *Namespaces) Get(ctx context.Context, name string) (Namespace, error) {
	req := &headwaterv1.GetNamespaceRequest{Namespace: name}
	var m *headwaterv1.GetNamespaceResponse
	err := n.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		m, err = n.c.namespaces.GetNamespace(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Namespace{}, err
	}
	return namespaceOf(&headwaterv1.Namespace{
		Namespace: m.GetNamespace(), Version: m.GetVersion(), Config: m.GetConfig(), Abstraction: m.GetAbstraction(),
		UpdatedAt: m.GetUpdatedAt(), Incarnation: m.GetIncarnation(), Home: m.GetHome(),
	}), nil
}

// List reads all namespaces, by name. A failure ends it, as its last pair.
func (n *Namespaces) List(ctx context.Context) iter.Seq2[Namespace, error] {
	return func(yield func(Namespace, error) bool) {
		req := &headwaterv1.ListNamespacesRequest{}
		for {
			var res *headwaterv1.ListNamespacesResponse
			err := n.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
				res, err = n.c.namespaces.ListNamespaces(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(Namespace{}, err)
				return
			}
			for _, m := range res.GetNamespaces() {
				if !yield(namespaceOf(m), nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

// Delete removes a namespace and all its data, for good. confirm must be the
// name once more. It returns the version that the deletion is.
func (n *Namespaces) Delete(ctx context.Context, name, confirm string) (int64, error) {
	req := &headwaterv1.DeleteNamespaceRequest{Namespace: name, Confirm: confirm}
	var res *headwaterv1.DeleteNamespaceResponse
	err := n.c.call(ctx, writesBare, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.namespaces.DeleteNamespace(ctx, req, opts...)
		return err
	})
	if err != nil {
		return 0, err
	}
	return res.GetVersion(), nil
}

// NamespaceEvent is a change of a namespace's configuration or home: as it is after
// it, or, when it was deleted, its name and the version that the deletion is.
type NamespaceEvent struct {
	Namespace
	Deleted bool
	// Since is where another Watch goes on after this event.
	Since int64
}

// Watch yields the namespaces that changed after version since, 0 for all, and then
// every change as it comes. It ends by its context, by leaving the loop, or with
// a failure that does not pass.
func (n *Namespaces) Watch(ctx context.Context, since int64) iter.Seq2[NamespaceEvent, error] {
	return func(yield func(NamespaceEvent, error) bool) {
		req := &headwaterv1.WatchNamespacesRequest{SinceVersion: since}
		follow(ctx, n.c, true,
			func(ctx context.Context, opts ...grpc.CallOption) (grpc.ServerStreamingClient[headwaterv1.WatchNamespacesResponse], error) {
				return n.c.namespaces.WatchNamespaces(ctx, req, opts...)
			},
			func(m *headwaterv1.WatchNamespacesResponse) bool {
				req.SinceVersion = max(req.SinceVersion, m.GetVersion())
				return yield(NamespaceEvent{Namespace: namespaceOf(m.GetNamespace()), Deleted: m.GetDeleted(), Since: m.GetVersion()}, nil)
			},
			func(err error) { yield(NamespaceEvent{}, err) })
	}
}
