package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// TimeSeries is the TimeSeriesService.
type TimeSeries struct {
	headwaterv1.UnimplementedTimeSeriesServiceServer
	dir   *Directory
	pages *PageTokens
}

// NewTimeSeries returns the service over dir.
func NewTimeSeries(dir *Directory, pages *PageTokens) *TimeSeries {
	return &TimeSeries{dir: dir, pages: pages}
}

func formatInt(i int) string { return strconv.Itoa(i) }

// WriteEventRecordsSync writes events and answers when they are durable.
func (s *TimeSeries) WriteEventRecordsSync(ctx context.Context, req *headwaterv1.WriteEventRecordsSyncRequest) (*headwaterv1.WriteEventRecordsSyncResponse, error) {
	ns, res, err := s.write(ctx, req.GetNamespace(), req.GetEvents(), req.GetToken(), (*timeseries.DB).Write)
	if err != nil {
		return nil, err
	}
	return &headwaterv1.WriteEventRecordsSyncResponse{
		Result:   &headwaterv1.WriteResult{Token: tokenMessage(res.Token, req.GetToken()), Position: res.Position, Durability: ns.durability(), Duplicate: duplicateOf(res.Duplicate, res.Unsure)},
		Accepted: int32(len(req.GetEvents()) - len(res.Refused)), Refused: refusedMessages(res.Refused),
	}, nil
}

// WriteEventRecords queues events.
func (s *TimeSeries) WriteEventRecords(ctx context.Context, req *headwaterv1.WriteEventRecordsRequest) (*headwaterv1.WriteEventRecordsResponse, error) {
	ns, res, err := s.write(ctx, req.GetNamespace(), req.GetEvents(), req.GetToken(), (*timeseries.DB).WriteBuffered)
	if err != nil {
		return nil, err
	}
	return &headwaterv1.WriteEventRecordsResponse{
		Result: &headwaterv1.WriteResult{
			Token: tokenMessage(res.Token, req.GetToken()), Durability: headwaterv1.WriteResult_BUFFERED, Duplicate: headwaterv1.WriteResult_UNKNOWN,
			LossWindow: durationpb.New(ns.TimeSeries.BufferedLoss()),
		},
		Accepted: int32(len(req.GetEvents()) - len(res.Refused)), Refused: refusedMessages(res.Refused),
	}, nil
}

// write does either of the two.
func (s *TimeSeries) write(
	ctx context.Context, namespace string, events []*headwaterv1.EventRecord, sent *headwaterv1.IdempotencyToken,
	do func(*timeseries.DB, context.Context, wal.Token, []timeseries.Event) timeseries.Result,
) (*Namespace, *timeseries.Result, error) {
	ns, err := s.dir.timeSeries(ctx, namespace)
	if err != nil {
		return nil, nil, forWrite(err, false, sent)
	}
	list, bytes, err := parseEvents(events)
	var tok wal.Token
	if err == nil {
		tok, err = parseToken(sent)
	}
	if err == nil {
		err = ns.admitWrite(len(list), bytes)
	}
	if err != nil {
		return nil, nil, forWrite(err, false, sent)
	}
	res := do(ns.TimeSeries, ctx, tok, list)
	if res.Err != nil {
		return nil, nil, forWrite(eventError(res.Err), res.Unknown, tokenMessage(res.Token, sent))
	}
	return ns, &res, nil
}

// eventError gives the error of a call of which every event is left out its code.
func eventError(err error) error {
	var refused *timeseries.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	return apierrors.Wrap(refusalReasons[refused.First.Why], err, "every event of the call is left out; %v", refused).With("event", formatInt(refused.First.Index))
}

// ReadEventRecords reads a page of one series.
func (s *TimeSeries) ReadEventRecords(ctx context.Context, req *headwaterv1.ReadEventRecordsRequest) (*headwaterv1.ReadEventRecordsResponse, error) {
	ns, err := s.dir.timeSeries(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	q, err := eventQuery(req)
	if err != nil {
		return nil, err
	}
	point, err := readPoint(ns, req.GetConsistency(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	left := int64(-1) // of the total; -1: no limit
	if req.TotalRecordLimit != nil {
		left = req.GetTotalRecordLimit()
	}
	var seen pagesSeen
	bound := eventBinding(ns, req)
	if t := req.GetPageToken(); t != "" {
		c, err := s.pages.open(t, bound)
		if err != nil {
			return nil, err
		}
		if q.After, left, err = eventCursor(c); err != nil {
			return nil, err
		}
		seen = c.seen
	}
	if left >= 0 {
		q.Limit = int(min(int64(q.Limit), left))
	}
	page, saw, err := ns.TimeSeries.Read(ctx, q, point)
	if err != nil {
		return nil, fromDomain(err)
	}
	seen.add(saw)
	out := &headwaterv1.ReadEventRecordsResponse{AsOf: seen.asOf(ns.Stream), Partial: page.Partial, Wide: page.Wide}
	var room listRoom
	next := page.Next
	for i := range page.Events {
		m := eventMessage(&page.Events[i])
		if !room.take(m) {
			last := &page.Events[i-1]
			next = &timeseries.Mark{Time: last.Time, ID: last.ID}
			break
		}
		out.Records = append(out.Records, m)
	}
	if left >= 0 {
		left -= int64(len(out.Records))
	}
	if next != nil && left != 0 {
		key := binary.BigEndian.AppendUint64(nil, uint64(next.Time))
		out.NextPageToken = s.pages.seal(&cursor{id: next.ID, key: binary.AppendVarint(key, left), seen: seen}, bound)
	}
	return out, nil
}

// eventQuery checks a read.
func eventQuery(req *headwaterv1.ReadEventRecordsRequest) (q *timeseries.Query, err error) {
	if err := checkSeries(req.GetTimeSeriesId()); err != nil {
		return nil, err
	}
	q = &timeseries.Query{Series: []byte(req.GetTimeSeriesId()), Limit: DefaultEventPage, WideBytes: timeseries.WideBytes}
	if q.Start, q.End, err = eventInterval(req.GetInterval()); err != nil {
		return nil, err
	}
	switch req.GetOrder() {
	case headwaterv1.ReadEventRecordsRequest_ORDER_UNSPECIFIED, headwaterv1.ReadEventRecordsRequest_NEWEST:
	case headwaterv1.ReadEventRecordsRequest_OLDEST:
		q.Oldest = true
	default:
		return nil, apierrors.New(apierrors.BadParameter, "order %d is not known; use NEWEST or OLDEST", req.GetOrder())
	}
	if req.PageSize != nil {
		if q.Limit = int(req.GetPageSize()); q.Limit < 1 || q.Limit > MaxEventPage {
			return nil, apierrors.New(apierrors.BadPageSize, "page_size is %d; it must be 1 to %d", q.Limit, MaxEventPage)
		}
	}
	if q.MaxBytes, err = pageBytes(req.GetPageSizeBytes(), req.PageSizeBytes != nil); err != nil {
		return nil, err
	}
	if req.TotalRecordLimit != nil && req.GetTotalRecordLimit() < 1 {
		return nil, apierrors.New(apierrors.BadPageSize, "total_record_limit is %d; it must be at least 1", req.GetTotalRecordLimit())
	}
	if n := len(req.GetFilters()); n > MaxEventFilters {
		return nil, apierrors.New(apierrors.TooManyItems, "the read has %d filters; it takes %d", n, MaxEventFilters)
	}
	for _, f := range req.GetFilters() {
		it, err := parseItem(f.GetKey(), f.GetEquals())
		if err != nil {
			return nil, err
		}
		q.Filters = append(q.Filters, it)
	}
	return q, nil
}

// eventBinding is what the page tokens of a read are good for: the same request, but for
// its token and what it waits for.
func eventBinding(ns *Namespace, req *headwaterv1.ReadEventRecordsRequest) []byte {
	c := proto.CloneOf(req)
	c.PageToken, c.After, c.Consistency, c.PageSize, c.PageSizeBytes = "", nil, 0, nil, nil
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil { // it came as these bytes
		panic("gateway: marshal a request: " + err.Error())
	}
	inc := ns.Stream.Info().Incarnation
	h := sha256.New()
	h.Write([]byte("ReadEventRecords"))
	h.Write(inc[:])
	h.Write(b)
	return h.Sum(nil)
}

func eventCursor(c *cursor) (m *timeseries.Mark, left int64, err error) {
	bad := apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
	if len(c.key) < 9 {
		return nil, 0, bad
	}
	left, n := binary.Varint(c.key[8:])
	if n != len(c.key)-8 {
		return nil, 0, bad
	}
	return &timeseries.Mark{Time: int64(binary.BigEndian.Uint64(c.key)), ID: c.id}, left, nil
}

// ListTimeSeries lists series by name.
func (s *TimeSeries) ListTimeSeries(ctx context.Context, req *headwaterv1.ListTimeSeriesRequest) (*headwaterv1.ListTimeSeriesResponse, error) {
	ns, err := s.dir.timeSeries(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if req.GetPrefix() != "" {
		if err := checkSeries(req.GetPrefix()); err != nil {
			return nil, err
		}
	}
	q := timeseries.ListQuery{Prefix: []byte(req.GetPrefix())}
	if q.Limit, err = listPage(req.PageSize); err != nil {
		return nil, err
	}
	binding := []byte("ListTimeSeries" + ns.Stream.Info().Incarnation.String() + req.GetPrefix())
	if req.Interval != nil {
		if q.Start, q.End, err = eventInterval(req.GetInterval()); err != nil {
			return nil, err
		}
		q.HasInterval = true
		binding = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(binding, uint64(q.Start)), uint64(q.End))
	}
	point, err := readPoint(ns, req.GetConsistency(), req.GetAfter())
	if err != nil {
		return nil, err
	}
	var seen pagesSeen
	if t := req.GetPageToken(); t != "" {
		c, err := s.pages.open(t, binding)
		if err != nil {
			return nil, err
		}
		q.Above, seen = c.key, c.seen
	}
	list, more, saw, err := ns.TimeSeries.List(ctx, q, point)
	if err != nil {
		return nil, fromDomain(err)
	}
	for _, x := range saw {
		seen.add(x)
	}
	out := &headwaterv1.ListTimeSeriesResponse{AsOf: seen.asOf(ns.Stream)}
	var room listRoom
	for i := range list {
		m := &headwaterv1.TimeSeriesInfo{TimeSeriesId: string(list[i].Name), First: timeMessage(list[i].First), Last: timeMessage(list[i].Last)}
		if !room.take(m) {
			more = true
			break
		}
		out.Series = append(out.Series, m)
	}
	if n := len(out.Series); more && n > 0 {
		out.NextPageToken = s.pages.seal(&cursor{key: list[n-1].Name, seen: seen}, binding)
	}
	return out, nil
}

// DeleteTimeSeries deletes a series.
func (s *TimeSeries) DeleteTimeSeries(ctx context.Context, req *headwaterv1.DeleteTimeSeriesRequest) (*headwaterv1.DeleteTimeSeriesResponse, error) {
	ns, err := s.dir.timeSeries(ctx, req.GetNamespace())
	if err == nil {
		err = checkSeries(req.GetTimeSeriesId())
	}
	var tok wal.Token
	if err == nil {
		tok, err = parseToken(req.GetToken())
	}
	if err == nil {
		err = ns.admitWrite(1, len(req.GetTimeSeriesId()))
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res := ns.TimeSeries.Delete(ctx, tok, []byte(req.GetTimeSeriesId()))
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	return &headwaterv1.DeleteTimeSeriesResponse{Result: &headwaterv1.WriteResult{
		Token: tokenMessage(res.Token, req.GetToken()), Position: res.Position, Durability: ns.durability(), Duplicate: duplicateOf(res.Duplicate, res.Unsure),
	}}, nil
}
