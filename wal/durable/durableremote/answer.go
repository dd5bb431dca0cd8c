package durableremote

import (
	"context"
	"time"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// Answer answers what an Owner asks, from l; ok is false where the question is another.
func Answer(ctx context.Context, l durable.Owner, req *clusterv1.AskRequest) (resp *clusterv1.AskResponse, ok bool, err error) {
	p := wal.Partition(req.GetPartition())
	resp = &clusterv1.AskResponse{}
	switch q := req.GetQuestion().(type) {
	case *clusterv1.AskRequest_ConsumerFetch:
		f := q.ConsumerFetch
		got, err := l.Fetch(ctx, p, &durable.Fetch{
			Consumer: f.GetConsumer(), Limit: int(f.GetLimit()), Bytes: int(f.GetBytes()), AckWait: time.Duration(f.GetAckWait()) * time.Microsecond,
			Refused: f.GetRefused(), Strict: f.GetStrict(),
		})
		resp.Answer = &clusterv1.AskResponse_ConsumerFetched{ConsumerFetched: fetchedMessage(&got)}
		return resp, true, err
	case *clusterv1.AskRequest_ConsumerAck:
		var acks []durable.Ack
		for _, a := range q.ConsumerAck.GetAcks() {
			acks = append(acks, durable.Ack{
				Offset: wal.Offset(a.GetOffset()), Life: a.GetLife(), Lease: a.GetLease(), Until: a.GetUntil(), Kind: durable.AckKind(a.GetKind()),
				Delay: time.Duration(a.GetDelay()) * time.Microsecond,
			})
		}
		expired, err := l.Ack(ctx, p, q.ConsumerAck.GetConsumer(), acks)
		m := &clusterv1.ConsumerExpired{}
		for _, i := range expired {
			m.Indexes = append(m.Indexes, int32(i))
		}
		resp.Answer = &clusterv1.AskResponse_ConsumerExpired{ConsumerExpired: m}
		return resp, true, err
	case *clusterv1.AskRequest_ConsumerWait:
		return resp, true, l.Wait(ctx, p, q.ConsumerWait)
	case *clusterv1.AskRequest_ConsumerApply:
		return resp, true, l.Apply(ctx, p, q.ConsumerApply.GetConsumer(), changeFrom(q.ConsumerApply))
	case *clusterv1.AskRequest_ConsumerDelete:
		return resp, true, l.Delete(ctx, p, q.ConsumerDelete)
	case *clusterv1.AskRequest_ConsumerList:
		infos, err := l.List(ctx, p)
		m := &clusterv1.ConsumerList{}
		for i := range infos {
			m.Consumers = append(m.Consumers, infoMessage(&infos[i]))
		}
		resp.Answer = &clusterv1.AskResponse_ConsumerList{ConsumerList: m}
		return resp, true, err
	case *clusterv1.AskRequest_ConsumerDead:
		dead, err := l.Dead(ctx, p, q.ConsumerDead)
		m := &clusterv1.ConsumerDead{}
		for i := range dead {
			m.Records = append(m.Records, &clusterv1.ConsumerDead_Record{Consumer: dead[i].Consumer, Offset: int64(dead[i].Offset), Attempts: int32(dead[i].Attempts)})
		}
		resp.Answer = &clusterv1.AskResponse_ConsumerDead{ConsumerDead: m}
		return resp, true, err
	case *clusterv1.AskRequest_ConsumerRevive:
		r := q.ConsumerRevive
		was, err := l.Revive(ctx, p, r.GetConsumer(), wal.Offset(r.GetOffset()), r.GetDrop(), r.GetBy())
		resp.Answer = &clusterv1.AskResponse_ConsumerRevived{ConsumerRevived: was}
		return resp, true, err
	}
	return nil, false, nil
}

func fetchedMessage(got *durable.Fetched) *clusterv1.ConsumerFetched {
	out := &clusterv1.ConsumerFetched{Missed: got.Missed, Life: got.Life, InFlight: int32(got.InFlight), MaxInFlight: int32(got.MaxInFlight)}
	for i := range got.Messages {
		m := &got.Messages[i]
		x := &clusterv1.ConsumerFetched_Message{
			Offset: int64(m.Offset), LogTime: m.LogTime, Record: m.Record, Attempt: int32(m.Attempt), Lease: m.Lease, Until: m.Until,
			Outcome: int32(m.Verdict.Outcome), Reason: m.Verdict.Reason,
		}
		for _, k := range m.Verdict.Partly {
			x.Refused = append(x.Refused, int32(k))
		}
		out.Messages = append(out.Messages, x)
	}
	return out
}

func changeFrom(m *clusterv1.ConsumerApply) *durable.Change {
	c := &durable.Change{}
	if m.From != nil {
		o := wal.Offset(m.GetFrom())
		c.From = &o
	}
	if m.MaxInFlight != nil {
		n := int(m.GetMaxInFlight())
		c.MaxInFlight = &n
	}
	if m.AckWait != nil {
		w := time.Duration(m.GetAckWait()) * time.Microsecond
		c.AckWait = &w
	}
	if m.MaxAttempts != nil {
		n := int(m.GetMaxAttempts())
		c.MaxAttempts = &n
	}
	return c
}

func infoMessage(i *durable.Info) *clusterv1.ConsumerList_Consumer {
	return &clusterv1.ConsumerList_Consumer{
		Name: i.Name, MaxInFlight: int32(i.MaxInFlight), AckWait: i.AckWait.Microseconds(), MaxAttempts: int32(i.MaxAttempts),
		Lag: i.Lag, InFlight: i.InFlight, Redelivering: i.Redelivering, Missed: i.Missed, GivenUp: i.GivenUp, Oldest: i.Oldest,
	}
}
