package httpjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/api/eventjson"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

const (
	plainTimeSeriesPrefix = "/v1/ts/"
	// nextPageHeader is where a page of events goes on.
	nextPageHeader = "Headwater-Next-Page-Token"
	// plainEvents is the most events of a page or a body.
	plainEvents = 10_000
	// plainPageBytes is the largest page.
	plainPageBytes = 4 << 20
	// plainSpan is how far back a read without a start begins.
	plainSpan = 24 * time.Hour
	// plainTokenTime is the end of an interval in a page token: whole seconds, so that it
	// has no point.
	plainTokenTime = "2006-01-02T15:04:05Z"
)

// RegisterPlainTimeSeries serves /v1/ts/ with the service that is also registered as
// TimeSeriesService.
func (h *Handler) RegisterPlainTimeSeries(srv headwaterv1.TimeSeriesServiceServer) {
	h.registerPlain(plainRoutes{
		prefix: plainTimeSeriesPrefix, document: plainTimeSeriesPaths,
		serve: func(x *exchange, escaped []string) { x.plainTimeSeries(srv, escaped) },
	})
}

// plainTimeSeries serves POST and GET /v1/ts/{namespace}/{series}.
func (x *exchange) plainTimeSeries(srv headwaterv1.TimeSeriesServiceServer, escaped []string) {
	if len(escaped) != 2 {
		x.notFound()
		return
	}
	x.write = !reads(x.r.Method)
	if !x.allow(http.MethodGet, http.MethodPost) {
		return
	}
	path, err := unescape(escaped, -1)
	if err == nil {
		if x.write {
			err = x.writeEvents(srv, path[0], path[1])
		} else {
			err = x.readEvents(srv, path[0], path[1])
		}
	}
	if err != nil {
		x.fail(err)
	}
}

func (x *exchange) writeEvents(srv headwaterv1.TimeSeriesServiceServer, namespace, series string) error {
	token, err := x.plainToken()
	if err != nil {
		return err
	}
	timeout, err := x.deadline()
	if err != nil {
		return err
	}
	if _, err := x.query(nil); err != nil {
		return err
	}
	body, err := x.readBody(x.h.cfg.MaxMessageBytes, timeout)
	if err != nil {
		return err
	}
	req := &headwaterv1.WriteEventRecordsSyncRequest{Namespace: namespace, Token: token}
	if req.Events, err = eventsOf(body, series); err != nil {
		return err
	}
	const method = headwaterv1.TimeSeriesService_WriteEventRecordsSync_FullMethodName
	ctx, cancel := x.context(method, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, method, req, srv.WriteEventRecordsSync)
	if err != nil {
		return err
	}
	x.setPosition(res.GetResult().GetPosition())
	x.answerMessage(res)
	return nil
}

// eventsOf reads one event, or several one after the other.
func eventsOf(body []byte, series string) (events []*headwaterv1.EventRecord, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	for n := 1; ; n++ {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if len(events) == plainEvents {
			return nil, apierrors.New(apierrors.TooManyItems, "the body has more than %d events; send them in several calls", plainEvents)
		}
		var e *headwaterv1.EventRecord
		if err == nil {
			e, err = eventjson.Parse(raw, false)
		}
		if err != nil {
			return nil, apierrors.Wrap(apierrors.MalformedRequest, err, "event %d of the body: %v", n, err)
		}
		e.TimeSeriesId = series
		events = append(events, e)
	}
}

func (x *exchange) readEvents(srv headwaterv1.TimeSeriesServiceServer, namespace, series string) error {
	timeout, err := x.deadline()
	if err != nil {
		return err
	}
	query, err := x.query([]string{"start", "end", "limit", "order", "page_token"}, "after")
	if err != nil {
		return err
	}
	req := &headwaterv1.ReadEventRecordsRequest{
		Namespace: namespace, TimeSeriesId: series, PageToken: query.Get("page_token"), PageSizeBytes: proto.Int64(plainPageBytes), After: query["after"],
	}
	// Where the query has no end, the token says what "now" was on the first page.
	end := query.Get("end")
	if at, token, ok := strings.Cut(req.PageToken, "."); ok && end == "" {
		end, req.PageToken = at, token
	}
	if req.Interval, err = plainInterval(query.Get("start"), end); err != nil {
		return err
	}
	if query.Has("limit") {
		n, err := strconv.ParseInt(query.Get("limit"), 10, 32)
		if err != nil {
			return apierrors.New(apierrors.BadPageSize, "limit is %s; it must be 1 to %d", clip(query.Get("limit")), plainEvents)
		}
		req.PageSize = proto.Int32(int32(n))
	}
	if query.Has("order") {
		v := headwaterv1.ReadEventRecordsRequest_Order_value[strings.ToUpper(query.Get("order"))]
		if req.Order = headwaterv1.ReadEventRecordsRequest_Order(v); v == 0 {
			return apierrors.New(apierrors.BadParameter, "order is %s; use newest or oldest", clip(query.Get("order")))
		}
	}
	const method = headwaterv1.TimeSeriesService_ReadEventRecords_FullMethodName
	ctx, cancel := x.context(method, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, method, req, srv.ReadEventRecords)
	if err != nil {
		return err
	}
	x.setPosition(res.GetAsOf().GetPosition())
	if t := res.GetNextPageToken(); t != "" {
		if query.Get("end") == "" {
			t = req.GetInterval().GetEnd().AsTime().Format(plainTokenTime) + "." + t
		}
		x.w.Header().Set(nextPageHeader, t)
	}
	var out []byte
	for _, e := range res.GetRecords() {
		out = append(eventjson.Append(out, e, false), '\n')
	}
	x.w.Header().Set("Content-Type", "application/x-ndjson")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	x.w.Header().Set("Cache-Control", "no-store")
	x.started = true
	x.w.WriteHeader(http.StatusOK)
	x.send(out)
	return nil
}

// plainInterval is the interval of a read: to now, and a day long, unless it says
// otherwise.
func plainInterval(start, end string) (*headwaterv1.TimeInterval, error) {
	to := time.Now().Truncate(time.Second).Add(time.Second) // what is written now is before it
	if end != "" {
		t, err := time.Parse(time.RFC3339Nano, end)
		if err != nil {
			return nil, apierrors.New(apierrors.BadInterval, "end is %s; send a time such as 2026-01-31T12:00:00Z", clip(end))
		}
		to = t
	}
	from := to.Add(-plainSpan)
	if start != "" {
		t, err := time.Parse(time.RFC3339Nano, start)
		if err != nil {
			return nil, apierrors.New(apierrors.BadInterval, "start is %s; send a time such as 2026-01-31T12:00:00Z", clip(start))
		}
		from = t
	}
	return &headwaterv1.TimeInterval{Start: timestamppb.New(from), End: timestamppb.New(to)}, nil
}
