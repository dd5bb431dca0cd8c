package server

import (
	"context"
	"errors"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/cassandrakv"
)

// kvWithoutOwner is the owner of a gateway's partitions. While it is away, a read that asks for no position is
// answered from the rows that it has written to Cassandra, where this process has the cluster.
type kvWithoutOwner struct {
	kv.Owner
	rows *primaryRows[*cassandrakv.Reader]
}

func (x *space) newKVWithoutOwner(o kv.Owner) *kvWithoutOwner {
	return &kvWithoutOwner{o, &primaryRows[*cassandrakv.Reader]{x: x, open: cassandrakv.NewReader}}
}

// Get implements kv.Owner.
func (o *kvWithoutOwner) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	page, err := o.Owner.Get(ctx, q)
	if err == nil || !q.AnyAge || !errors.Is(err, consumers.ErrOwnerAway) {
		return page, err
	}
	r, openErr := o.rows.reader(ctx)
	if r == nil || openErr != nil {
		return nil, errors.Join(err, openErr)
	}
	return r.Get(ctx, q)
}
