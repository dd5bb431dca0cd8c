package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Put writes one item. Durable on return as WriteResult.Durability says. A value
// above 1 MiB is uploaded, up to MaxValueBytes.
func (k *KV) Put(ctx context.Context, id, key string, value []byte) (WriteResult, error) {
	return k.PutItems(ctx, id, []PutItem{{Key: key, Value: value}}, WriteOptions{})
}

// PutIfAbsent writes one item if there is none: ErrConditionFailed otherwise.
func (k *KV) PutIfAbsent(ctx context.Context, id, key string, value []byte) (WriteResult, error) {
	return k.PutItems(ctx, id, []PutItem{{Key: key, Value: value}}, WriteOptions{IfAbsent: true})
}

// PutIfVersion writes one item if it has a version that a read or a write gave:
// ErrConditionFailed otherwise, with the one it has in Error.CurrentVersion.
func (k *KV) PutIfVersion(ctx context.Context, id, key string, value []byte, version string) (WriteResult, error) {
	return k.PutItems(ctx, id, []PutItem{{Key: key, Value: value}}, WriteOptions{IfVersion: version})
}

// PutItems writes items of one record, 1 to 1,000: all of them, or none. Their
// values are at most 1 MiB each; a larger one must be the only item.
func (k *KV) PutItems(ctx context.Context, id string, items []PutItem, o WriteOptions) (WriteResult, error) {
	if err := o.check(); err != nil {
		return WriteResult{}, err
	}
	req := &headwaterv1.PutItemsRequest{Namespace: k.namespace, Id: id, Condition: o.condition(), Items: make([]*headwaterv1.PutItem, len(items))}
	for i := range items {
		m, err := k.putItem(&items[i])
		if err != nil {
			return WriteResult{}, err
		}
		req.Items[i] = m
	}
	if len(items) == 1 && len(req.Items[0].Value) > maxInline {
		return k.upload(ctx, id, req.Items[0], o)
	}
	token := k.c.complete(o.Token)
	req.Token = token.message()
	res, err := k.put(ctx, req, token)
	if err != nil {
		return WriteResult{}, err
	}
	if req.Condition != nil { // then a version can be above its token's time
		for _, v := range res.GetVersions() {
			k.c.clock.observeVersion(v)
		}
	}
	return k.c.result(k.namespace, res.GetResult(), token, res.GetVersions()), nil
}

// put sends a put until it has its answer.
func (k *KV) put(ctx context.Context, req *headwaterv1.PutItemsRequest, token Token) (res *headwaterv1.PutItemsResponse, err error) {
	if k.c.cfg.BatchInFlight < 0 {
		err = k.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			res, err = k.c.kv.PutItems(ctx, req, opts...)
			return err
		})
		return res, err
	}
	f, err := frame(1, req)
	if err != nil {
		return nil, invalid(apierrors.BadUTF8, err.Error())
	}
	return k.c.batcher(batchKey{k.namespace, req.Condition != nil}).until(ctx, token, f, len(req.Items), nil)
}

func (k *KV) putItem(it *PutItem) (*headwaterv1.PutItem, error) {
	if len(it.Value) > MaxValueBytes {
		return nil, invalid(apierrors.ValueTooLarge, fmt.Sprintf("a value has %d bytes; it may have %d", len(it.Value), MaxValueBytes))
	}
	m := &headwaterv1.PutItem{Key: []byte(it.Key), Ttl: ttlMessage(it.TTL), ContentType: it.ContentType}
	how := it.Compression
	if how == "" && len(it.Value) >= k.c.cfg.CompressAbove {
		how = k.c.cfg.Compression
	}
	switch how {
	case "", Zstd, S2, Uncompressed:
	default:
		return nil, invalid(apierrors.UnsupportedCompression, fmt.Sprintf("compression %.32q is not supported; use zstd, s2 or none", how))
	}
	var err error
	m.Value, m.Compression, err = compress(how, it.Value)
	return m, err
}
