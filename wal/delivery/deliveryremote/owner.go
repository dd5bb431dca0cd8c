package deliveryremote

import (
	"context"
	"fmt"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// Owner is delivery.Owner over a remote.Client.
type Owner struct {
	remote.Owner[delivery.TokenEntry]
}

var _ delivery.Owner = (*Owner)(nil)

// New returns the owner of a namespace's partitions.
func New(c *remote.Client) *Owner {
	return &Owner{remote.Owner[delivery.TokenEntry]{Client: c, Entry: entryFrom}}
}

// Refused implements delivery.Owner.
func (o *Owner) Refused(ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset)) error {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_LogRefused{LogRefused: &clusterv1.LogRefused{From: int64(from), To: int64(to)}}})
	if err != nil {
		return err
	}
	for _, at := range resp.GetLogRefused().GetOffsets() {
		f(wal.Offset(at))
	}
	return nil
}

// Token is what l knows of a token, as it is sent; nil: nothing.
func Token(ctx context.Context, l *delivery.Local, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	e, ok, err := l.Token(ctx, p, id)
	if err != nil || !ok {
		return nil, err
	}
	return &clusterv1.TokenEntry{Hash: e.Hash[:], Offset: int64(e.Offset), LogTime: e.LogTime, Time: e.Time}, nil
}

// Answer answers what an Owner asks, from l.
func Answer(ctx context.Context, l *delivery.Local, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	q, ok := req.GetQuestion().(*clusterv1.AskRequest_LogRefused)
	if !ok {
		return nil, fmt.Errorf("%w question: %T is none of messages", wal.ErrMalformed, req.GetQuestion())
	}
	out := &clusterv1.Offsets{}
	err := l.Refused(ctx, wal.Partition(req.GetPartition()), wal.Offset(q.LogRefused.GetFrom()), wal.Offset(q.LogRefused.GetTo()), func(at wal.Offset) {
		out.Offsets = append(out.Offsets, int64(at))
	})
	return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogRefused{LogRefused: out}}, err
}

func entryFrom(id wal.TokenID, m *clusterv1.TokenEntry) (e delivery.TokenEntry, err error) {
	e = delivery.TokenEntry{ID: id, Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), Time: m.GetTime()}
	e.Hash, err = remote.HashFrom(m.GetHash())
	return e, err
}
