package tsremote

import (
	"fmt"
	"time"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

func entryTo(e *timeseries.TokenEntry) *clusterv1.TokenEntry {
	return &clusterv1.TokenEntry{Hash: e.Hash[:], Offset: int64(e.Offset), LogTime: e.LogTime, Time: e.Time, Refused: []byte(e.Refused)}
}

func entryFrom(id wal.TokenID, m *clusterv1.TokenEntry) (e timeseries.TokenEntry, err error) {
	e = timeseries.TokenEntry{ID: id, Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), Time: m.GetTime(), Refused: string(m.GetRefused())}
	e.Hash, err = remote.HashFrom(m.GetHash())
	return e, err
}

func sliceTo(x *timeseries.Slice) *clusterv1.Slice {
	return &clusterv1.Slice{Start: x.Start, End: x.End, EventBuckets: int64(x.EventBuckets), Index: []byte(x.Index)}
}

func sliceFrom(m *clusterv1.Slice) timeseries.Slice {
	return timeseries.Slice{Start: m.GetStart(), End: m.GetEnd(), EventBuckets: int(m.GetEventBuckets()), Index: timeseries.IndexKeys(m.GetIndex())}
}

func openTo(o timeseries.OpenSlices) *clusterv1.OpenSlices {
	return &clusterv1.OpenSlices{Bounded: o.Bounded, After: o.After}
}

func openFrom(m *clusterv1.OpenSlices) timeseries.OpenSlices {
	return timeseries.OpenSlices{Bounded: m.GetBounded(), After: m.GetAfter()}
}

func eventsTo(events []timeseries.Event) []*clusterv1.Event {
	out := make([]*clusterv1.Event, len(events))
	for i := range events {
		e := &events[i]
		out[i] = &clusterv1.Event{Series: e.Series, Time: e.Time, Id: e.ID, Items: timeseries.AppendItems(nil, e.Items)}
	}
	return out
}

func eventsFrom(ms []*clusterv1.Event) ([]timeseries.Event, error) {
	out := make([]timeseries.Event, len(ms))
	for i, m := range ms {
		items, err := timeseries.DecodeItems(nil, m.GetItems())
		if err != nil {
			return nil, err
		}
		out[i] = timeseries.Event{Series: m.GetSeries(), Time: m.GetTime(), ID: m.GetId(), Items: items}
	}
	return out, nil
}

func placeTo(p *timeseries.Place) *clusterv1.Place {
	if p == nil {
		return nil
	}
	return &clusterv1.Place{Time: p.Time, Series: p.Series, Id: p.ID}
}

func placeFrom(m *clusterv1.Place) *timeseries.Place {
	if m == nil {
		return nil
	}
	return &timeseries.Place{Time: m.GetTime(), Series: m.GetSeries(), ID: m.GetId()}
}

func queryTo(q *timeseries.Query) *clusterv1.TSQuery {
	m := &clusterv1.TSQuery{
		Series: q.Series, Start: q.Start, End: q.End, Oldest: q.Oldest, Filters: timeseries.AppendItems(nil, q.Filters), Limit: int64(q.Limit),
		MaxBytes: int64(q.MaxBytes), WideBytes: q.WideBytes, Open: openTo(q.Open), Deadline: remote.Left(q.Deadline),
	}
	if q.After != nil {
		m.After = &clusterv1.Mark{Time: q.After.Time, Id: q.After.ID}
	}
	return m
}

func queryFrom(p wal.Partition, m *clusterv1.TSQuery) (*timeseries.Query, error) {
	filters, err := timeseries.DecodeItems(nil, m.GetFilters())
	if err != nil {
		return nil, err
	}
	q := &timeseries.Query{
		Partition: p, Series: m.GetSeries(), Start: m.GetStart(), End: m.GetEnd(), Oldest: m.GetOldest(), Filters: filters, Limit: int(m.GetLimit()),
		MaxBytes: int(m.GetMaxBytes()), WideBytes: m.GetWideBytes(), Open: openFrom(m.GetOpen()), Deadline: remote.DeadlineIn(m.GetDeadline()),
	}
	if a := m.GetAfter(); a != nil {
		q.After = &timeseries.Mark{Time: a.GetTime(), ID: a.GetId()}
	}
	return q, nil
}

func searchFrom(p wal.Partition, m *clusterv1.TSSearch) (*timeseries.SearchQuery, error) {
	q, err := queryFrom(p, m.GetQuery())
	if err != nil {
		return nil, err
	}
	where, err := conditionFrom(m.GetWhere())
	return &timeseries.SearchQuery{Query: *q, Where: where, Behind: placeFrom(m.GetBehind())}, err
}

func listFrom(p wal.Partition, m *clusterv1.TSList) *timeseries.ListQuery {
	above := m.GetAbove()
	if m.GetHasAbove() && above == nil {
		above = []byte{}
	}
	return &timeseries.ListQuery{
		Partition: p, Prefix: m.GetPrefix(), Above: above, Start: m.GetStart(), End: m.GetEnd(), HasInterval: m.GetHasInterval(), Limit: int(m.GetLimit()),
		Open: openFrom(m.GetOpen()),
	}
}

func valueTo(v *timeseries.Value) []byte {
	if v == nil || v.Kind == 0 {
		return nil
	}
	return timeseries.AppendItems(nil, []timeseries.Item{{Value: *v}})
}

func valueFrom(b []byte) (*timeseries.Value, error) {
	if len(b) == 0 {
		return nil, nil
	}
	items, err := timeseries.DecodeItems(nil, b)
	if err == nil && len(items) != 1 {
		err = fmt.Errorf("%w condition: %d values", wal.ErrMalformed, len(items))
	}
	if err != nil {
		return nil, err
	}
	return &items[0].Value, nil
}

func conditionTo(c *timeseries.Condition) *clusterv1.Condition {
	if c == nil {
		return nil
	}
	m := &clusterv1.Condition{
		Op: uint32(c.Op), Key: c.Key, Value: valueTo(&c.Value), Lower: valueTo(c.Lower), Upper: valueTo(c.Upper),
		LowerExclusive: c.LowerExclusive, UpperInclusive: c.UpperInclusive,
	}
	for i := range c.Kids {
		m.Kids = append(m.Kids, conditionTo(&c.Kids[i]))
	}
	return m
}

// conditionFrom reads what conditionTo made.
func conditionFrom(m *clusterv1.Condition) (c *timeseries.Condition, err error) {
	if m == nil {
		return nil, nil
	}
	op := timeseries.CondOp(m.GetOp())
	if m.GetOp() > uint32(timeseries.Exists) || op < timeseries.And || op == timeseries.Not && len(m.GetKids()) != 1 {
		return nil, fmt.Errorf("%w condition: operation %d of %d", wal.ErrMalformed, m.GetOp(), len(m.GetKids()))
	}
	c = &timeseries.Condition{Op: op, Key: m.GetKey(), LowerExclusive: m.GetLowerExclusive(), UpperInclusive: m.GetUpperInclusive()}
	value, err := valueFrom(m.GetValue())
	if err == nil && value != nil {
		c.Value = *value
	}
	if err == nil {
		c.Lower, err = valueFrom(m.GetLower())
	}
	if err == nil {
		c.Upper, err = valueFrom(m.GetUpper())
	}
	for _, k := range m.GetKids() {
		if err != nil {
			return nil, err
		}
		var kid *timeseries.Condition
		if kid, err = conditionFrom(k); err == nil {
			c.Kids = append(c.Kids, *kid)
		}
	}
	return c, err
}

func aggregateTo(q *timeseries.AggregateQuery, spec *timeseries.GroupSpec) *clusterv1.TSAggregate {
	m := &clusterv1.TSAggregate{
		Series: q.Series, HasSeries: q.Series != nil, Start: q.Start, End: q.End, Where: conditionTo(q.Where), Keys: q.Keys, Open: openTo(q.Open),
		By: spec.By, Bucket: int64(spec.Bucket), Limit: int64(spec.Limit),
	}
	if spec.Zone != nil {
		m.Zone = spec.Zone.String()
	}
	for i := range spec.Aggregations {
		a := &spec.Aggregations[i]
		m.Aggregations = append(m.Aggregations, &clusterv1.Aggregation{Op: uint32(a.Op), Key: a.Key, Q: a.Q})
	}
	return m
}

func aggregateFrom(p wal.Partition, m *clusterv1.TSAggregate) (*timeseries.AggregateQuery, *timeseries.GroupSpec, error) {
	where, err := conditionFrom(m.GetWhere())
	if err != nil {
		return nil, nil, err
	}
	series := m.GetSeries()
	if m.GetHasSeries() && series == nil {
		series = []byte{}
	}
	spec := &timeseries.GroupSpec{By: m.GetBy(), Bucket: time.Duration(m.GetBucket()), Limit: int(m.GetLimit())}
	if spec.Zone, err = time.LoadLocation(m.GetZone()); err != nil {
		return nil, nil, fmt.Errorf("time zone %.64q of a question: %w", m.GetZone(), err)
	}
	for _, a := range m.GetAggregations() {
		if a.GetOp() < uint32(timeseries.Count) || a.GetOp() > uint32(timeseries.Quantile) {
			return nil, nil, fmt.Errorf("%w question: aggregation %d", wal.ErrMalformed, a.GetOp())
		}
		spec.Aggregations = append(spec.Aggregations, timeseries.Aggregation{Op: timeseries.AggregateOp(a.GetOp()), Key: a.GetKey(), Q: a.GetQ()})
	}
	q := &timeseries.AggregateQuery{Partition: p, Series: series, Start: m.GetStart(), End: m.GetEnd(), Where: where, Keys: m.GetKeys(), Open: openFrom(m.GetOpen())}
	return q, spec, nil
}
