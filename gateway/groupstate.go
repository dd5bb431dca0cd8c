package gateway

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// groupID names a group by the record that it is, and how many mutations it has.
func (n *Namespace) groupID(p wal.Partition, o wal.Offset, mutations int) string {
	return fmt.Sprintf("%s-%d", n.messageID(p, o), mutations)
}

// parseGroupID finds what a group is.
func (d *Directory) parseGroupID(
	ctx context.Context, id string,
) (ns *Namespace, p wal.Partition, o wal.Offset, mutations int, err error) {
	at := strings.LastIndexByte(id, '-')
	n, malformed := strconv.ParseUint(id[at+1:], 10, 31)
	if at < incarnationChars || malformed != nil || n == 0 || n > MaxItems {
		const bad = "group_id %.64q is not one that MutateItems has answered"
		return nil, 0, 0, 0, apierrors.New(apierrors.BadMessageID, bad, id)
	}
	if _, err := d.lookup(ctx, GroupsNamespace); err != nil && apierrors.From(err).Reason != apierrors.NamespaceNotFound {
		return nil, 0, 0, 0, err
	}
	for _, ns := range d.All() {
		if ns.Stream == nil || ns.Failed() != nil || !strings.HasPrefix(id, ns.Stream.Info().Incarnation.String()[:incarnationChars]) {
			continue
		}
		if p, o, err = ns.parseMessageID(id[:at]); err != nil {
			return nil, 0, 0, 0, err
		}
		return ns, p, o, int(n), nil
	}
	const unknown = "nothing is known of group %.64s; a group is known for a day after its end"
	return nil, 0, 0, 0, apierrors.New(apierrors.MessageNotFound, unknown, id)
}

// groupApplied is how long GetGroup waits for a group that is one record to be applied.
const groupApplied = 100 * time.Millisecond

// GetGroup tells how far a group of MutateItems is.
func (s *Log) GetGroup(ctx context.Context, req *headwaterv1.GetGroupRequest) (*headwaterv1.GetGroupResponse, error) {
	ns, p, o, total, err := s.dir.parseGroupID(ctx, req.GetGroupId())
	if err != nil {
		return nil, err
	}
	out := &headwaterv1.GetGroupResponse{State: headwaterv1.GetGroupResponse_APPLYING, Total: int32(total)}
	done := false
	switch {
	case ns.Messages != nil:
		st, known, err := ns.Messages.Status(ctx, p, o)
		switch {
		case err != nil:
			return nil, fromDomain(err)
		case !known:
			return nil, ns.unknownMessage(req.GetGroupId())
		case st.Has(delivery.Dead), st.Has(delivery.Dropped), st.Has(delivery.Cancelled):
			out.State = headwaterv1.GetGroupResponse_EXPIRED
		default:
			done = st.Ended()
		}
	case ns.KV != nil:
		if done, err = ns.recordApplied(ctx, p, o); err != nil {
			return nil, fromDomain(err)
		}
	default:
		return nil, ns.unknownMessage(req.GetGroupId())
	}
	if done {
		out.State, out.Done = headwaterv1.GetGroupResponse_DONE, out.Total
	}
	return out, nil
}

// recordApplied reports whether the record at a place is applied, or soon is. wal.ErrBeyondEnd: there is none.
func (n *Namespace) recordApplied(ctx context.Context, p wal.Partition, o wal.Offset) (bool, error) {
	b, err := n.Stream.Log().Bounds(ctx, p)
	if err != nil {
		return false, err
	}
	if o >= b.End {
		return false, wal.ErrBeyondEnd
	}
	soon, cancel := context.WithTimeout(ctx, groupApplied)
	defer cancel()
	err = n.KV.Owner.Wait(soon, p, o)
	if err != nil && ctx.Err() == nil { // its owner is away, or takes longer
		return false, nil
	}
	return err == nil, err
}
