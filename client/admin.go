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
