package client

import (
	"context"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Admin is for operators.
type Admin struct{ c *Client }

// Admin returns a handle on what operators ask.
func (c *Client) Admin() *Admin { return &Admin{c: c} }

// Status says how the server, its log and its stores are; of one namespace only
// when it is named. The answer is the message of the API.
func (a *Admin) Status(ctx context.Context, namespace string) (*headwaterv1.StatusResponse, error) {
	req := &headwaterv1.StatusRequest{Namespace: namespace}
	var res *headwaterv1.StatusResponse
	err := a.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = a.c.admin.Status(ctx, req, opts...)
		return err
	})
	return res, err
}

// ReleaseOptions are about one release of a namespace.
type ReleaseOptions struct {
	// DryRun says what would be and changes nothing.
	DryRun bool
	// Undo makes the server's data directory the home again, when it was released last
	// and no other has been the home since.
	Undo bool
}

// Release takes a namespace from its home, a data directory that is lost, so that the
// server of another one takes it over. confirm must be the name once more. The answer
// is the message of the API: it says what the next home will do. Release carries no
// token: where its outcome is unknown, look with Namespaces().Get.
func (a *Admin) Release(ctx context.Context, namespace, confirm string, o ReleaseOptions) (*headwaterv1.ReleaseNamespaceResponse, error) {
	kind := writesBare
	if o.DryRun {
		kind = reads
	}
	req := &headwaterv1.ReleaseNamespaceRequest{Namespace: namespace, Confirm: confirm, DryRun: o.DryRun, Undo: o.Undo}
	var res *headwaterv1.ReleaseNamespaceResponse
	err := a.c.call(ctx, kind, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = a.c.admin.ReleaseNamespace(ctx, req, opts...)
		return err
	})
	return res, err
}

// Handshake says what a client of a namespace may expect and ask for. The answer
// is the message of the API.
func (a *Admin) Handshake(ctx context.Context, namespace string) (*headwaterv1.HandshakeResponse, error) {
	req := &headwaterv1.HandshakeRequest{Namespace: namespace, Client: userAgent}
	var res *headwaterv1.HandshakeResponse
	err := a.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = a.c.admin.Handshake(ctx, req, opts...)
		return err
	})
	return res, err
}
