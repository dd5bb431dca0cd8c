package tsremote

import (
	"context"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// Owner is timeseries.Owner over a remote.Client.
type Owner struct {
	remote.Owner[timeseries.TokenEntry]
}

var _ timeseries.Owner = (*Owner)(nil)

// New returns the owner of a namespace's partitions.
func New(c *remote.Client) *Owner {
	return &Owner{remote.Owner[timeseries.TokenEntry]{Client: c, Entry: entryFrom}}
}

// Slices implements timeseries.Owner.
func (o *Owner) Slices(ctx context.Context, p wal.Partition) (timeseries.Slices, error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_TsSlices{TsSlices: true}})
	if err != nil {
		return nil, err
	}
	out := make(timeseries.Slices, len(resp.GetTsSlices().GetSlices()))
	for i, m := range resp.GetTsSlices().GetSlices() {
		out[i] = sliceFrom(m)
	}
	return out, nil
}

// Measure implements timeseries.Owner.
func (o *Owner) Measure(ctx context.Context, p wal.Partition) ([]timeseries.SliceSize, error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_TsMeasure{TsMeasure: true}})
	if err != nil {
		return nil, err
	}
	out := make([]timeseries.SliceSize, len(resp.GetTsSlices().GetSlices()))
	for i, m := range resp.GetTsSlices().GetSlices() {
		out[i] = timeseries.SliceSize{Slice: sliceFrom(m), Events: m.GetEvents(), Bytes: m.GetBytes()}
	}
	return out, nil
}

// Read implements timeseries.Owner.
func (o *Owner) Read(ctx context.Context, q *timeseries.Query) (*timeseries.Page, error) {
	resp, err := o.Ask(ctx, q.Partition, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_TsRead{TsRead: queryTo(q)}})
	if err != nil {
		return nil, err
	}
	m := resp.GetTsPage()
	page := &timeseries.Page{Partial: m.GetPartial(), Wide: m.GetWide(), WideBuckets: int(m.GetWideBuckets())}
	if page.Events, err = eventsFrom(m.GetEvents()); err != nil {
		return nil, err
	}
	if n := m.GetNext(); n != nil {
		page.Next = &timeseries.Mark{Time: n.GetTime(), ID: n.GetId()}
	}
	return page, nil
}

// Search implements timeseries.Owner.
func (o *Owner) Search(ctx context.Context, q *timeseries.SearchQuery) (*timeseries.Found, error) {
	resp, err := o.Ask(ctx, q.Partition, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_TsSearch{TsSearch: &clusterv1.TSSearch{
		Query: queryTo(&q.Query), Where: conditionTo(q.Where), Behind: placeTo(q.Behind),
	}}})
	if err != nil {
		return nil, err
	}
	m := resp.GetTsFound()
	found := &timeseries.Found{
		Next: placeFrom(m.GetNext()), Partial: m.GetPartial(), Slices: m.GetSlices(), Scanned: m.GetScanned(), Keys: m.GetKeys(),
	}
	found.Events, err = eventsFrom(m.GetEvents())
	return found, err
}

// Aggregate implements timeseries.Owner.
func (o *Owner) Aggregate(ctx context.Context, q *timeseries.AggregateQuery, into *timeseries.Groups) error {
	return o.AskParts(ctx, q.Partition, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_TsAggregate{TsAggregate: aggregateTo(q, into.Spec())}},
		func(resp *clusterv1.AskResponse) error { return into.MergePart(resp.GetTsGroups()) })
}

// List implements timeseries.Owner.
func (o *Owner) List(ctx context.Context, q *timeseries.ListQuery) ([]timeseries.Series, bool, error) {
	resp, err := o.Ask(ctx, q.Partition, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_TsList{TsList: &clusterv1.TSList{
		Prefix: q.Prefix, Above: q.Above, HasAbove: q.Above != nil, Start: q.Start, End: q.End, HasInterval: q.HasInterval, Limit: int64(q.Limit), Open: openTo(q.Open),
	}}})
	if err != nil {
		return nil, false, err
	}
	out := make([]timeseries.Series, len(resp.GetTsSeries().GetSeries()))
	for i, m := range resp.GetTsSeries().GetSeries() {
		out[i] = timeseries.Series{Name: m.GetName(), First: m.GetFirst(), Last: m.GetLast()}
	}
	return out, resp.GetTsSeries().GetMore(), nil
}
