package durableremote

import (
	"context"
	"fmt"
	"time"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// Owner is durable.Owner over a remote.Client.
type Owner struct{ Client *remote.Client }

var _ durable.Owner = (*Owner)(nil)

// Fetch implements durable.Owner. An owner that is away is not waited for: other partitions have messages.
func (o *Owner) Fetch(ctx context.Context, p wal.Partition, f *durable.Fetch) (out durable.Fetched, err error) {
	resp, err := o.Client.AskOnce(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerFetch{ConsumerFetch: &clusterv1.ConsumerFetch{
		Consumer: f.Consumer, Limit: int32(f.Limit), Bytes: int64(f.Bytes), AckWait: f.AckWait.Microseconds(), Refused: f.Refused, Strict: f.Strict,
	}}})
	if err != nil {
		return out, err
	}
	m := resp.GetConsumerFetched()
	out = durable.Fetched{Missed: m.GetMissed(), Life: m.GetLife(), InFlight: int(m.GetInFlight()), MaxInFlight: int(m.GetMaxInFlight())}
	for _, x := range m.GetMessages() {
		v := durable.Verdict{Outcome: durable.Outcome(x.GetOutcome()), Reason: x.GetReason()}
		for _, i := range x.GetRefused() {
			v.Partly = append(v.Partly, int(i))
		}
		out.Messages = append(out.Messages, durable.Message{
			Offset: wal.Offset(x.GetOffset()), LogTime: x.GetLogTime(), Record: x.GetRecord(), Attempt: int(x.GetAttempt()),
			Lease: x.GetLease(), Until: x.GetUntil(), Verdict: v,
		})
	}
	return out, nil
}

// Ack implements durable.Owner.
func (o *Owner) Ack(ctx context.Context, p wal.Partition, consumer string, acks []durable.Ack) (expired []int, err error) {
	q := &clusterv1.ConsumerAck{Consumer: consumer}
	for i := range acks {
		a := &acks[i]
		q.Acks = append(q.Acks, &clusterv1.ConsumerAck_One{
			Offset: int64(a.Offset), Life: a.Life, Lease: a.Lease, Until: a.Until, Kind: int32(a.Kind), Delay: a.Delay.Microseconds(),
		})
	}
	resp, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerAck{ConsumerAck: q}})
	if err != nil {
		return nil, err
	}
	for _, i := range resp.GetConsumerExpired().GetIndexes() {
		if int(i) >= len(acks) || i < 0 {
			return nil, fmt.Errorf("%w answer: ack %d of %d", wal.ErrMalformed, i, len(acks))
		}
		expired = append(expired, int(i))
	}
	return expired, nil
}

// Wait implements durable.Owner.
func (o *Owner) Wait(ctx context.Context, p wal.Partition, consumer string) error {
	_, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerWait{ConsumerWait: consumer}})
	return err
}

// Apply implements durable.Owner.
func (o *Owner) Apply(ctx context.Context, p wal.Partition, consumer string, c *durable.Change) error {
	q := &clusterv1.ConsumerApply{Consumer: consumer}
	if c.From != nil {
		from := int64(*c.From)
		q.From = &from
	}
	if c.MaxInFlight != nil {
		n := int32(*c.MaxInFlight)
		q.MaxInFlight = &n
	}
	if c.AckWait != nil {
		w := c.AckWait.Microseconds()
		q.AckWait = &w
	}
	if c.MaxAttempts != nil {
		n := int32(*c.MaxAttempts)
		q.MaxAttempts = &n
	}
	_, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerApply{ConsumerApply: q}})
	return err
}

// Delete implements durable.Owner.
func (o *Owner) Delete(ctx context.Context, p wal.Partition, consumer string) error {
	_, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerDelete{ConsumerDelete: consumer}})
	return err
}

// List implements durable.Owner.
func (o *Owner) List(ctx context.Context, p wal.Partition) (out []durable.Info, err error) {
	resp, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerList{ConsumerList: true}})
	if err != nil {
		return nil, err
	}
	for _, m := range resp.GetConsumerList().GetConsumers() {
		out = append(out, durable.Info{
			Name: m.GetName(),
			Settings: durable.Settings{
				MaxInFlight: int(m.GetMaxInFlight()), AckWait: time.Duration(m.GetAckWait()) * time.Microsecond, MaxAttempts: int(m.GetMaxAttempts()),
			},
			Lag: m.GetLag(), InFlight: m.GetInFlight(), Redelivering: m.GetRedelivering(), Missed: m.GetMissed(), GivenUp: m.GetGivenUp(),
			Oldest: m.GetOldest(),
		})
	}
	return out, nil
}

// Dead implements durable.Owner.
func (o *Owner) Dead(ctx context.Context, p wal.Partition, consumer string) (out []durable.Dead, err error) {
	resp, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerDead{ConsumerDead: consumer}})
	if err != nil {
		return nil, err
	}
	for _, m := range resp.GetConsumerDead().GetRecords() {
		out = append(out, durable.Dead{Consumer: m.GetConsumer(), Offset: wal.Offset(m.GetOffset()), Attempts: int(m.GetAttempts())})
	}
	return out, nil
}

// Revive implements durable.Owner.
func (o *Owner) Revive(ctx context.Context, p wal.Partition, consumer string, at wal.Offset, drop bool, by string) (was bool, err error) {
	resp, err := o.Client.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ConsumerRevive{ConsumerRevive: &clusterv1.ConsumerRevive{
		Consumer: consumer, Offset: int64(at), Drop: drop, By: by,
	}}})
	return resp.GetConsumerRevived(), err
}
