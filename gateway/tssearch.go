package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/timeseries"
)

// Limits of a query.
const (
	MaxQueryDepth      = 8
	MaxQueryConditions = 64
)

// SearchEventRecords reads a page of events over all series.
func (s *TimeSeries) SearchEventRecords(ctx context.Context, req *headwaterv1.SearchEventRecordsRequest) (*headwaterv1.SearchEventRecordsResponse, error) {
	ns, err := s.dir.timeSeries(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	q := &timeseries.SearchQuery{}
	// What both reads have is checked as of a read of a series.
	same, err := eventQuery(&headwaterv1.ReadEventRecordsRequest{
		TimeSeriesId: "-", Interval: req.GetInterval(), Order: req.GetOrder(), PageSize: req.PageSize, PageSizeBytes: req.PageSizeBytes, TotalRecordLimit: req.TotalRecordLimit,
	})
	if err != nil {
		return nil, err
	}
	q.Query = *same
	if q.Where, err = parseQuery(req.GetQuery()); err != nil {
		return nil, err
	}
	point, err := readPoint(ns, req.GetConsistency(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	left := int64(-1)
	if req.TotalRecordLimit != nil {
		left = req.GetTotalRecordLimit()
	}
	var seen pagesSeen
	bound := searchBinding(ns, req)
	if t := req.GetPageToken(); t != "" {
		c, err := s.pages.open(t, bound)
		if err != nil {
			return nil, err
		}
		var m *timeseries.Mark
		if m, left, err = eventCursor(&cursor{key: c.key}); err != nil {
			return nil, err
		}
		n := int(c.index)
		if n > len(c.id) {
			return nil, apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
		}
		q.Behind, seen = &timeseries.Place{Time: m.Time, Series: c.id[:n], ID: c.id[n:]}, c.seen
	}
	if left >= 0 {
		q.Limit = int(min(int64(q.Limit), left))
	}
	found, saw, err := ns.TimeSeries.Search(ctx, q, point)
	if err != nil {
		return nil, fromDomain(err)
	}
	for _, x := range saw {
		seen.add(x)
	}
	out := &headwaterv1.SearchEventRecordsResponse{AsOf: seen.asOf(ns.Stream), Partial: found.Partial}
	var room listRoom
	next := found.Next
	for i := range found.Events {
		m := eventMessage(&found.Events[i])
		if !room.take(m) {
			next = timeseries.PlaceOf(&found.Events[i-1])
			break
		}
		out.Records = append(out.Records, m)
	}
	if left >= 0 {
		left -= int64(len(out.Records))
	}
	if next != nil && left != 0 {
		key := binary.AppendVarint(binary.BigEndian.AppendUint64(nil, uint64(next.Time)), left)
		id := append(append([]byte(nil), next.Series...), next.ID...)
		out.NextPageToken = s.pages.seal(&cursor{index: uint32(len(next.Series)), id: id, key: key, seen: seen}, bound)
	}
	if req.GetExplain() {
		out.Explain = &headwaterv1.SearchEventRecordsResponse_Explain{ScannedSlices: found.Slices, ScannedEvents: found.Scanned}
		for _, k := range found.Keys {
			out.Explain.Indexed = append(out.Explain.Indexed, string(k))
		}
	}
	return out, nil
}

// searchBinding is what the page tokens of a search are good for.
func searchBinding(ns *Namespace, req *headwaterv1.SearchEventRecordsRequest) []byte {
	c := proto.CloneOf(req)
	c.PageToken, c.After, c.Consistency, c.PageSize, c.PageSizeBytes, c.Explain = "", nil, 0, nil, nil, false
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil { // it came as these bytes
		panic("gateway: marshal a request: " + err.Error())
	}
	inc := ns.Stream.Info().Incarnation
	h := sha256.New()
	h.Write([]byte("SearchEventRecords"))
	h.Write(inc[:])
	h.Write(b)
	return h.Sum(nil)
}

// parseQuery checks a query; nil is every event.
func parseQuery(m *headwaterv1.EventQuery) (*timeseries.Condition, error) {
	if m == nil {
		return nil, nil
	}
	n := 0
	c, err := parseEventCondition(m, 1, &n)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func badQuery(format string, args ...any) error {
	return apierrors.New(apierrors.BadQuery, format, args...)
}

// parseEventCondition checks one condition of a query; n counts them.
func parseEventCondition(m *headwaterv1.EventQuery, depth int, n *int) (c timeseries.Condition, err error) {
	if depth > MaxQueryDepth {
		return c, badQuery("the query is more than %d deep", MaxQueryDepth)
	}
	if *n++; *n > MaxQueryConditions {
		return c, badQuery("the query has more than %d conditions", MaxQueryConditions)
	}
	set := 0
	kids := func(op timeseries.CondOp, all ...*headwaterv1.EventQuery) {
		if len(all) == 0 || len(all) == 1 && all[0] == nil {
			return
		}
		set++
		c.Op = op
		for _, k := range all {
			kid, kidErr := parseEventCondition(k, depth+1, n)
			if kidErr != nil && err == nil {
				err = kidErr
			}
			c.Kids = append(c.Kids, kid)
		}
	}
	kids(timeseries.And, m.GetAnd()...)
	kids(timeseries.Or, m.GetOr()...)
	kids(timeseries.Not, m.GetNot())
	leaf := func(op timeseries.CondOp, key string, v *headwaterv1.EventValue) *timeseries.Value {
		it, itemErr := parseItem(key, v)
		if itemErr != nil && err == nil {
			err = badQuery("%s", fromDomain(itemErr).Message)
		}
		c.Op, c.Key = op, it.Key
		return &it.Value
	}
	if x := m.GetEquals(); x != nil {
		set++
		c.Value = *leaf(timeseries.Equals, x.GetKey(), x.GetValue())
	}
	if x := m.GetPrefix(); x != nil {
		set++
		c.Value = *leaf(timeseries.Prefix, x.GetKey(), &headwaterv1.EventValue{Value: &headwaterv1.EventValue_String_{String_: x.GetValue()}})
	}
	if x := m.GetExists(); x != nil {
		set++
		leaf(timeseries.Exists, x.GetKey(), &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{}})
	}
	if x := m.GetRange(); x != nil {
		set++
		leaf(timeseries.Range, x.GetKey(), &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{}})
		if x.GetLower() != nil {
			c.Lower = leaf(timeseries.Range, x.GetKey(), x.GetLower())
		}
		if x.GetUpper() != nil {
			c.Upper = leaf(timeseries.Range, x.GetKey(), x.GetUpper())
		}
		c.LowerExclusive, c.UpperInclusive = x.GetLowerExclusive(), x.GetUpperInclusive()
		if c.Lower != nil && c.Upper != nil && err == nil {
			if o, ok := c.Lower.Compare(c.Upper); !ok || o > 0 {
				err = badQuery("lower and upper of the range of %.64q are crossed, or of types that have no order", x.GetKey())
			}
		}
	}
	if err == nil && set != 1 {
		err = badQuery("a condition of the query has %d fields set; set exactly one of and, or, not, equals, range, prefix and exists", set)
	}
	return c, err
}
