package httpjson

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

const plainLogPrefix = "/v1/log/"

// RegisterPlainLog serves /v1/log/ with the service that is also registered as
// LogService.
func (h *Handler) RegisterPlainLog(srv headwaterv1.LogServiceServer) {
	h.registerPlain(plainRoutes{
		prefix: plainLogPrefix, document: plainLogPaths,
		serve: func(x *exchange, escaped []string) { x.plainLog(srv, escaped) },
	})
}

// plainLog serves POST /v1/log/{namespace}/{key} and GET /v1/log/{namespace}.
func (x *exchange) plainLog(srv headwaterv1.LogServiceServer, escaped []string) {
	if len(escaped) > 2 {
		x.notFound()
		return
	}
	method := http.MethodGet
	if len(escaped) == 2 {
		method = http.MethodPost
	}
	x.write = !reads(x.r.Method)
	if !x.allow(method) {
		return
	}
	path, err := unescape(escaped, -1)
	if err != nil {
		x.fail(err)
		return
	}
	if len(path) == 2 {
		err = x.writeLog(srv, path[0], path[1])
	} else {
		err = x.readLog(srv, path[0])
	}
	if err != nil {
		x.fail(err)
	}
}

func (x *exchange) writeLog(srv headwaterv1.LogServiceServer, namespace, key string) error {
	targets, lifecycle, err := messageDelivery(x.r.Header)
	if err != nil {
		return err
	}
	token, err := x.plainToken()
	if err != nil {
		return err
	}
	headers, err := messageHeaders(x.r.Header)
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
	payload, err := x.readBody(x.h.cfg.MaxMessageBytes, timeout)
	if err != nil {
		return err
	}
	ctx, cancel := x.context(headwaterv1.LogService_WriteToLog_FullMethodName, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, headwaterv1.LogService_WriteToLog_FullMethodName,
		&headwaterv1.WriteToLogRequest{Namespace: namespace, Key: key, Payload: payload, Token: token, Headers: headers, Targets: targets, Lifecycle: lifecycle}, srv.WriteToLog)
	if err != nil {
		return err
	}
	// A caller of a plain route looks at the status only: what is not durable
	// must not have that of a success.
	switch res.GetDurable() {
	case headwaterv1.WriteToLogResponse_SUCCEEDED:
		x.setPosition(res.GetResult().GetPosition())
		x.answerMessage(res)
		return nil
	case headwaterv1.WriteToLogResponse_FAILED:
		return apierrors.New(cmp.Or(res.GetReason(), apierrors.LogUnavailable), "the message is not in the log: %s; send it again", res.GetMessage()).ForWrite(apierrors.NotApplied, res.GetResult().GetToken())
	default:
		return apierrors.New(apierrors.AppendUnknown, "the message may be in the log: %s; send it again with the same token", res.GetMessage()).ForWrite(apierrors.Unknown, res.GetResult().GetToken())
	}
}

// The headers of the request that say how the message is delivered.
const (
	targetHeader    = "Headwater-Target"
	delayHeader     = "Headwater-Delay"
	deliverAtHeader = "Headwater-Deliver-At"
	replaceHeader   = "Headwater-Replace"
)

// messageDelivery is how the message is delivered.
func messageDelivery(h http.Header) (targets []string, l *headwaterv1.MessageLifecycle, err error) {
	bad := func(name, how string) error {
		return apierrors.New(apierrors.BadParameter, "header %s is %s; %s", name, clip(strings.Join(h[name], ", ")), how)
	}
	if v := h[delayHeader]; len(v) > 0 {
		d, err := time.ParseDuration(v[0])
		if err != nil || len(v) > 1 {
			return nil, nil, bad(delayHeader, "write it once, as in 90s or 24h")
		}
		l = &headwaterv1.MessageLifecycle{Delay: durationpb.New(d)}
	}
	if v := h[deliverAtHeader]; len(v) > 0 {
		at, err := time.Parse(time.RFC3339Nano, v[0])
		if err != nil || len(v) > 1 {
			return nil, nil, bad(deliverAtHeader, "write it once, as in 2026-01-31T12:00:00Z")
		}
		if l == nil {
			l = &headwaterv1.MessageLifecycle{}
		}
		l.DeliverAt = timestamppb.New(at)
	}
	if v := h[replaceHeader]; len(v) > 0 {
		replace, err := strconv.ParseBool(v[0])
		if err != nil || len(v) > 1 {
			return nil, nil, bad(replaceHeader, "write it once, true or false")
		}
		if l == nil {
			l = &headwaterv1.MessageLifecycle{}
		}
		l.Replace = replace
	}
	return h[targetHeader], l, nil
}

// messageHeader begins the name of a header of the request that is a header of the message.
const messageHeader = "Headwater-Header-"

// messageHeaders are those of the message. Their names are as HTTP has them: Trace-Id, whatever the case they came in.
func messageHeaders(h http.Header) (map[string]string, error) {
	var m map[string]string
	for name, values := range h {
		of, ok := strings.CutPrefix(name, messageHeader)
		switch {
		case !ok:
			continue
		case len(values) > 1:
			return nil, apierrors.New(apierrors.BadParameter, "header %s is there %d times; send it once", clip(name), len(values))
		case m == nil:
			m = make(map[string]string)
		}
		m[of] = values[0]
	}
	return m, nil
}

func (x *exchange) readLog(srv headwaterv1.LogServiceServer, namespace string) error {
	query, err := x.query([]string{"from", "follow", "key", "kind"})
	if err != nil {
		return err
	}
	req := &headwaterv1.ReadLogRequest{Namespace: namespace, From: earliest()}
	if query.Has("from") {
		req.From = logStart(query.Get("from"))
	}
	if query.Has("follow") {
		if req.Follow, err = strconv.ParseBool(query.Get("follow")); err != nil {
			return apierrors.New(apierrors.BadParameter, "follow is %s; use true or false", clip(query.Get("follow")))
		}
		req.Follow = req.Follow && x.r.Method != http.MethodHead // which has no message to wait for
	}
	if query.Has("key") || query.Has("kind") {
		req.Filter = &headwaterv1.LogFilter{}
		if query.Has("key") {
			req.Filter.Key = proto.String(query.Get("key"))
		}
		if query.Has("kind") {
			req.Filter.Kind = proto.String(query.Get("kind"))
		}
	}
	desc := &grpc.StreamDesc{StreamName: "ReadLog", ServerStreams: true, Handler: readLogHandler}
	x.stream(desc, srv, headwaterv1.LogService_ReadLog_FullMethodName, nil, req)
	return nil
}

func earliest() *headwaterv1.LogStart {
	return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{Earliest: &headwaterv1.LogStart_Earliest{}}}
}

// logStart reads from: earliest, latest, a time as RFC 3339, or a position, which
// the service checks.
func logStart(from string) *headwaterv1.LogStart {
	switch from {
	case "earliest":
		return earliest()
	case "latest":
		return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Latest_{Latest: &headwaterv1.LogStart_Latest{}}}
	}
	if t, err := time.Parse(time.RFC3339Nano, from); err == nil {
		return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Time{Time: timestamppb.New(t)}}
	}
	return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Position{Position: from}}
}

// readLogHandler is what the generated code registers for ReadLog.
var readLogHandler = func() grpc.StreamHandler {
	for i := range headwaterv1.LogService_ServiceDesc.Streams {
		if d := &headwaterv1.LogService_ServiceDesc.Streams[i]; d.StreamName == "ReadLog" {
			return d.Handler
		}
	}
	panic("httpjson: LogService has no stream ReadLog")
}()
