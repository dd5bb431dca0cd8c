package client

import (
	"context"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Which selects items of a record to delete. Exactly one field is set.
type Which struct {
	// Keys, 1 to 1,000.
	Keys []string
	// Range is a span of keys; it costs the same whatever it holds.
	Range *Range
	// All is the whole record; it costs the same whatever it holds.
	All bool
}

func (w *Which) predicate() (*headwaterv1.Predicate, error) {
	switch {
	case w.Keys != nil && w.Range == nil && !w.All:
		return keysMessage(w.Keys), nil
	case w.Range != nil && w.Keys == nil && !w.All:
		return w.Range.message(nil), nil
	case w.All && w.Keys == nil && w.Range == nil:
		return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}, nil
	}
	return nil, invalid(apierrors.BadPredicate, "exactly one of Keys, Range and All must be set")
}

// Delete deletes items of a record. Deleting what is not there is no error.
// Durable on return as WriteResult.Durability says.
func (k *KV) Delete(ctx context.Context, id string, keys ...string) (WriteResult, error) {
	return k.DeleteItems(ctx, id, Which{Keys: keys}, WriteOptions{})
}

// DeleteRange deletes a span of keys of a record.
func (k *KV) DeleteRange(ctx context.Context, id string, r Range) (WriteResult, error) {
	return k.DeleteItems(ctx, id, Which{Range: &r}, WriteOptions{})
}

// DeleteRecord deletes a record, all its items at once.
func (k *KV) DeleteRecord(ctx context.Context, id string) (WriteResult, error) {
	return k.DeleteItems(ctx, id, Which{All: true}, WriteOptions{})
}

// DeleteItems deletes what w selects, all or none. IfVersion goes together with
// one key.
func (k *KV) DeleteItems(ctx context.Context, id string, w Which, o WriteOptions) (WriteResult, error) {
	if err := o.check(); err != nil {
		return WriteResult{}, err
	}
	predicate, err := w.predicate()
	if err != nil {
		return WriteResult{}, err
	}
	token := k.c.complete(o.Token)
	req := &headwaterv1.DeleteItemsRequest{Namespace: k.namespace, Id: id, Predicate: predicate, Token: token.message(), Condition: o.condition()}
	var res *headwaterv1.DeleteItemsResponse
	err = k.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = k.c.kv.DeleteItems(ctx, req, opts...)
		return err
	})
	if err != nil {
		return WriteResult{}, err
	}
	return k.c.result(k.namespace, res.GetResult(), token, nil), nil
}
