package gateway

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
	_ "time/tzdata" // zones are known on every machine
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/timeseries"
)

// Limits of aggregates. docs/limits.md has them.
const (
	MaxAggregations    = 64
	MaxAggregationName = 256
	MaxGroupBy         = 16
	MaxGroups          = 100_000
	DefaultGroups      = 10_000
	// MaxGroupsInOrder is how many groups are looked at where order_by wants the first.
	MaxGroupsInOrder = 1_000_000
	MaxBucket        = 876_000 * time.Hour
)

// AggregateEventRecords works aggregations out.
func (s *TimeSeries) AggregateEventRecords(ctx context.Context, req *headwaterv1.AggregateEventRecordsRequest) (*headwaterv1.AggregateEventRecordsResponse, error) {
	ns, err := s.dir.timeSeries(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	q := &timeseries.AggregateQuery{}
	if q.Start, q.End, err = eventInterval(req.GetInterval()); err != nil {
		return nil, err
	}
	if req.GetTimeSeriesId() != "" {
		if err := checkSeries(req.GetTimeSeriesId()); err != nil {
			return nil, err
		}
		q.Series = []byte(req.GetTimeSeriesId())
	}
	if q.Where, err = parseQuery(req.GetQuery()); err != nil {
		return nil, err
	}
	a, err := parseAggregate(req)
	if err != nil {
		return nil, err
	}
	point, err := readPoint(ns, req.GetConsistency(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	groups, saw, err := ns.TimeSeries.Aggregate(ctx, q, a.spec, point)
	if err != nil {
		return nil, fromDomain(err)
	}
	var seen pagesSeen
	for _, x := range saw {
		seen.add(x)
	}
	out := &headwaterv1.AggregateEventRecordsResponse{AsOf: seen.asOf(ns.Stream)}
	return out, a.answer(out, q, groups)
}

// aggregate is a checked request.
type aggregate struct {
	spec  *timeseries.GroupSpec
	names []string // of the aggregations
	by    []string
	fill  bool
	limit int
	// order sorts groups where the request says how.
	order func(*timeseries.Groups) func(a, b *timeseries.Group) int
}

func badAggregation(format string, args ...any) error {
	return apierrors.New(apierrors.BadAggregation, format, args...)
}

// parseAggregate checks what is to be worked out.
func parseAggregate(req *headwaterv1.AggregateEventRecordsRequest) (*aggregate, error) {
	a := &aggregate{spec: &timeseries.GroupSpec{}, by: req.GetGroupBy(), limit: DefaultGroups}
	if n := len(req.GetAggregations()); n == 0 || n > MaxAggregations {
		return nil, badAggregation("the request has %d aggregations; it takes 1 to %d", n, MaxAggregations)
	}
	for _, m := range req.GetAggregations() {
		if err := a.add(m); err != nil {
			return nil, err
		}
	}
	if n := len(a.by); n > MaxGroupBy {
		return nil, badAggregation("group_by has %d keys; it takes %d", n, MaxGroupBy)
	}
	for i, key := range a.by {
		if !validItemKey(key) {
			return nil, badAggregation("group_by[%d] has %d bytes; it must be a key of 1 to %d of UTF-8", i, len(key), MaxEventItemKey)
		}
		if slices.Contains(a.by[:i], key) {
			return nil, badAggregation("group_by has %.64q twice", key)
		}
		a.spec.By = append(a.spec.By, []byte(key))
	}
	if err := a.buckets(req); err != nil {
		return nil, err
	}
	if req.Limit != nil {
		if a.limit = int(req.GetLimit()); a.limit < 1 || a.limit > MaxGroups {
			return nil, badAggregation("limit is %d; it must be 1 to %d", a.limit, MaxGroups)
		}
	}
	a.spec.Limit = a.limit
	return a, a.orderBy(req.OrderBy)
}

func validItemKey(key string) bool {
	return len(key) > 0 && len(key) <= MaxEventItemKey && utf8.ValidString(key)
}

var aggregateOps = map[headwaterv1.EventAggregation_Op]timeseries.AggregateOp{
	headwaterv1.EventAggregation_COUNT: timeseries.Count, headwaterv1.EventAggregation_SUM: timeseries.Sum,
	headwaterv1.EventAggregation_MIN: timeseries.Min, headwaterv1.EventAggregation_MAX: timeseries.Max,
	headwaterv1.EventAggregation_AVG: timeseries.Avg, headwaterv1.EventAggregation_FIRST: timeseries.First,
	headwaterv1.EventAggregation_LAST: timeseries.Last, headwaterv1.EventAggregation_DISTINCT: timeseries.Distinct,
	headwaterv1.EventAggregation_QUANTILE: timeseries.Quantile,
}

// add checks one aggregation.
func (a *aggregate) add(m *headwaterv1.EventAggregation) error {
	name := m.GetName()
	if len(name) == 0 || len(name) > MaxAggregationName || !utf8.ValidString(name) {
		return badAggregation("the name of an aggregation has %d bytes; it must have 1 to %d of UTF-8", len(name), MaxAggregationName)
	}
	if slices.Contains(a.names, name) {
		return badAggregation("two aggregations have the name %.64q", name)
	}
	op, known := aggregateOps[m.GetOp()]
	if !known {
		return badAggregation("aggregation %.64q: op is %s; it must be COUNT, SUM, MIN, MAX, AVG, FIRST, LAST, DISTINCT or QUANTILE", name, m.GetOp())
	}
	one := timeseries.Aggregation{Op: op, Key: []byte(m.GetKey()), Q: m.GetQuantile()}
	if m.GetKey() == "" && op != timeseries.Count {
		return badAggregation("aggregation %.64q: %s needs the key of an item", name, m.GetOp())
	}
	if m.GetKey() != "" && !validItemKey(m.GetKey()) {
		return badAggregation("aggregation %.64q: key has %d bytes; it must have 1 to %d of UTF-8", name, len(m.GetKey()), MaxEventItemKey)
	}
	switch {
	case op == timeseries.Quantile && (m.Quantile == nil || math.IsNaN(one.Q) || one.Q < 0 || one.Q > 1):
		return badAggregation("aggregation %.64q: QUANTILE needs a quantile of 0 to 1", name)
	case op != timeseries.Quantile && m.Quantile != nil:
		return badAggregation("aggregation %.64q: quantile is for QUANTILE", name)
	}
	a.names, a.spec.Aggregations = append(a.names, name), append(a.spec.Aggregations, one)
	return nil
}

// buckets checks time_bucket, time_zone and fill.
func (a *aggregate) buckets(req *headwaterv1.AggregateEventRecordsRequest) (err error) {
	switch req.GetFill() {
	case headwaterv1.AggregateEventRecordsRequest_FILL_UNSPECIFIED, headwaterv1.AggregateEventRecordsRequest_NONE:
	case headwaterv1.AggregateEventRecordsRequest_ZERO:
		a.fill = true
	default:
		return apierrors.New(apierrors.BadParameter, "fill %d is not known; use NONE or ZERO", req.GetFill())
	}
	if req.GetTimeBucket() == nil {
		if a.fill || req.GetTimeZone() != "" {
			return badAggregation("fill and time_zone are for time buckets; set time_bucket too")
		}
		return nil
	}
	if a.spec.Bucket, err = bucketLength(req.GetTimeBucket()); err != nil {
		return err
	}
	zone := req.GetTimeZone()
	if zone == "Local" { // this machine's
		return badAggregation("time_zone %q is not one of the IANA database, such as Europe/Berlin", zone)
	}
	if a.spec.Zone, err = time.LoadLocation(zone); err != nil {
		return badAggregation("time_zone %.64q is not one of the IANA database, such as Europe/Berlin", zone)
	}
	return nil
}

func bucketLength(m *durationpb.Duration) (time.Duration, error) {
	d := m.AsDuration()
	if m.CheckValid() != nil || d < time.Microsecond || d > MaxBucket || d%time.Microsecond != 0 {
		return 0, badAggregation("time_bucket is %v; it must be a multiple of a microsecond, at most %v", d, MaxBucket)
	}
	return d, nil
}

// orderBy checks order_by.
func (a *aggregate) orderBy(m *headwaterv1.AggregateEventRecordsRequest_OrderBy) error {
	if m == nil {
		return nil
	}
	value, label := slices.Index(a.names, m.GetValue()), slices.Index(a.by, m.GetLabel())
	switch {
	case (m.GetValue() == "") == (m.GetLabel() == ""):
		return badAggregation("order_by needs either value or label")
	case m.GetValue() != "" && value < 0:
		return badAggregation("order_by.value %.64q is not the name of an aggregation", m.GetValue())
	case m.GetLabel() != "" && label < 0:
		return badAggregation("order_by.label %.64q is not in group_by", m.GetLabel())
	}
	sign := 1
	if m.GetDescending() {
		sign = -1
	}
	a.spec.Limit = MaxGroupsInOrder
	a.order = func(groups *timeseries.Groups) func(x, y *timeseries.Group) int {
		if label >= 0 {
			return func(x, y *timeseries.Group) int {
				return cmp.Or(sign*timeseries.CompareLabels(x.Labels[label], y.Labels[label]), x.Compare(y))
			}
		}
		return func(x, y *timeseries.Group) int {
			v, ok := groups.Value(x, value)
			w, also := groups.Value(y, value)
			switch {
			case ok && also:
				return cmp.Or(sign*cmp.Compare(v, w), x.Compare(y))
			case ok:
				return -1
			case also:
				return 1
			}
			return x.Compare(y)
		}
	}
	return nil
}

// answer puts the groups into out.
func (a *aggregate) answer(out *headwaterv1.AggregateEventRecordsResponse, q *timeseries.AggregateQuery, groups *timeseries.Groups) (err error) {
	all := groups.All()
	if a.fill {
		if all, err = groups.Fill(all, q.Start, q.End, a.spec.Limit); err != nil {
			return fromDomain(err)
		}
	}
	if a.order != nil {
		slices.SortFunc(all, a.order(groups))
		if len(all) > a.limit {
			all, out.Truncated = all[:a.limit], true
		}
	}
	var room listRoom
	for _, g := range all {
		m := a.group(groups, g)
		if !room.take(m) {
			if a.order == nil {
				return apierrors.New(apierrors.AnswerTooLarge, "the answer of %d groups would have more than the %d bytes that clients take; ask for a shorter interval or fewer labels, or with order_by and a limit for the first groups", len(all), MaxAnswerBytes)
			}
			out.Truncated = true
			break
		}
		out.Groups = append(out.Groups, m)
	}
	for i, name := range a.names {
		if groups.Approximate(i) {
			out.Approximate = append(out.Approximate, name)
		}
	}
	return nil
}

// firstMoment is the earliest time that the API can tell. A bucket that begins earlier is
// told as beginning with it.
var firstMoment = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (a *aggregate) group(groups *timeseries.Groups, g *timeseries.Group) *headwaterv1.AggregateEventRecordsResponse_Group {
	m := &headwaterv1.AggregateEventRecordsResponse_Group{Labels: make(map[string]string, len(a.by)), Values: make(map[string]float64, len(a.names))}
	for i, text := range g.Labels {
		if text != nil {
			m.Labels[a.by[i]] = string(text)
		}
	}
	if a.spec.Bucket > 0 {
		m.BucketStart = timestamppb.New(time.UnixMicro(max(g.Bucket, firstMoment)))
	}
	for i, name := range a.names {
		if v, ok := groups.Value(g, i); ok {
			m.Values[name] = v
		}
	}
	return m
}
