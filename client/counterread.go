package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// CountOptions say how a count is read.
type CountOptions struct {
	Accuracy Accuracy
	// After are positions to wait for, beside those of this client's own writes.
	After []string
}

// read does a read of counts that waits for the session's position, unless it
// asks for what is there at once.
func (n *Counter) read(ctx context.Context, o *CountOptions, do func(context.Context, *countFreshness, ...grpc.CallOption) error) error {
	if o.Accuracy < 0 || int(o.Accuracy) >= len(accuracies) {
		return invalid(apierrors.BadAccuracy, "the accuracy is not one of this package")
	}
	want := ReadYourWrites
	if o.Accuracy == CountBestEffort || o.Accuracy == CountEventual {
		want = Eventual
	}
	return n.c.read(ctx, n.namespace, want, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) error {
		cf := countFreshness{accuracy: accuracies[o.Accuracy], after: f.after}
		if f.consistency == headwaterv1.Consistency_LATEST { // in place of positions that the client does not have
			cf.accuracy = headwaterv1.Count_ACCURATE
		}
		return do(ctx, &cf, opts...)
	})
}

// countFreshness is what a read asks for beside what is read.
type countFreshness struct {
	accuracy headwaterv1.Count_Accuracy
	after    []string
}

// Get reads a counter; one that was never added to is 0. It sees what this
// client has written, at the namespace's accuracy.
func (n *Counter) Get(ctx context.Context, counter string) (Count, error) {
	return n.GetWith(ctx, counter, CountOptions{})
}

// GetWith is Get with options. An accurate read that cannot be had before the
// deadline fails, with ErrUnavailable or the deadline; it is never answered with
// less.
func (n *Counter) GetWith(ctx context.Context, counter string, o CountOptions) (Count, error) {
	if err := checkCounter(counter); err != nil {
		return Count{}, err
	}
	req := &headwaterv1.GetCountRequest{Namespace: n.namespace, Counter: counter}
	var res *headwaterv1.GetCountResponse
	err := n.read(ctx, &o, func(ctx context.Context, f *countFreshness, opts ...grpc.CallOption) (err error) {
		req.Accuracy, req.After = f.accuracy, f.after
		res, err = n.c.counters.GetCount(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Count{}, err
	}
	return countOf(res.GetCount()), nil
}

// GetMany reads up to MaxAdds counters. All names are in the answer; a counter
// that was never added to is 0.
func (n *Counter) GetMany(ctx context.Context, counters []string, o CountOptions) (map[string]Count, error) {
	if len(counters) > MaxAdds {
		return nil, invalid(apierrors.TooManyItems, fmt.Sprintf("there are %d counters; use at most %d", len(counters), MaxAdds))
	}
	for _, name := range counters {
		if err := checkCounter(name); err != nil {
			return nil, err
		}
	}
	if len(counters) == 0 {
		return map[string]Count{}, nil
	}
	req := &headwaterv1.GetCountsRequest{Namespace: n.namespace, Counters: counters}
	var res *headwaterv1.GetCountsResponse
	err := n.read(ctx, &o, func(ctx context.Context, f *countFreshness, opts ...grpc.CallOption) (err error) {
		req.Accuracy, req.After = f.accuracy, f.after
		res, err = n.c.counters.GetCounts(ctx, req, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	counts := make(map[string]Count, len(res.GetCounts()))
	for name, m := range res.GetCounts() {
		counts[name] = countOf(m)
	}
	for _, name := range counters {
		if _, ok := counts[name]; !ok {
			return nil, corrupt(fmt.Sprintf("the server gave no count of %.64q", name), nil)
		}
	}
	return counts, nil
}

// ListCountsOptions say which counters are listed.
type ListCountsOptions struct {
	// Prefix begins the names of those listed; empty: all.
	Prefix string
	// PageSize is how many a request asks for, 1 to 10,000; 0: 1,000.
	PageSize int
	Accuracy Accuracy
	// After are positions to wait for, beside those of this client's own writes.
	After []string
	// AsOf, when not nil, is set with each page to what all pages so far have seen.
	AsOf *AsOf
}

// NamedCount is a counter of a list.
type NamedCount struct {
	Counter string
	Count   Count
	// Parked: adds to this counter wait behind a record that cannot be applied, so
	// that Count is older than what was acknowledged.
	Parked bool
}

// List reads counters by name, in the order of their bytes, page by page as the
// loop asks for them. What is added meanwhile may or may not be seen. A failure
// ends it, as its last pair.
func (n *Counter) List(ctx context.Context, o ListCountsOptions) iter.Seq2[NamedCount, error] {
	return func(yield func(NamedCount, error) bool) {
		if o.PageSize < 0 || o.PageSize > MaxAdds {
			yield(NamedCount{}, invalid(apierrors.BadPageSize, fmt.Sprintf("the page size is %d; use 1 to %d", o.PageSize, MaxAdds)))
			return
		}
		req := &headwaterv1.ListCountsRequest{Namespace: n.namespace, Prefix: o.Prefix}
		if o.PageSize != 0 {
			size := int32(o.PageSize)
			req.PageSize = &size
		}
		for {
			var res *headwaterv1.ListCountsResponse
			err := n.read(ctx, &CountOptions{Accuracy: o.Accuracy, After: o.After}, func(ctx context.Context, f *countFreshness, opts ...grpc.CallOption) (err error) {
				req.Accuracy, req.After = f.accuracy, f.after
				res, err = n.c.counters.ListCounts(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(NamedCount{}, err)
				return
			}
			asOf(res.GetAsOf()).note(o.AsOf)
			for _, m := range res.GetCounts() {
				if !yield(NamedCount{Counter: m.GetCounter(), Count: countOf(m.GetCount()), Parked: m.GetParked()}, nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

// SeriesOptions say which windows of a counter are read.
type SeriesOptions struct {
	// Since is included, Until is not; Until zero: now.
	Since, Until time.Time
	// Granularity is a multiple of the smallest window that the namespace keeps.
	Granularity time.Duration
	// TimeZone is an IANA name that whole days are days of; empty: UTC.
	TimeZone string
	Accuracy Accuracy
	// After are positions to wait for, beside those of this client's own writes.
	After []string
}

// CountPoint is one window of a series.
type CountPoint struct {
	Start time.Time
	// Sum is of the deltas that took effect, by their event times, and Adds how
	// many those were.
	Sum, Adds int64
}

// CountSeries is what was added to a counter over time.
type CountSeries struct {
	// Points are in the order of time; windows without adds are there, with zeros.
	Points []CountPoint
	// AsOf is what the points are exact as of.
	AsOf AsOf
}

// Series reads what was added to a counter in windows of time.
func (n *Counter) Series(ctx context.Context, counter string, o SeriesOptions) (CountSeries, error) {
	if err := checkCounter(counter); err != nil {
		return CountSeries{}, err
	}
	if o.Until.IsZero() {
		o.Until = time.Now()
	}
	req := &headwaterv1.GetCountSeriesRequest{
		Namespace: n.namespace, Counter: counter, Granularity: durationpb.New(o.Granularity), TimeZone: o.TimeZone,
		Interval: &headwaterv1.TimeInterval{Start: timestamppb.New(o.Since), End: timestamppb.New(o.Until)},
	}
	var res *headwaterv1.GetCountSeriesResponse
	err := n.read(ctx, &CountOptions{Accuracy: o.Accuracy, After: o.After}, func(ctx context.Context, f *countFreshness, opts ...grpc.CallOption) (err error) {
		req.Accuracy, req.After = f.accuracy, f.after
		res, err = n.c.counters.GetCountSeries(ctx, req, opts...)
		return err
	})
	if err != nil {
		return CountSeries{}, err
	}
	s := CountSeries{Points: make([]CountPoint, len(res.GetPoints())), AsOf: asOf(res.GetAsOf())}
	for i, p := range res.GetPoints() {
		s.Points[i] = CountPoint{Start: timeOf(p.GetStart()), Sum: p.GetSum(), Adds: p.GetAdds()}
	}
	return s, nil
}

// Verification is what counting a counter again found.
type Verification struct {
	Stored Count
	// Recounted is the sum of the events that are kept, on top of the base that
	// older ones were folded into.
	Recounted int64
	// Drift is Stored.Value less Recounted: 0, or a bug.
	Drift int64
	// Events is how many were counted again.
	Events int64
}

// Verify counts a counter again from its events. It sees what this client has
// written, at the namespace's accuracy.
func (n *Counter) Verify(ctx context.Context, counter string) (Verification, error) {
	return n.VerifyWith(ctx, counter, CountOptions{})
}

// VerifyWith is Verify with options.
func (n *Counter) VerifyWith(ctx context.Context, counter string, o CountOptions) (Verification, error) {
	if err := checkCounter(counter); err != nil {
		return Verification{}, err
	}
	req := &headwaterv1.VerifyCountRequest{Namespace: n.namespace, Counter: counter}
	var res *headwaterv1.VerifyCountResponse
	err := n.read(ctx, &o, func(ctx context.Context, f *countFreshness, opts ...grpc.CallOption) (err error) {
		req.Accuracy, req.After = f.accuracy, f.after
		res, err = n.c.counters.VerifyCount(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Verification{}, err
	}
	return Verification{Stored: countOf(res.GetStored()), Recounted: res.GetRecounted(), Drift: res.GetDrift(), Events: res.GetEvents()}, nil
}
