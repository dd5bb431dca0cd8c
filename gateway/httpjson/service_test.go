package httpjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// kvService keeps items in memory, one value a key, and does what its test says
// about the rest.
type kvService struct {
	headwaterv1.UnimplementedKeyValueServiceServer
	mu    sync.Mutex
	items map[string]*headwaterv1.Item // by namespace NUL id NUL key
	puts  []*headwaterv1.PutItemsRequest
	dels  []*headwaterv1.DeleteItemsRequest
	gets  []*headwaterv1.GetItemsRequest
	// put replaces PutItems when it is set.
	put func(context.Context, *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error)
	// pieces is the value of every chunked item, piecesErr how its stream ends.
	pieces    [][]byte
	piecesErr error
}

func itemName(namespace, id string, key []byte) string {
	return namespace + "\x00" + id + "\x00" + string(key)
}

func (s *kvService) PutItems(ctx context.Context, req *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = append(s.puts, req)
	if s.put != nil {
		return s.put(ctx, req)
	}
	res := &headwaterv1.PutItemsResponse{Result: &headwaterv1.WriteResult{
		Token: req.GetToken(), Position: "p1", Durability: headwaterv1.WriteResult_SYNC, Duplicate: headwaterv1.WriteResult_NO,
	}}
	for _, it := range req.GetItems() {
		name := itemName(req.GetNamespace(), req.GetId(), it.GetKey())
		if req.GetCondition().GetIfAbsent() && s.items[name] != nil {
			return nil, apierrors.New(apierrors.ConditionFailed, "the item exists; read it").With("currentVersion", s.items[name].GetVersion())
		}
		s.items[name] = &headwaterv1.Item{Key: it.GetKey(), Value: it.GetValue(), Version: "v1", Size: int64(len(it.GetValue())), ContentType: it.GetContentType()}
		res.Versions = append(res.Versions, "v1")
	}
	return res, nil
}

func (s *kvService) GetItems(_ context.Context, req *headwaterv1.GetItemsRequest) (*headwaterv1.GetItemsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets = append(s.gets, req)
	res := &headwaterv1.GetItemsResponse{AsOf: &headwaterv1.AsOf{Position: "p2", Time: timestamppb.New(timestamppb.Now().AsTime())}}
	for _, k := range req.GetPredicate().GetMatchKeys().GetKeys() {
		if it := s.items[itemName(req.GetNamespace(), req.GetId(), k)]; it != nil {
			res.Items = append(res.Items, it)
		}
	}
	return res, nil
}

func (s *kvService) DeleteItems(_ context.Context, req *headwaterv1.DeleteItemsRequest) (*headwaterv1.DeleteItemsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dels = append(s.dels, req)
	return &headwaterv1.DeleteItemsResponse{Result: &headwaterv1.WriteResult{Position: "p3"}}, nil
}

func (s *kvService) GetItem(req *headwaterv1.GetItemRequest, out grpc.ServerStreamingServer[headwaterv1.GetItemResponse]) error {
	s.mu.Lock()
	item := s.items[itemName(req.GetNamespace(), req.GetId(), req.GetKey())]
	s.mu.Unlock()
	if err := out.Send(&headwaterv1.GetItemResponse{Part: &headwaterv1.GetItemResponse_Header_{Header: &headwaterv1.GetItemResponse_Header{
		Item: item, AsOf: &headwaterv1.AsOf{Position: "p4"},
	}}}); err != nil {
		return err
	}
	for _, p := range s.pieces {
		if err := out.Send(&headwaterv1.GetItemResponse{Part: &headwaterv1.GetItemResponse_Data{Data: p}}); err != nil {
			return err
		}
	}
	return s.piecesErr
}

func (s *kvService) UploadChunk(in grpc.ClientStreamingServer[headwaterv1.UploadChunkRequest, headwaterv1.UploadChunkResponse]) error {
	res := &headwaterv1.UploadChunkResponse{}
	for {
		chunk, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(res)
		}
		if err != nil {
			return err
		}
		res.ChunksReceived++
		res.BytesReceived += int64(len(chunk.GetData()))
	}
}

// logService streams what its test says.
type logService struct {
	headwaterv1.UnimplementedLogServiceServer
	read  func(*headwaterv1.ReadLogRequest, grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error
	write func(*headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error)
}

func (s *logService) ReadLog(req *headwaterv1.ReadLogRequest, out grpc.ServerStreamingServer[headwaterv1.ReadLogResponse]) error {
	return s.read(req, out)
}

func (s *logService) WriteToLog(_ context.Context, req *headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
	return s.write(req)
}

// fixture is a handler on a real server.
type fixture struct {
	t       testing.TB
	kv      *kvService
	log     *logService
	handler *Handler
	server  *httptest.Server
}

func newFixture(t testing.TB, cfg Config) *fixture {
	f := &fixture{t: t, kv: &kvService{items: map[string]*headwaterv1.Item{}}, log: &logService{}}
	f.handler = New(cfg)
	headwaterv1.RegisterKeyValueServiceServer(f.handler, f.kv)
	headwaterv1.RegisterCounterServiceServer(f.handler, headwaterv1.UnimplementedCounterServiceServer{})
	headwaterv1.RegisterLogServiceServer(f.handler, f.log)
	headwaterv1.RegisterAdminServiceServer(f.handler, headwaterv1.UnimplementedAdminServiceServer{})
	headwaterv1.RegisterNamespaceServiceServer(f.handler, headwaterv1.UnimplementedNamespaceServiceServer{})
	f.handler.RegisterPlainKV(f.kv)
	f.handler.RegisterPlainCounter(headwaterv1.UnimplementedCounterServiceServer{})
	f.handler.RegisterPlainLog(f.log)
	f.server = httptest.NewServer(f.handler)
	t.Cleanup(f.server.Close)
	return f
}

// answer is a response with its body read; err is what ended the body.
type answer struct {
	*http.Response
	body []byte
	err  error
}

func (f *fixture) do(method, path, body string, headers ...string) answer {
	f.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := f.server.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return answer{Response: res, body: data, err: err}
}

const (
	putPath    = headwaterv1.KeyValueService_PutItems_FullMethodName
	getPath    = headwaterv1.KeyValueService_GetItems_FullMethodName
	chunkPath  = headwaterv1.KeyValueService_UploadChunk_FullMethodName
	readPath   = headwaterv1.LogService_ReadLog_FullMethodName
	statusPath = headwaterv1.AdminService_Status_FullMethodName
)

// wantError checks status, reason and the form of the error body, and returns
// the body.
func (a answer) wantError(t testing.TB, status int, reason string) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(a.body, &body); err != nil {
		t.Fatalf("status %d, body %.300q is not JSON: %v", a.StatusCode, a.body, err)
	}
	if a.StatusCode != status || body["reason"] != reason {
		t.Errorf("status %d %.300s, want %d %s", a.StatusCode, a.body, status, reason)
	}
	if err := checkErrorBody(body); err != nil {
		t.Errorf("%v: %s", err, a.body)
	}
	if body["requestId"] != a.Header.Get("X-Request-Id") {
		t.Errorf("request id %v in the body, %q in the header", body["requestId"], a.Header.Get("X-Request-Id"))
	}
	return body
}

// checkErrorBody holds the form that API.md gives to errors.
func checkErrorBody(body map[string]any) error {
	for _, name := range []string{"code", "message", "reason", "requestId"} {
		if s, ok := body[name].(string); !ok || s == "" {
			return fmt.Errorf("error body has no %s", name)
		}
	}
	if _, ok := body["metadata"].(map[string]any); !ok {
		return errors.New("metadata is no object")
	}
	if d, ok := body["details"].([]any); !ok || len(d) != 0 {
		return errors.New("details is no empty list")
	}
	for name := range body {
		if !strings.Contains(" code message reason requestId metadata details outcome token retryAfter ", " "+name+" ") {
			return fmt.Errorf("unknown field %s", name)
		}
	}
	_, hasToken := body["token"]
	outcome, hasOutcome := body["outcome"]
	if hasToken != hasOutcome {
		return errors.New("outcome without token, or token without outcome")
	}
	if hasOutcome && outcome != "NOT_APPLIED" && outcome != "UNKNOWN" {
		return fmt.Errorf("outcome is %v", outcome)
	}
	return nil
}

func incoming(ctx context.Context, name string) []string {
	md, _ := metadata.FromIncomingContext(ctx)
	return md.Get(name)
}

func jsonPut(value []byte) string {
	var b bytes.Buffer
	b.WriteString(`{"namespace":"n","id":"i","items":[{"key":"aw==","value":`)
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	b.Write(data)
	b.WriteString(`}]}`)
	return b.String()
}
