package client

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// MaxEvents is how many events Write takes.
const MaxEvents = 10_000

// TimeSeries is a namespace of events in series. It costs nothing to make and needs no
// closing.
type TimeSeries struct {
	c         *Client
	namespace string
}

// TimeSeries returns a handle on a namespace whose abstraction is timeseries. It does not
// ask the server whether there is one.
func (c *Client) TimeSeries(namespace string) *TimeSeries {
	return &TimeSeries{c: c, namespace: namespace}
}

// Namespace is the name of the namespace.
func (n *TimeSeries) Namespace() string { return n.namespace }

// Event is one event. Its identity is series, time and ID.
type Event struct {
	Series string
	Time   time.Time // what is finer than a microsecond is cut
	// ID of an event that is written may be empty: the server makes one of the token and
	// the event's index, so that a copy is the same event.
	ID string
	// Items are string, int64, float64 and []byte; an event that is written may also have
	// int and bool, which is 1 or 0.
	Items map[string]any
}

// EventOf is an event of the API.
func EventOf(m *headwaterv1.EventRecord) Event {
	e := Event{Series: m.GetTimeSeriesId(), Time: m.GetEventTime().AsTime(), ID: m.GetEventId(), Items: make(map[string]any, len(m.GetItems()))}
	for _, it := range m.GetItems() {
		switch v := it.GetValue().GetValue().(type) {
		case *headwaterv1.EventValue_String_:
			e.Items[it.GetKey()] = v.String_
		case *headwaterv1.EventValue_Int:
			e.Items[it.GetKey()] = v.Int
		case *headwaterv1.EventValue_Double:
			e.Items[it.GetKey()] = v.Double
		case *headwaterv1.EventValue_Bytes:
			e.Items[it.GetKey()] = v.Bytes
		}
	}
	return e
}

// Message is the event of the API, its items by key.
func (e *Event) Message() (*headwaterv1.EventRecord, error) {
	m := &headwaterv1.EventRecord{TimeSeriesId: e.Series, EventTime: timestamppb.New(e.Time), EventId: e.ID}
	for key, x := range e.Items {
		v, err := eventValue(key, x)
		if err != nil {
			return nil, err
		}
		m.Items = append(m.Items, &headwaterv1.EventItem{Key: key, Value: v})
	}
	slices.SortFunc(m.Items, func(a, b *headwaterv1.EventItem) int {
		if a.GetKey() < b.GetKey() {
			return -1
		}
		return 1
	})
	return m, nil
}

func eventValue(key string, x any) (*headwaterv1.EventValue, error) {
	switch x := x.(type) {
	case string:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_String_{String_: x}}, nil
	case []byte:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Bytes{Bytes: x}}, nil
	case int:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: int64(x)}}, nil
	case int64:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: x}}, nil
	case bool:
		v := &headwaterv1.EventValue_Int{}
		if x {
			v.Int = 1
		}
		return &headwaterv1.EventValue{Value: v}, nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, invalid(apierrors.BadEvent, fmt.Sprintf("item %.64q is not a finite number", key))
		}
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Double{Double: x}}, nil
	}
	return nil, invalid(apierrors.BadEvent, fmt.Sprintf("item %.64q is a %T; use string, int, int64, float64, bool or []byte", key, x))
}

// RefusedEvent is an event that the namespace does not accept. It was left out of a call;
// the others were written.
type RefusedEvent struct {
	Index   int    // in the call's events
	Reason  string // a code, as of an error
	Message string
}

// EventsResult is what became of a Write.
type EventsResult struct {
	WriteResult
	Accepted int
	Refused  []RefusedEvent
}

// Write writes 1 to MaxEvents events and returns when they are durable. A call of which
// every event is left out is an error.
func (n *TimeSeries) Write(ctx context.Context, events []Event, token Token) (EventsResult, error) {
	return n.write(ctx, events, token, func(ctx context.Context, ms []*headwaterv1.EventRecord, t *headwaterv1.IdempotencyToken, opts ...grpc.CallOption) (written, error) {
		return n.c.series.WriteEventRecordsSync(ctx, &headwaterv1.WriteEventRecordsSyncRequest{Namespace: n.namespace, Events: ms, Token: t}, opts...)
	})
}

// WriteBuffered is Write that returns when the events are queued. A crash of the server
// loses what it has queued and not written yet.
func (n *TimeSeries) WriteBuffered(ctx context.Context, events []Event, token Token) (EventsResult, error) {
	return n.write(ctx, events, token, func(ctx context.Context, ms []*headwaterv1.EventRecord, t *headwaterv1.IdempotencyToken, opts ...grpc.CallOption) (written, error) {
		return n.c.series.WriteEventRecords(ctx, &headwaterv1.WriteEventRecordsRequest{Namespace: n.namespace, Events: ms, Token: t}, opts...)
	})
}

// written is the answer of either.
type written interface {
	GetResult() *headwaterv1.WriteResult
	GetAccepted() int32
	GetRefused() []*headwaterv1.RefusedEvent
}

func (n *TimeSeries) write(
	ctx context.Context, events []Event, token Token,
	do func(context.Context, []*headwaterv1.EventRecord, *headwaterv1.IdempotencyToken, ...grpc.CallOption) (written, error),
) (EventsResult, error) {
	if len(events) == 0 || len(events) > MaxEvents {
		return EventsResult{}, invalid(apierrors.TooManyItems, fmt.Sprintf("there are %d events; use 1 to %d", len(events), MaxEvents))
	}
	ms := make([]*headwaterv1.EventRecord, len(events))
	for i := range events {
		var err error
		if ms[i], err = events[i].Message(); err != nil {
			return EventsResult{}, fmt.Errorf("event %d: %w", i, err)
		}
	}
	token = n.c.complete(token)
	var res written
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = do(ctx, ms, token.message(), opts...)
		return err
	})
	if err != nil {
		return EventsResult{}, err
	}
	out := EventsResult{WriteResult: n.c.result(n.namespace, res.GetResult(), token, nil), Accepted: int(res.GetAccepted())}
	for _, r := range res.GetRefused() {
		out.Refused = append(out.Refused, RefusedEvent{int(r.GetIndex()), r.GetReason(), r.GetMessage()})
	}
	return out, nil
}

// Delete deletes the events of a series that were written before.
func (n *TimeSeries) Delete(ctx context.Context, series string, token Token) (WriteResult, error) {
	token = n.c.complete(token)
	req := &headwaterv1.DeleteTimeSeriesRequest{Namespace: n.namespace, TimeSeriesId: series, Token: token.message()}
	var res *headwaterv1.DeleteTimeSeriesResponse
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.series.DeleteTimeSeries(ctx, req, opts...)
		return err
	})
	if err != nil {
		return WriteResult{}, err
	}
	return n.c.result(n.namespace, res.GetResult(), token, nil), nil
}

// ReadEventsOptions say which events of a series are read.
type ReadEventsOptions struct {
	// Start is included, End is not.
	Start, End time.Time
	// Oldest reads the oldest first; else the newest.
	Oldest bool
	// Filters are items that an event must have, with these values; see Event.Items.
	Filters map[string]any
	// Limit is how many are read over all pages; 0: all.
	Limit int
	// PageSize is how many a request asks for, 1 to 10,000; 0: 1,000.
	PageSize    int
	Consistency Consistency
	// After are positions to wait for, beside those of this client's own writes.
	After []string
	// AsOf, when not nil, is set with each page to what all pages so far have seen.
	AsOf *AsOf
}

// Read reads the events of a series, page by page as the loop asks for them. A failure
// ends it, as its last pair.
func (n *TimeSeries) Read(ctx context.Context, series string, o ReadEventsOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		req, err := n.readRequest(series, &o)
		if err != nil {
			yield(Event{}, err)
			return
		}
		for {
			var res *headwaterv1.ReadEventRecordsResponse
			err := n.c.read(ctx, n.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) (err error) {
				req.Consistency, req.After = f.consistency, f.after
				res, err = n.c.series.ReadEventRecords(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(Event{}, err)
				return
			}
			asOf(res.GetAsOf()).note(o.AsOf)
			for _, m := range res.GetRecords() {
				if !yield(EventOf(m), nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

func (n *TimeSeries) readRequest(series string, o *ReadEventsOptions) (*headwaterv1.ReadEventRecordsRequest, error) {
	if o.Limit < 0 || o.PageSize < 0 {
		return nil, invalid(apierrors.BadPageSize, "Limit or PageSize is negative")
	}
	req := &headwaterv1.ReadEventRecordsRequest{
		Namespace: n.namespace, TimeSeriesId: series, Order: headwaterv1.ReadEventRecordsRequest_NEWEST,
		Interval: &headwaterv1.TimeInterval{Start: timestamppb.New(o.Start), End: timestamppb.New(o.End)},
	}
	if o.Oldest {
		req.Order = headwaterv1.ReadEventRecordsRequest_OLDEST
	}
	if o.PageSize > 0 {
		req.PageSize = new(int32(o.PageSize))
	}
	if o.Limit > 0 {
		req.TotalRecordLimit = new(int64(o.Limit))
	}
	for key, x := range o.Filters {
		v, err := eventValue(key, x)
		if err != nil {
			return nil, err
		}
		req.Filters = append(req.Filters, &headwaterv1.EventFilter{Key: key, Equals: v})
	}
	slices.SortFunc(req.Filters, func(a, b *headwaterv1.EventFilter) int { // a page token is good for one order
		if a.GetKey() < b.GetKey() {
			return -1
		}
		return 1
	})
	return req, nil
}

// ListSeriesOptions say which series are listed.
type ListSeriesOptions struct {
	// Prefix begins the names of those listed; empty: all.
	Prefix string
	// Start and End: only series with an event in between; zero: any.
	Start, End time.Time
	// PageSize is how many a request asks for, 1 to 10,000; 0: 1,000.
	PageSize    int
	Consistency Consistency
	// After are positions to wait for, beside those of this client's own writes.
	After []string
}

// SeriesInfo is one series of a list, with the times of its first and last event.
type SeriesInfo struct {
	Series      string
	First, Last time.Time
}

// List lists series by name, in the order of their bytes, page by page as the loop asks
// for them. A failure ends it, as its last pair.
func (n *TimeSeries) List(ctx context.Context, o ListSeriesOptions) iter.Seq2[SeriesInfo, error] {
	return func(yield func(SeriesInfo, error) bool) {
		req := &headwaterv1.ListTimeSeriesRequest{Namespace: n.namespace, Prefix: o.Prefix}
		if o.PageSize != 0 {
			req.PageSize = new(int32(o.PageSize))
		}
		if !o.Start.IsZero() || !o.End.IsZero() {
			req.Interval = &headwaterv1.TimeInterval{Start: timestamppb.New(o.Start), End: timestamppb.New(o.End)}
		}
		for {
			var res *headwaterv1.ListTimeSeriesResponse
			err := n.c.read(ctx, n.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) (err error) {
				req.Consistency, req.After = f.consistency, f.after
				res, err = n.c.series.ListTimeSeries(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(SeriesInfo{}, err)
				return
			}
			for _, m := range res.GetSeries() {
				if !yield(SeriesInfo{m.GetTimeSeriesId(), m.GetFirst().AsTime(), m.GetLast().AsTime()}, nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

// SearchEventsOptions say which events of all series are read.
type SearchEventsOptions struct {
	// Start is included, End is not.
	Start, End time.Time
	// Query is what an event must meet; nil: nothing. It is a message of the API.
	Query *headwaterv1.EventQuery
	// Oldest reads the oldest first; else the newest.
	Oldest bool
	// Limit is how many are read over all pages; 0: all.
	Limit int
	// PageSize is how many a request asks for, 1 to 10,000; 0: 1,000.
	PageSize    int
	Consistency Consistency
	// After are positions to wait for, beside those of this client's own writes.
	After []string
}

// Search reads the events of all series that meet a query, page by page as the loop asks
// for them. A failure ends it, as its last pair.
func (n *TimeSeries) Search(ctx context.Context, o SearchEventsOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if o.Limit < 0 || o.PageSize < 0 {
			yield(Event{}, invalid(apierrors.BadPageSize, "Limit or PageSize is negative"))
			return
		}
		req := &headwaterv1.SearchEventRecordsRequest{
			Namespace: n.namespace, Query: o.Query, Order: headwaterv1.ReadEventRecordsRequest_NEWEST,
			Interval: &headwaterv1.TimeInterval{Start: timestamppb.New(o.Start), End: timestamppb.New(o.End)},
		}
		if o.Oldest {
			req.Order = headwaterv1.ReadEventRecordsRequest_OLDEST
		}
		if o.PageSize > 0 {
			req.PageSize = new(int32(o.PageSize))
		}
		if o.Limit > 0 {
			req.TotalRecordLimit = new(int64(o.Limit))
		}
		for {
			var res *headwaterv1.SearchEventRecordsResponse
			err := n.c.read(ctx, n.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) (err error) {
				req.Consistency, req.After = f.consistency, f.after
				res, err = n.c.series.SearchEventRecords(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, m := range res.GetRecords() {
				if !yield(EventOf(m), nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}
