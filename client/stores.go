package client

import (
	"context"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// ask is one call of the AdminService that changes stores: it may be sent again,
// since what is done already is success.
func ask[Q, A any](ctx context.Context, a *Admin, req Q, call func(context.Context, Q, ...grpc.CallOption) (A, error)) (res A, err error) {
	err = a.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = call(ctx, req, opts...)
		return err
	})
	return res, err
}

// Stores lists the stores of a namespace. The messages are those of the API.
func (a *Admin) Stores(ctx context.Context, namespace string) ([]*headwaterv1.Store, error) {
	res, err := ask(ctx, a, &headwaterv1.ListStoresRequest{Namespace: namespace}, a.c.admin.ListStores)
	return res.GetStores(), err
}

// CompareStore compares a store that follows with the PRIMARY, and returns the job
// that does.
func (a *Admin) CompareStore(ctx context.Context, namespace, store string) (job string, err error) {
	res, err := ask(ctx, a, &headwaterv1.CompareStoreRequest{Namespace: namespace, Store: store}, a.c.admin.CompareStore)
	return res.GetJob(), err
}

// PromoteStore makes a SHADOW the PRIMARY. It returns when every partition has
// turned. acceptDifferences promotes one that is not equal.
func (a *Admin) PromoteStore(ctx context.Context, namespace, store string, acceptDifferences bool) (*headwaterv1.Store, error) {
	req := &headwaterv1.PromoteStoreRequest{Namespace: namespace, Store: store, AcceptDifferences: acceptDifferences}
	res, err := ask(ctx, a, req, a.c.admin.PromoteStore)
	return res.GetStore(), err
}

// RollbackStore makes a RETIRING store the PRIMARY again.
func (a *Admin) RollbackStore(ctx context.Context, namespace, store string) (*headwaterv1.Store, error) {
	res, err := ask(ctx, a, &headwaterv1.RollbackStoreRequest{Namespace: namespace, Store: store}, a.c.admin.RollbackStore)
	return res.GetStore(), err
}

// DropStore removes a store that does not serve. confirm is its name again.
func (a *Admin) DropStore(ctx context.Context, namespace, store, confirm string) error {
	_, err := ask(ctx, a, &headwaterv1.DropStoreRequest{Namespace: namespace, Store: store, Confirm: confirm}, a.c.admin.DropStore)
	return err
}

// Rebuild makes the PRIMARY anew from the log, and returns the job that does. On a
// dry run it only checks, and the job is empty.
func (a *Admin) Rebuild(ctx context.Context, req *headwaterv1.RebuildRequest) (job string, err error) {
	res, err := ask(ctx, a, req, a.c.admin.Rebuild)
	return res.GetJob(), err
}

// Jobs lists what runs in the background, and what has ended lately.
func (a *Admin) Jobs(ctx context.Context) ([]*headwaterv1.Job, error) {
	res, err := ask(ctx, a, &headwaterv1.ListJobsRequest{}, a.c.admin.ListJobs)
	return res.GetJobs(), err
}

// Job returns a job.
func (a *Admin) Job(ctx context.Context, id string) (*headwaterv1.Job, error) {
	res, err := ask(ctx, a, &headwaterv1.GetJobRequest{Id: id}, a.c.admin.GetJob)
	return res.GetJob(), err
}

// CancelJob ends a job and returns it.
func (a *Admin) CancelJob(ctx context.Context, id string) (*headwaterv1.Job, error) {
	res, err := ask(ctx, a, &headwaterv1.CancelJobRequest{Id: id}, a.c.admin.CancelJob)
	return res.GetJob(), err
}
