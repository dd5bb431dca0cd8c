package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// AggregateOptions say what Aggregate works out, and of which events.
type AggregateOptions struct {
	// Start is included, End is not.
	Start, End time.Time
	// Series is the one that is looked at; "": all.
	Series string
	// Query is what an event must meet; nil: nothing.
	Query *headwaterv1.EventQuery
	// Aggregations are messages of the API, 1 to 64.
	Aggregations []*headwaterv1.EventAggregation
	// GroupBy are keys of items, or "time_series_id".
	GroupBy []string
	// Bucket is the length of time buckets on the clock of Zone, a name of the IANA
	// database; 0: none. Zone "" is UTC.
	Bucket time.Duration
	Zone   string
	// Fill adds the empty buckets.
	Fill bool
	// OrderBy is nil for the order by labels, then bucket.
	OrderBy *headwaterv1.AggregateEventRecordsRequest_OrderBy
	// Limit is how many groups there may be, 1 to 100,000; 0: 10,000.
	Limit       int
	Consistency Consistency
	// After are positions to wait for, beside those of this client's own writes.
	After []string
}

// EventGroup is one group of an Aggregate.
type EventGroup struct {
	// Labels are the texts of what it is grouped by, without those that its events lack.
	Labels map[string]string
	// Bucket is where its time bucket begins; zero without buckets.
	Bucket time.Time
	// Values are by the name of the aggregation, without those that have no value.
	Values map[string]float64
}

// Aggregates are what Aggregate has worked out.
type Aggregates struct {
	Groups []EventGroup
	// Truncated: there are more groups behind these, in the order asked for.
	Truncated bool
	// Approximate are the aggregations that are estimates in some group.
	Approximate []string
}

// Aggregate works aggregations out of every event that meets o, or fails.
func (n *TimeSeries) Aggregate(ctx context.Context, o AggregateOptions) (Aggregates, error) {
	req := &headwaterv1.AggregateEventRecordsRequest{
		Namespace: n.namespace, TimeSeriesId: o.Series, Query: o.Query, Aggregations: o.Aggregations, GroupBy: o.GroupBy, TimeZone: o.Zone, OrderBy: o.OrderBy,
		Interval: &headwaterv1.TimeInterval{Start: timestamppb.New(o.Start), End: timestamppb.New(o.End)},
	}
	if o.Bucket != 0 {
		req.TimeBucket = durationpb.New(o.Bucket)
	}
	if o.Fill {
		req.Fill = headwaterv1.AggregateEventRecordsRequest_ZERO
	}
	if o.Limit != 0 {
		req.Limit = new(int32(o.Limit))
	}
	var res *headwaterv1.AggregateEventRecordsResponse
	err := n.c.read(ctx, n.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) (err error) {
		req.Consistency, req.After = f.consistency, f.after
		res, err = n.c.series.AggregateEventRecords(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Aggregates{}, err
	}
	out := Aggregates{Truncated: res.GetTruncated(), Approximate: res.GetApproximate()}
	for _, g := range res.GetGroups() {
		one := EventGroup{Labels: g.GetLabels(), Values: g.GetValues()}
		if g.GetBucketStart() != nil {
			one.Bucket = g.GetBucketStart().AsTime()
		}
		out.Groups = append(out.Groups, one)
	}
	return out, nil
}

// TimeSlice is a span of event time that is closed and dropped as a whole.
type TimeSlice struct {
	Start, End time.Time
	// Bytes are of series, times, ids and items, before compression.
	Bytes, Events int64
	State         string // OPEN, CLOSED or DROPPED
	EventBuckets  int
}

// Slices lists the slices of the namespace by start. The server looks at every event.
func (n *TimeSeries) Slices(ctx context.Context) ([]TimeSlice, error) {
	var res *headwaterv1.ListTimeSlicesResponse
	err := n.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.series.ListTimeSlices(ctx, &headwaterv1.ListTimeSlicesRequest{Namespace: n.namespace}, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []TimeSlice
	for _, m := range res.GetSlices() {
		out = append(out, TimeSlice{m.GetStart().AsTime(), m.GetEnd().AsTime(), m.GetBytes(), m.GetEvents(), m.GetState().String(), int(m.GetEventBuckets())})
	}
	return out, nil
}
