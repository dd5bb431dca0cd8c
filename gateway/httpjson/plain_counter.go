package httpjson

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

const plainCounterPrefix = "/v1/counter/"

// RegisterPlainCounter serves /v1/counter/ with the service that is also registered as
// CounterService.
func (h *Handler) RegisterPlainCounter(srv headwaterv1.CounterServiceServer) {
	h.registerPlain(plainRoutes{
		prefix: plainCounterPrefix, document: plainCounterPaths,
		serve: func(x *exchange, escaped []string) { x.plainCounter(srv, escaped) },
	})
}

// plainCounter serves POST and GET /v1/counter/{namespace}/{counter}.
func (x *exchange) plainCounter(srv headwaterv1.CounterServiceServer, escaped []string) {
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
			err = x.addCounter(srv, path[0], path[1])
		} else {
			err = x.getCounter(srv, path[0], path[1])
		}
	}
	if err != nil {
		x.fail(err)
	}
}

func (x *exchange) addCounter(srv headwaterv1.CounterServiceServer, namespace, name string) error {
	token, err := x.plainToken()
	if err != nil {
		return err
	}
	timeout, err := x.deadline()
	if err != nil {
		return err
	}
	query, err := x.query([]string{"by"})
	if err != nil {
		return err
	}
	by := int64(1)
	if query.Has("by") {
		if by, err = strconv.ParseInt(query.Get("by"), 10, 64); err != nil {
			return apierrors.Wrap(apierrors.BadParameter, err, "by is %s; send a whole number from -9223372036854775808 to 9223372036854775807", clip(query.Get("by")))
		}
	}
	// What to add stands in the path; a body that says otherwise must not be passed
	// over.
	body, err := x.readBody(x.h.cfg.MaxMessageBytes, timeout)
	if err != nil {
		return err
	}
	if len(body) > 0 {
		return apierrors.New(apierrors.MalformedRequest, "the request has a body of %d bytes; this route takes none, say ?by=", len(body))
	}
	const method = headwaterv1.CounterService_AddAndGetCount_FullMethodName
	ctx, cancel := x.context(method, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, method,
		&headwaterv1.AddAndGetCountRequest{Namespace: namespace, Counter: name, Delta: by, Token: token}, srv.AddAndGetCount)
	if err != nil {
		return err
	}
	x.setPosition(res.GetResult().GetPosition())
	x.answerMessage(res)
	return nil
}

func (x *exchange) getCounter(srv headwaterv1.CounterServiceServer, namespace, name string) error {
	timeout, err := x.deadline()
	if err != nil {
		return err
	}
	query, err := x.query([]string{"accuracy"}, "after")
	if err != nil {
		return err
	}
	accuracy, err := accuracyOf(query.Get("accuracy"))
	if err != nil {
		return err
	}
	const method = headwaterv1.CounterService_GetCount_FullMethodName
	ctx, cancel := x.context(method, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, method,
		&headwaterv1.GetCountRequest{Namespace: namespace, Counter: name, Accuracy: accuracy, After: query["after"]}, srv.GetCount)
	if err != nil {
		return err
	}
	x.setPosition(res.GetCount().GetAsOf().GetPosition())
	x.answerMessage(res)
	return nil
}

// accuracyOf reads a name in either case; empty is the namespace's.
func accuracyOf(name string) (headwaterv1.Count_Accuracy, error) {
	if name == "" {
		return headwaterv1.Count_ACCURACY_UNSPECIFIED, nil
	}
	v, ok := headwaterv1.Count_Accuracy_value[strings.ToUpper(name)]
	if !ok || v == 0 {
		return 0, apierrors.New(apierrors.BadAccuracy, "accuracy is %s; use best_effort, eventual or accurate", clip(name))
	}
	return headwaterv1.Count_Accuracy(v), nil
}
