package gateway

import (
	"context"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

func countMessage(c *counter.Count) *headwaterv1.Count {
	return &headwaterv1.Count{Value: c.Value, Held: c.Held, Accuracy: headwaterv1.Count_Accuracy(c.Accuracy), AsOf: asOfMessage(c.AsOf), Pending: c.Pending}
}

// countPoint checks how right a read of counters must be, and the positions that
// it waits for.
func countPoint(ns *Namespace, accuracy headwaterv1.Count_Accuracy, after []string) (counter.Accuracy, wal.Position, error) {
	acc, err := parseAccuracy(accuracy)
	if err != nil {
		return 0, wal.Position{}, err
	}
	point, err := readPoint(ns, headwaterv1.Consistency_EVENTUAL, after)
	if err != nil {
		return 0, wal.Position{}, err
	}
	return acc, point.After, nil
}

// get reads counters.
func (s *Counter) get(ctx context.Context, namespace string, names []string, accuracy headwaterv1.Count_Accuracy, after []string) ([]counter.Count, counter.AsOf, error) {
	ns, err := s.dir.counter(ctx, namespace)
	if err != nil {
		return nil, counter.AsOf{}, err
	}
	if len(names) == 0 || len(names) > MaxCounts {
		return nil, counter.AsOf{}, apierrors.New(apierrors.TooManyItems, "the call names %d counters; it takes 1 to %d", len(names), MaxCounts)
	}
	size := 0
	for _, name := range names {
		if err := checkCounter(name); err != nil {
			return nil, counter.AsOf{}, err
		}
		size += len(name)
	}
	if size > MaxCountNames {
		return nil, counter.AsOf{}, apierrors.New(apierrors.TooManyItems,
			"the names of the call have %d bytes in all; it takes %d, so that the answer has room for them; split the call",
			size, MaxCountNames)
	}
	acc, at, err := countPoint(ns, accuracy, after)
	if err != nil {
		return nil, counter.AsOf{}, err
	}
	counts, asOf, err := ns.Counter.Get(ctx, names, acc, at)
	if err != nil {
		return nil, counter.AsOf{}, fromDomain(err)
	}
	return counts, asOf, nil
}

// GetCount reads one counter.
func (s *Counter) GetCount(ctx context.Context, req *headwaterv1.GetCountRequest) (*headwaterv1.GetCountResponse, error) {
	counts, _, err := s.get(ctx, req.GetNamespace(), []string{req.GetCounter()}, req.GetAccuracy(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	return &headwaterv1.GetCountResponse{Count: countMessage(&counts[0])}, nil
}

// GetCounts reads counters by name.
func (s *Counter) GetCounts(ctx context.Context, req *headwaterv1.GetCountsRequest) (*headwaterv1.GetCountsResponse, error) {
	names := req.GetCounters()
	counts, asOf, err := s.get(ctx, req.GetNamespace(), names, req.GetAccuracy(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	out := &headwaterv1.GetCountsResponse{Counts: make(map[string]*headwaterv1.Count, len(names)), AsOf: asOfMessage(asOf)}
	for i, name := range names {
		out.Counts[name] = countMessage(&counts[i])
	}
	return out, nil
}

// ListCounts lists counters by name. A page ends early where it would be above
// MaxAnswerBytes.
func (s *Counter) ListCounts(ctx context.Context, req *headwaterv1.ListCountsRequest) (*headwaterv1.ListCountsResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	prefix := req.GetPrefix()
	if prefix != "" {
		if err := checkCounter(prefix); err != nil {
			return nil, err
		}
	}
	limit, err := listPage(req.PageSize)
	if err != nil {
		return nil, err
	}
	q := &counter.ListQuery{Prefix: []byte(prefix), Limit: limit}
	if q.Accuracy, q.After, err = countPoint(ns, req.GetAccuracy(), req.GetAfter()); err != nil {
		return nil, err
	}
	binding := listBinding(ns, prefix)
	var seen pagesSeen
	if t := req.GetPageToken(); t != "" {
		c, err := s.pages.open(t, binding)
		if err != nil {
			return nil, err
		}
		q.Above, seen = c.key, c.seen
	}
	list, saw, more, err := ns.Counter.List(ctx, q)
	if err != nil {
		return nil, fromDomain(err)
	}
	for _, x := range saw {
		seen.add(x)
	}
	out := &headwaterv1.ListCountsResponse{AsOf: seen.asOf(ns.Stream)}
	var room listRoom
	for i := range list {
		m := &headwaterv1.NamedCount{Counter: string(list[i].Name), Count: countMessage(&list[i].Count)}
		m.Parked = list[i].Parked
		if !room.take(m) {
			more = true
			break
		}
		out.Counts = append(out.Counts, m)
	}
	if n := len(out.Counts); more && n > 0 {
		out.NextPageToken = s.pages.seal(&cursor{key: list[n-1].Name, seen: seen}, binding)
	}
	return out, nil
}

// GetCountSeries sums what was added to a counter in windows of time.
func (s *Counter) GetCountSeries(ctx context.Context, req *headwaterv1.GetCountSeriesRequest) (*headwaterv1.GetCountSeriesResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	c := ns.Config()
	q, err := parseSeries(req, c.Counter.Windows, c.Events() != "")
	if err != nil {
		return nil, err
	}
	if q.Accuracy, q.After, err = countPoint(ns, req.GetAccuracy(), req.GetAfter()); err != nil {
		return nil, err
	}
	points, asOf, err := ns.Counter.Series(ctx, q)
	if err != nil {
		return nil, fromDomain(err)
	}
	out := &headwaterv1.GetCountSeriesResponse{Points: make([]*headwaterv1.CountPoint, len(points)), AsOf: asOfMessage(asOf)}
	for i := range points {
		out.Points[i] = &headwaterv1.CountPoint{Start: timeMessage(points[i].Start), Sum: points[i].Sum, Adds: points[i].Adds}
	}
	return out, nil
}

// VerifyCount counts a counter again from its events.
func (s *Counter) VerifyCount(ctx context.Context, req *headwaterv1.VerifyCountRequest) (*headwaterv1.VerifyCountResponse, error) {
	ns, err := s.dir.counter(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if err := checkCounter(req.GetCounter()); err != nil {
		return nil, err
	}
	acc, after, err := countPoint(ns, req.GetAccuracy(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	v, err := ns.Counter.Verify(ctx, []byte(req.GetCounter()), acc, after)
	if err != nil {
		return nil, fromDomain(err)
	}
	return &headwaterv1.VerifyCountResponse{Stored: countMessage(&v.Stored), Recounted: v.Recounted, Drift: v.Drift, Events: v.Events}, nil
}
