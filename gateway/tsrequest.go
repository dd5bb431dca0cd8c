package gateway

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/timeseries"
)

// Limits of events. docs/limits.md has them.
const (
	MaxEvents         = 10_000
	MaxEventItems     = 64
	MaxEventItemKey   = 256
	MaxEventItemValue = 64 << 10
	MaxEventPage      = 10_000
	DefaultEventPage  = 1_000
	MaxEventFilters   = 64
)

func checkSeries(id string) error {
	if len(id) == 0 || len(id) > timeseries.MaxSeriesBytes || !utf8.ValidString(id) {
		return apierrors.New(apierrors.BadSeries, "time_series_id has %d bytes; it must have 1 to %d of UTF-8", len(id), timeseries.MaxSeriesBytes)
	}
	return nil
}

// parseEvents checks the events of a call. Whether the namespace accepts them is not
// looked at.
func parseEvents(in []*headwaterv1.EventRecord) (out []timeseries.Event, bytes int, err error) {
	if len(in) == 0 || len(in) > MaxEvents {
		return nil, 0, apierrors.New(apierrors.TooManyItems, "the call has %d events; it takes 1 to %d", len(in), MaxEvents)
	}
	out = make([]timeseries.Event, len(in))
	for i, m := range in {
		n, err := parseEvent(&out[i], m)
		if err != nil {
			e := *fromDomain(err)
			e.Message = "events[" + formatInt(i) + "]: " + e.Message
			return nil, 0, e.With("event", formatInt(i))
		}
		bytes += n
	}
	return out, bytes, nil
}

func parseEvent(e *timeseries.Event, m *headwaterv1.EventRecord) (bytes int, err error) {
	if err := checkSeries(m.GetTimeSeriesId()); err != nil {
		return 0, err
	}
	if e.Time, err = eventTime(m.GetEventTime()); err != nil {
		return 0, err
	}
	if id := m.GetEventId(); len(id) > timeseries.MaxIDBytes || !utf8.ValidString(id) {
		return 0, apierrors.New(apierrors.BadEvent, "event_id has %d bytes; it may have %d of UTF-8", len(id), timeseries.MaxIDBytes)
	}
	if n := len(m.GetItems()); n == 0 || n > MaxEventItems {
		return 0, apierrors.New(apierrors.BadEvent, "the event has %d items; it must have 1 to %d", n, MaxEventItems)
	}
	e.Series, e.ID = []byte(m.GetTimeSeriesId()), []byte(m.GetEventId())
	bytes = len(e.Series) + len(e.ID)
	e.Items = make([]timeseries.Item, len(m.GetItems()))
	for i, it := range m.GetItems() {
		if e.Items[i], err = parseItem(it.GetKey(), it.GetValue()); err != nil {
			return 0, err
		}
		bytes += len(it.GetKey()) + len(e.Items[i].Value.Text) + 8
	}
	if !e.SortItems() {
		return 0, apierrors.New(apierrors.BadEvent, "an item's key stands twice in the event; send each key once")
	}
	return bytes, nil
}

// eventTime is a time in microseconds since 1970; what is finer is cut.
func eventTime(t *timestamppb.Timestamp) (int64, error) {
	if t == nil || t.CheckValid() != nil {
		return 0, apierrors.New(apierrors.BadEventTime, "event_time must be a time of the years 1 to 9999")
	}
	return t.AsTime().UnixMicro(), nil
}

func parseItem(key string, v *headwaterv1.EventValue) (it timeseries.Item, err error) {
	if len(key) == 0 || len(key) > MaxEventItemKey || !utf8.ValidString(key) {
		return it, apierrors.New(apierrors.BadEvent, "an item's key has %d bytes; it must have 1 to %d of UTF-8", len(key), MaxEventItemKey)
	}
	it.Key = []byte(key)
	switch x := v.GetValue().(type) {
	case *headwaterv1.EventValue_String_:
		it.Value = timeseries.Value{Kind: timeseries.String, Text: []byte(x.String_)}
	case *headwaterv1.EventValue_Bytes:
		it.Value = timeseries.Value{Kind: timeseries.Bytes, Text: x.Bytes}
	case *headwaterv1.EventValue_Int:
		it.Value = timeseries.Value{Kind: timeseries.Int, Int: x.Int}
	case *headwaterv1.EventValue_Double:
		it.Value = timeseries.Value{Kind: timeseries.Double, Double: x.Double}
		if math.IsNaN(x.Double) || math.IsInf(x.Double, 0) {
			return it, apierrors.New(apierrors.BadEvent, "item %.64q is not a finite number", key)
		}
	default:
		return it, apierrors.New(apierrors.BadEvent, "item %.64q has no value; give one of string, int, double and bytes", key)
	}
	if len(it.Value.Text) > MaxEventItemValue {
		return it, apierrors.New(apierrors.BadEvent, "item %.64q has %d bytes; it may have %d", key, len(it.Value.Text), MaxEventItemValue)
	}
	return it, nil
}

func eventMessage(e *timeseries.Event) *headwaterv1.EventRecord {
	m := &headwaterv1.EventRecord{
		TimeSeriesId: string(e.Series), EventTime: timeMessage(e.Time), EventId: string(e.ID), Items: make([]*headwaterv1.EventItem, len(e.Items)),
	}
	for i := range e.Items {
		m.Items[i] = &headwaterv1.EventItem{Key: string(e.Items[i].Key), Value: valueMessage(&e.Items[i].Value)}
	}
	return m
}

func valueMessage(v *timeseries.Value) *headwaterv1.EventValue {
	switch v.Kind {
	case timeseries.String:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_String_{String_: string(v.Text)}}
	case timeseries.Int:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: v.Int}}
	case timeseries.Double:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Double{Double: v.Double}}
	}
	return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Bytes{Bytes: v.Text}}
}

// eventInterval checks an interval of event time: start included, end excluded.
func eventInterval(i *headwaterv1.TimeInterval) (start, end int64, err error) {
	if i.GetStart() == nil || i.GetEnd() == nil {
		return 0, 0, apierrors.New(apierrors.BadInterval, "interval needs start and end")
	}
	if i.GetStart().CheckValid() != nil || i.GetEnd().CheckValid() != nil {
		return 0, 0, apierrors.New(apierrors.BadInterval, "interval.start and interval.end must be times of the years 1 to 9999")
	}
	start, end = i.GetStart().AsTime().UnixMicro(), i.GetEnd().AsTime().UnixMicro()
	if start >= end {
		return 0, 0, apierrors.New(apierrors.BadInterval, "interval.end is not after interval.start, in whole microseconds")
	}
	return start, end, nil
}

// refusalReasons are the codes of events that are left out.
var refusalReasons = map[timeseries.Why]string{
	timeseries.TooOld: apierrors.EventTooOld, timeseries.TooNew: apierrors.EventTooNew, timeseries.Blocked: apierrors.SeriesBlocked,
	timeseries.SliceClosed: apierrors.SliceClosed,
}

func refusedMessages(rs []timeseries.Refusal) (out []*headwaterv1.RefusedEvent) {
	for _, r := range rs {
		out = append(out, &headwaterv1.RefusedEvent{Index: int32(r.Index), Reason: refusalReasons[r.Why], Message: r.Why.String()})
	}
	return out
}
