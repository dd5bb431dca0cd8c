package httpjson

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

const (
	plainKVPrefix  = "/v1/kv/"
	positionHeader = "Headwater-Position"
	// plainPage lets a GET carry any value that a page can hold.
	plainPage = 4 << 20
)

// RegisterPlainKV serves /v1/kv/ with the service that is also registered as
// KeyValueService.
func (h *Handler) RegisterPlainKV(srv headwaterv1.KeyValueServiceServer) {
	h.registerPlain(plainRoutes{
		prefix: plainKVPrefix, document: plainKVPaths,
		serve: func(x *exchange, escaped []string) { x.plainKV(srv, escaped) },
	})
}

// plainKV serves /v1/kv/{namespace}/{id}/{key} and, to delete a whole record,
// /v1/kv/{namespace}/{id}. A trailing slash is the empty key.
func (x *exchange) plainKV(srv headwaterv1.KeyValueServiceServer, escaped []string) {
	if len(escaped) < 2 || len(escaped) > 3 {
		x.notFound()
		return
	}
	x.write = !reads(x.r.Method)
	methods := []string{http.MethodGet, http.MethodPut, http.MethodDelete}
	if len(escaped) == 2 {
		methods = []string{http.MethodDelete}
	}
	if !x.allow(methods...) {
		return
	}
	if err := x.serveKV(srv, escaped); err != nil {
		x.fail(err)
	}
}

func (x *exchange) serveKV(srv headwaterv1.KeyValueServiceServer, escaped []string) error {
	path, err := unescape(escaped, 2)
	if err != nil {
		return err
	}
	timeout, err := x.deadline()
	if err != nil {
		return err
	}
	switch x.r.Method {
	case http.MethodPut:
		return x.putKV(srv, path[0], path[1], []byte(path[2]), timeout)
	case http.MethodDelete:
		return x.deleteKV(srv, path, timeout)
	default:
		return x.getKV(srv, path[0], path[1], []byte(path[2]), timeout)
	}
}

func (x *exchange) putKV(srv headwaterv1.KeyValueServiceServer, namespace, id string, key []byte, timeout time.Duration) error {
	token, err := x.plainToken()
	if err != nil {
		return err
	}
	if _, err := x.query(nil); err != nil {
		return err
	}
	item := &headwaterv1.PutItem{Key: key}
	if item.Ttl, err = x.plainTTL(); err != nil {
		return err
	}
	if item.ContentType, _, err = x.header("Content-Type"); err != nil {
		return err
	}
	condition, err := x.plainCondition()
	if err != nil {
		return err
	}
	if item.Value, err = x.readBody(x.h.cfg.MaxValueBytes, timeout); err != nil {
		return err
	}
	ctx, cancel := x.context(headwaterv1.KeyValueService_PutItems_FullMethodName, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, headwaterv1.KeyValueService_PutItems_FullMethodName,
		&headwaterv1.PutItemsRequest{Namespace: namespace, Id: id, Items: []*headwaterv1.PutItem{item}, Token: token, Condition: condition}, srv.PutItems)
	if err != nil {
		return err
	}
	if v := res.GetVersions(); len(v) == 1 {
		x.w.Header().Set("ETag", quoteVersion(v[0]))
	}
	x.noContent(res.GetResult().GetPosition())
	return nil
}

func (x *exchange) deleteKV(srv headwaterv1.KeyValueServiceServer, path []string, timeout time.Duration) error {
	token, err := x.plainToken()
	if err != nil {
		return err
	}
	if _, err := x.query(nil); err != nil {
		return err
	}
	condition, err := x.plainCondition()
	if err != nil {
		return err
	}
	predicate := &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}
	if len(path) == 3 {
		predicate = matchKey([]byte(path[2]))
	}
	ctx, cancel := x.context(headwaterv1.KeyValueService_DeleteItems_FullMethodName, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, headwaterv1.KeyValueService_DeleteItems_FullMethodName,
		&headwaterv1.DeleteItemsRequest{Namespace: path[0], Id: path[1], Predicate: predicate, Token: token, Condition: condition}, srv.DeleteItems)
	if err != nil {
		return err
	}
	x.noContent(res.GetResult().GetPosition())
	return nil
}

func (x *exchange) getKV(srv headwaterv1.KeyValueServiceServer, namespace, id string, key []byte, timeout time.Duration) error {
	query, err := x.query([]string{"consistency"}, "after")
	if err != nil {
		return err
	}
	consistency, err := consistencyOf(query.Get("consistency"))
	if err != nil {
		return err
	}
	ctx, cancel := x.context(headwaterv1.KeyValueService_GetItems_FullMethodName, timeout)
	defer cancel()
	res, err := invoke(ctx, x, srv, headwaterv1.KeyValueService_GetItems_FullMethodName, &headwaterv1.GetItemsRequest{
		Namespace: namespace, Id: id, Predicate: matchKey(key), Selection: &headwaterv1.Selection{PageSizeBytes: proto.Int64(plainPage)},
		After: query["after"], Consistency: consistency,
	}, srv.GetItems)
	if err != nil {
		return err
	}
	position := res.GetAsOf().GetPosition()
	switch items := res.GetItems(); {
	case len(items) == 1 && !items[0].GetChunked():
		x.itemHead(items[0], position)
		x.w.Header().Set("Content-Length", strconv.Itoa(len(items[0].GetValue())))
		x.w.WriteHeader(http.StatusOK)
		x.send(items[0].GetValue())
		return nil
	case len(items) == 1:
		return x.getChunked(srv, &headwaterv1.GetItemRequest{Namespace: namespace, Id: id, Key: key, After: query["after"], Consistency: consistency}, timeout)
	case len(items) == 0 && !res.GetPartial() && res.GetNextPageToken() == "":
		x.setPosition(position)
		return apierrors.New(apierrors.ItemNotFound, "there is no item under this id and key; nothing was stored, or it was deleted or has expired")
	case len(items) == 0:
		return apierrors.New(apierrors.DeadlineExceeded, "the item could not be read before the deadline; allow more time with Request-Timeout-Ms")
	default:
		return apierrors.New(apierrors.Internal, "one key answered with %d items; report it with the request id", len(items))
	}
}

// getChunked streams a value that is too large for a page. An error after the
// first piece cuts the connection, so that the body is not taken for whole.
func (x *exchange) getChunked(srv headwaterv1.KeyValueServiceServer, req *headwaterv1.GetItemRequest, timeout time.Duration) error {
	const method = headwaterv1.KeyValueService_GetItem_FullMethodName
	ctx, cancel := x.context(method, timeout)
	defer cancel()
	defer x.endPush()
	s := &stream{x: x, ctx: ctx, request: req, send: x.sendPiece}
	desc := &grpc.StreamDesc{StreamName: "GetItem", ServerStreams: true, Handler: getItemHandler}
	if err := x.runStream(desc, srv, method, s); err != nil && !x.headSent() {
		return err
	}
	if !x.started {
		return apierrors.New(apierrors.Internal, "the item's stream ended without a header; report it with the request id")
	}
	return nil
}

// getItemHandler is what the generated code registers for GetItem.
var getItemHandler = func() grpc.StreamHandler {
	for i := range headwaterv1.KeyValueService_ServiceDesc.Streams {
		if d := &headwaterv1.KeyValueService_ServiceDesc.Streams[i]; d.StreamName == "GetItem" {
			return d.Handler
		}
	}
	panic("httpjson: KeyValueService has no stream GetItem")
}()

// sendPiece sends a part of GetItem's answer as raw bytes.
func (x *exchange) sendPiece(m proto.Message) error {
	part, ok := m.(*headwaterv1.GetItemResponse)
	if !ok {
		return apierrors.New(apierrors.Internal, "an item's stream holds a %T; report it with the request id", m)
	}
	if header := part.GetHeader(); header != nil {
		x.itemHead(header.GetItem(), header.GetAsOf().GetPosition())
		x.w.WriteHeader(http.StatusOK)
		return x.endHead()
	}
	if !x.started {
		return apierrors.New(apierrors.Internal, "an item's stream begins without a header; report it with the request id")
	}
	return x.push(part.GetData())
}

// itemHead sets the headers of a raw value. The value is a caller's: a browser
// must not run it as a page of this origin.
func (x *exchange) itemHead(item *headwaterv1.Item, position string) {
	header := x.w.Header()
	contentType := item.GetContentType()
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	header.Set("Content-Type", contentType)
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	header.Set("Cache-Control", "no-store")
	header.Set("ETag", quoteVersion(item.GetVersion()))
	x.setPosition(position)
	x.started = true
}

func (x *exchange) setPosition(position string) {
	if position != "" {
		x.w.Header().Set(positionHeader, position)
	}
}

func (x *exchange) noContent(position string) {
	x.setPosition(position)
	x.started = true
	x.w.WriteHeader(http.StatusNoContent)
}

// plainTTL reads Headwater-TTL, a duration such as 1h30m.
func (x *exchange) plainTTL() (*durationpb.Duration, error) {
	value, ok, err := x.header("Headwater-TTL")
	if err != nil || !ok {
		return nil, err
	}
	ttl, err := time.ParseDuration(value)
	if err != nil || ttl <= 0 {
		return nil, apierrors.New(apierrors.BadTTL, "Headwater-TTL is %s; send a duration above zero such as 1h or 90s", clip(value))
	}
	return durationpb.New(ttl), nil
}

// plainCondition reads If-None-Match: * and If-Match: "<version>".
func (x *exchange) plainCondition() (*headwaterv1.Condition, error) {
	absent, hasAbsent, err := x.header("If-None-Match")
	if err != nil {
		return nil, err
	}
	match, hasMatch, err := x.header("If-Match")
	if err != nil {
		return nil, err
	}
	switch {
	case hasAbsent && hasMatch:
		return nil, apierrors.New(apierrors.BadCondition, "If-Match and If-None-Match exclude each other; send one")
	case hasAbsent && absent != "*":
		return nil, apierrors.New(apierrors.BadCondition, "If-None-Match is %s; only * is supported", clip(absent))
	case hasAbsent && x.r.Method == http.MethodDelete:
		return nil, apierrors.New(apierrors.BadCondition, "If-None-Match has no meaning for a delete; use If-Match")
	case hasAbsent:
		return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}, nil
	case hasMatch:
		version, ok := strings.CutPrefix(match, `"`)
		version, closed := strings.CutSuffix(version, `"`)
		if !ok || !closed || version == "" || strings.Contains(version, `"`) {
			return nil, apierrors.New(apierrors.BadCondition, "If-Match is %s; send one ETag as it was answered, in double quotes", clip(match))
		}
		return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: version}}, nil
	}
	return nil, nil
}

func quoteVersion(v string) string { return `"` + v + `"` }

func matchKey(key []byte) *headwaterv1.Predicate {
	return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: [][]byte{key}}}}
}

// consistencyOf reads a name in either case; empty is the default.
func consistencyOf(name string) (headwaterv1.Consistency, error) {
	if name == "" {
		return headwaterv1.Consistency_CONSISTENCY_UNSPECIFIED, nil
	}
	v, ok := headwaterv1.Consistency_value[strings.ToUpper(name)]
	if !ok || v == 0 {
		return 0, apierrors.New(apierrors.BadConsistency, "consistency is %s; use read_your_writes, latest or eventual", clip(name))
	}
	return headwaterv1.Consistency(v), nil
}
