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

// Status implements delivery.Owner.
func (o *Owner) Status(ctx context.Context, p wal.Partition, at wal.Offset) (s delivery.Status, known bool, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_LogStatus{LogStatus: int64(at)}})
	m := resp.GetLogStatus()
	if err != nil || m == nil {
		return s, false, err
	}
	s = delivery.Status{Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), Due: m.GetDue()}
	for _, t := range m.GetTargets() {
		s.Targets = append(s.Targets, targetFrom(t))
	}
	return s, true, nil
}

func targetFrom(t *clusterv1.LogStatus_Target) delivery.TargetStatus {
	return delivery.TargetStatus{
		Target: t.GetName(), State: delivery.TargetState(t.GetState()), Attempts: int(t.GetAttempts()), Begun: t.GetBegun(),
		Error: t.GetError(), At: t.GetAt(), By: t.GetBy(),
	}
}

func targetMessage(t *delivery.TargetStatus) *clusterv1.LogStatus_Target {
	return &clusterv1.LogStatus_Target{
		Name: t.Target, State: int32(t.State), Attempts: int32(t.Attempts), Begun: t.Begun, Error: t.Error, At: t.At, By: t.By,
	}
}

func statusMessage(s *delivery.Status) *clusterv1.LogStatus {
	m := &clusterv1.LogStatus{Offset: int64(s.Offset), LogTime: s.LogTime, Due: s.Due}
	for i := range s.Targets {
		m.Targets = append(m.Targets, targetMessage(&s.Targets[i]))
	}
	return m
}

// Delayed implements delivery.Owner. Of a target it tells the name.
func (o *Owner) Delayed(
	ctx context.Context, p wal.Partition, key []byte, due int64, at wal.Offset, before int64, limit int,
) (out []delivery.Pending, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_LogDelayed{LogDelayed: &clusterv1.LogDelayed{
		Key: key, Due: due, Offset: int64(at), Before: before, Limit: int32(limit),
	}}})
	for _, m := range resp.GetLogDelayed().GetMessages() {
		one := delivery.Pending{Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), Due: m.GetDue(), Key: m.GetKey(), Keyless: m.GetKeyless()}
		for _, t := range m.GetTargets() {
			one.Aims = append(one.Aims, delivery.Aim{Target: t})
		}
		out = append(out, one)
	}
	return out, err
}

func pendingMessage(m *delivery.Pending) *clusterv1.LogPending_Message {
	out := &clusterv1.LogPending_Message{Offset: int64(m.Offset), LogTime: m.LogTime, Due: m.Due, Key: m.Key, Keyless: m.Keyless}
	for _, a := range m.Aims {
		out.Targets = append(out.Targets, a.Target)
	}
	return out
}

// Dead implements delivery.Owner.
func (o *Owner) Dead(
	ctx context.Context, p wal.Partition, behind delivery.DeadPlace, limit int,
) (out []delivery.DeadDelivery, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_LogDead{LogDead: &clusterv1.LogDeadPlace{
		At: behind.At, Offset: int64(behind.Offset), Target: behind.Target, Limit: int32(limit),
	}}})
	for _, m := range resp.GetLogDead().GetDeliveries() {
		out = append(out, delivery.DeadDelivery{Offset: wal.Offset(m.GetOffset()), Key: m.GetKey(), TargetStatus: targetFrom(m.GetStatus())})
	}
	return out, err
}

// Find implements delivery.Owner.
func (o *Owner) Find(ctx context.Context, p wal.Partition, n wal.Nonce) (out []delivery.Named, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_LogFind{LogFind: n[:]}})
	for _, m := range resp.GetLogFind().GetMessages() {
		one := delivery.Named{Offset: wal.Offset(m.GetOffset())}
		if copy(one.ID[:], m.GetId()) != len(one.ID) {
			return nil, fmt.Errorf("%w identity of a message: %d bytes", wal.ErrMalformed, len(m.GetId()))
		}
		out = append(out, one)
	}
	return out, err
}

// Cancelled implements delivery.Owner.
func (o *Owner) Cancelled(ctx context.Context, p wal.Partition, at wal.Offset) (done, late int64, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_LogCancelled{LogCancelled: int64(at)}})
	return resp.GetLogCancelled().GetCancelled(), resp.GetLogCancelled().GetTooLate(), err
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
	p := wal.Partition(req.GetPartition())
	switch q := req.GetQuestion().(type) {
	case *clusterv1.AskRequest_LogRefused:
		out := &clusterv1.Offsets{}
		err := l.Refused(ctx, p, wal.Offset(q.LogRefused.GetFrom()), wal.Offset(q.LogRefused.GetTo()), func(at wal.Offset) {
			out.Offsets = append(out.Offsets, int64(at))
		})
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogRefused{LogRefused: out}}, err
	case *clusterv1.AskRequest_LogStatus:
		s, known, err := l.Status(ctx, p, wal.Offset(q.LogStatus))
		if err != nil || !known {
			return &clusterv1.AskResponse{}, err
		}
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogStatus{LogStatus: statusMessage(&s)}}, nil
	case *clusterv1.AskRequest_LogDelayed:
		d := q.LogDelayed
		ms, err := l.Delayed(ctx, p, d.Key, d.GetDue(), wal.Offset(d.GetOffset()), d.GetBefore(), int(d.GetLimit()))
		out := &clusterv1.LogPending{}
		for i := range ms {
			out.Messages = append(out.Messages, pendingMessage(&ms[i]))
		}
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogDelayed{LogDelayed: out}}, err
	case *clusterv1.AskRequest_LogFind:
		var n wal.Nonce
		copy(n[:], q.LogFind)
		found, err := l.Find(ctx, p, n)
		out := &clusterv1.LogNamed{}
		for i := range found {
			out.Messages = append(out.Messages, &clusterv1.LogNamed_Message{Offset: int64(found[i].Offset), Id: found[i].ID[:]})
		}
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogFind{LogFind: out}}, err
	case *clusterv1.AskRequest_LogDead:
		d := q.LogDead
		ds, err := l.Dead(ctx, p, delivery.DeadPlace{At: d.GetAt(), Offset: wal.Offset(d.GetOffset()), Target: d.GetTarget()}, int(d.GetLimit()))
		out := &clusterv1.LogDead{}
		for i := range ds {
			out.Deliveries = append(out.Deliveries, &clusterv1.LogDead_Delivery{Offset: int64(ds[i].Offset), Key: ds[i].Key, Status: targetMessage(&ds[i].TargetStatus)})
		}
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogDead{LogDead: out}}, err
	case *clusterv1.AskRequest_LogCancelled:
		done, late, err := l.Cancelled(ctx, p, wal.Offset(q.LogCancelled))
		return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_LogCancelled{LogCancelled: &clusterv1.LogCancelled{Cancelled: done, TooLate: late}}}, err
	default:
		return nil, fmt.Errorf("%w question: %T is none of messages", wal.ErrMalformed, q)
	}
}

func entryFrom(id wal.TokenID, m *clusterv1.TokenEntry) (e delivery.TokenEntry, err error) {
	e = delivery.TokenEntry{ID: id, Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), Time: m.GetTime()}
	e.Hash, err = remote.HashFrom(m.GetHash())
	return e, err
}
