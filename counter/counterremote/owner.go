package counterremote

import (
	"context"
	"fmt"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Owner is counter.Owner over a remote.Client.
type Owner struct {
	remote.Owner[counter.TokenEntry]
}

var _ counter.Owner = (*Owner)(nil)

// New returns the owner of a namespace's partitions.
func New(c *remote.Client) *Owner {
	return &Owner{remote.Owner[counter.TokenEntry]{Client: c, Entry: entryFrom}}
}

// Counts implements counter.Owner.
func (o *Owner) Counts(ctx context.Context, p wal.Partition, names []string, now int64, out []counter.Amount) (st counter.State, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_CounterCounts{CounterCounts: &clusterv1.CounterCounts{Names: names, Now: now}}})
	if err != nil {
		return st, err
	}
	m := resp.GetCounterCounts()
	values, held := m.GetValues(), m.GetHeld()
	if len(values) != len(names) || len(held) != 0 && len(held) != len(names) {
		return st, fmt.Errorf("%w answer: %d counters were asked for, and %d came", wal.ErrMalformed, len(names), len(values))
	}
	for i := range values {
		out[i].Value = values[i]
		if len(held) > 0 {
			out[i].Held = held[i]
		}
	}
	return stateFrom(m.GetAsOf()), nil
}

// List implements counter.Owner.
func (o *Owner) List(ctx context.Context, p wal.Partition, prefix, above []byte, limit int, now int64) (list []counter.Listed, st counter.State, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_CounterList{CounterList: &clusterv1.CounterList{
		Prefix: prefix, Above: above, HasAbove: above != nil, Limit: int64(limit), Now: now,
	}}})
	if err != nil {
		return nil, st, err
	}
	m := resp.GetCounterList()
	list = make([]counter.Listed, len(m.GetCounts()))
	for i, c := range m.GetCounts() {
		list[i] = counter.Listed{Name: c.GetName(), Amount: counter.Amount{Value: c.GetValue(), Held: c.GetHeld()}}
	}
	return list, stateFrom(m.GetAsOf()), nil
}

// Series implements counter.Owner.
func (o *Owner) Series(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64) ([]counter.Bucket, counter.State, error) {
	return o.series(ctx, p, name, edges, now, false)
}

// FineSeries implements counter.Owner.
func (o *Owner) FineSeries(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64) ([]counter.Bucket, counter.State, error) {
	return o.series(ctx, p, name, edges, now, true)
}

func (o *Owner) series(ctx context.Context, p wal.Partition, name []byte, edges []int64, now int64, fine bool) (sums []counter.Bucket, st counter.State, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_CounterSeries{CounterSeries: &clusterv1.CounterSeries{
		Name: name, Edges: edges, Now: now, Fine: fine,
	}}})
	if err != nil {
		return nil, st, err
	}
	m := resp.GetCounterSeries()
	if len(m.GetSums()) != len(edges)-1 {
		return nil, st, fmt.Errorf("%w answer: %d sums between %d edges", wal.ErrMalformed, len(m.GetSums()), len(edges))
	}
	sums = make([]counter.Bucket, len(m.GetSums()))
	for i, s := range m.GetSums() {
		sums[i] = counter.Bucket{Lo: s.GetLo(), Hi: s.GetHi(), Adds: s.GetAdds()}
	}
	return sums, stateFrom(m.GetAsOf()), nil
}

// Recount implements counter.Owner.
func (o *Owner) Recount(ctx context.Context, p wal.Partition, name []byte, now int64) (c counter.Recount, st counter.State, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_CounterRecount{CounterRecount: &clusterv1.CounterRecount{Name: name, Now: now}}})
	if err != nil {
		return c, st, err
	}
	m := resp.GetCounterRecount()
	c = counter.Recount{Stored: counter.Amount{Value: m.GetValue(), Held: m.GetHeld()}, Recounted: m.GetRecounted(), Events: m.GetEvents()}
	return c, stateFrom(m.GetAsOf()), nil
}

// Token is what l knows of a token, as it is sent; nil: nothing.
func Token(ctx context.Context, l *counter.Local, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	e, ok, err := l.Token(ctx, p, id)
	if err != nil || !ok {
		return nil, err
	}
	return entryTo(&e), nil
}

// maxEdges bounds the windows of one question.
const maxEdges = counter.MaxPoints + 1

// Answer answers what an Owner asks, from l.
func Answer(ctx context.Context, l *counter.Local, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	p, resp := wal.Partition(req.GetPartition()), &clusterv1.AskResponse{}
	switch q := req.GetQuestion().(type) {
	case *clusterv1.AskRequest_CounterCounts:
		names := q.CounterCounts.GetNames()
		out := make([]counter.Amount, len(names))
		st, err := l.Counts(ctx, p, names, q.CounterCounts.GetNow(), out)
		if err != nil {
			return nil, err
		}
		resp.Answer = &clusterv1.AskResponse_CounterCounts{CounterCounts: countsTo(out, &st)}
		return resp, nil
	case *clusterv1.AskRequest_CounterList:
		m := q.CounterList
		above := m.GetAbove()
		if m.GetHasAbove() && above == nil {
			above = []byte{}
		}
		list, st, err := l.List(ctx, p, m.GetPrefix(), above, int(m.GetLimit()), m.GetNow())
		if err != nil {
			return nil, err
		}
		out := &clusterv1.ListedCounts{AsOf: stateTo(&st)}
		for i := range list {
			out.Counts = append(out.Counts, &clusterv1.ListedCount{Name: list[i].Name, Value: list[i].Value, Held: list[i].Held})
		}
		resp.Answer = &clusterv1.AskResponse_CounterList{CounterList: out}
		return resp, nil
	case *clusterv1.AskRequest_CounterSeries:
		m := q.CounterSeries
		if n := len(m.GetEdges()); n < 2 || n > maxEdges {
			return nil, fmt.Errorf("%w question: a series of %d edges", wal.ErrMalformed, n)
		}
		series := l.Series
		if m.GetFine() {
			series = l.FineSeries
		}
		sums, st, err := series(ctx, p, m.GetName(), m.GetEdges(), m.GetNow())
		if err != nil {
			return nil, err
		}
		out := &clusterv1.Sums{AsOf: stateTo(&st)}
		for _, s := range sums {
			out.Sums = append(out.Sums, &clusterv1.Sum{Lo: s.Lo, Hi: s.Hi, Adds: s.Adds})
		}
		resp.Answer = &clusterv1.AskResponse_CounterSeries{CounterSeries: out}
		return resp, nil
	case *clusterv1.AskRequest_CounterRecount:
		c, st, err := l.Recount(ctx, p, q.CounterRecount.GetName(), q.CounterRecount.GetNow())
		if err != nil {
			return nil, err
		}
		resp.Answer = &clusterv1.AskResponse_CounterRecount{CounterRecount: &clusterv1.Recount{
			AsOf: stateTo(&st), Value: c.Stored.Value, Held: c.Stored.Held, Recounted: c.Recounted, Events: c.Events,
		}}
		return resp, nil
	}
	return nil, fmt.Errorf("%w question: %T is none of counters", wal.ErrMalformed, req.GetQuestion())
}
