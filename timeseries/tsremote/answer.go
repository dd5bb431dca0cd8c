package tsremote

import (
	"context"
	"fmt"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// Token is what l knows of a token, as it is sent; nil: nothing.
func Token(ctx context.Context, l *timeseries.Local, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	e, ok, err := l.Token(ctx, p, id)
	if err != nil || !ok {
		return nil, err
	}
	return entryTo(&e), nil
}

// Answer answers what an Owner asks, from l.
func Answer(ctx context.Context, l *timeseries.Local, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	p, resp := wal.Partition(req.GetPartition()), &clusterv1.AskResponse{}
	switch q := req.GetQuestion().(type) {
	case *clusterv1.AskRequest_TsSlices:
		all, err := l.Slices(ctx, p)
		if err != nil {
			return nil, err
		}
		m := &clusterv1.Slices{}
		for i := range all {
			m.Slices = append(m.Slices, sliceTo(&all[i]))
		}
		resp.Answer = &clusterv1.AskResponse_TsSlices{TsSlices: m}
		return resp, nil
	case *clusterv1.AskRequest_TsMeasure:
		all, err := l.Measure(ctx, p)
		if err != nil {
			return nil, err
		}
		m := &clusterv1.Slices{}
		for i := range all {
			one := sliceTo(&all[i].Slice)
			one.Events, one.Bytes = all[i].Events, all[i].Bytes
			m.Slices = append(m.Slices, one)
		}
		resp.Answer = &clusterv1.AskResponse_TsSlices{TsSlices: m}
		return resp, nil
	case *clusterv1.AskRequest_TsRead:
		query, err := queryFrom(p, q.TsRead)
		if err != nil {
			return nil, err
		}
		page, err := l.Read(ctx, query)
		if err != nil {
			return nil, err
		}
		m := &clusterv1.TSPage{Events: eventsTo(page.Events), Partial: page.Partial, Wide: page.Wide, WideBuckets: int64(page.WideBuckets)}
		if n := page.Next; n != nil {
			m.Next = &clusterv1.Mark{Time: n.Time, Id: n.ID}
		}
		resp.Answer = &clusterv1.AskResponse_TsPage{TsPage: m}
		return resp, nil
	case *clusterv1.AskRequest_TsSearch:
		query, err := searchFrom(p, q.TsSearch)
		if err != nil {
			return nil, err
		}
		found, err := l.Search(ctx, query)
		if err != nil {
			return nil, err
		}
		resp.Answer = &clusterv1.AskResponse_TsFound{TsFound: &clusterv1.TSFound{
			Events: eventsTo(found.Events), Next: placeTo(found.Next), Partial: found.Partial, Slices: found.Slices, Scanned: found.Scanned, Keys: found.Keys,
		}}
		return resp, nil
	case *clusterv1.AskRequest_TsList:
		list, more, err := l.List(ctx, listFrom(p, q.TsList))
		if err != nil {
			return nil, err
		}
		m := &clusterv1.TSSeries{More: more}
		for i := range list {
			m.Series = append(m.Series, &clusterv1.Series{Name: list[i].Name, First: list[i].First, Last: list[i].Last})
		}
		resp.Answer = &clusterv1.AskResponse_TsSeries{TsSeries: m}
		return resp, nil
	}
	return nil, fmt.Errorf("%w question: %T is none of time series", wal.ErrMalformed, req.GetQuestion())
}

// AnswerParts answers what an Owner asks that comes in parts, from l.
func AnswerParts(ctx context.Context, l *timeseries.Local, req *clusterv1.AskRequest, send func(*clusterv1.AskResponse) error) error {
	q, ok := req.GetQuestion().(*clusterv1.AskRequest_TsAggregate)
	if !ok {
		return fmt.Errorf("%w question: %T has no parts", wal.ErrMalformed, req.GetQuestion())
	}
	query, spec, err := aggregateFrom(wal.Partition(req.GetPartition()), q.TsAggregate)
	if err != nil {
		return err
	}
	groups := timeseries.NewGroups(spec)
	if err := l.Aggregate(ctx, query, groups); err != nil {
		return err
	}
	return groups.Parts(func(part []byte) error {
		return send(&clusterv1.AskResponse{Answer: &clusterv1.AskResponse_TsGroups{TsGroups: part}})
	})
}
