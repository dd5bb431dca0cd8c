package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// The requests of this file are gRPC as bytes, which no library of gRPC sends: a
// broken one, one of another version, or a proxy does.

// wire calls methods of gRPC with bodies as they are given.
type wire struct {
	c    *http.Client
	addr string
}

func newWire(t *testing.T, s *Server) *wire {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &wire{&http.Client{Transport: tr}, s.GRPCAddr()}
}

// call returns the messages of the answer and its error, nil for none.
func (w *wire) call(t *testing.T, method string, body []byte, header ...string) ([][]byte, *apierrors.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.addr+method, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.c.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	var messages [][]byte
	for len(data) >= 5 {
		n := 5 + int(binary.BigEndian.Uint32(data[1:]))
		messages, data = append(messages, data[:n]), data[n:]
	}
	trailer := resp.Trailer
	if resp.Header.Get("Grpc-Status") != "" {
		trailer = resp.Header // an answer of trailers only
	}
	code, err := strconv.Atoi(trailer.Get("Grpc-Status"))
	if err != nil {
		t.Fatalf("%s: no status in %v", method, resp.Header)
	}
	if code == 0 {
		return messages, nil
	}
	st := &spb.Status{Code: int32(code), Message: trailer.Get("Grpc-Message")}
	if bin := trailer.Get("Grpc-Status-Details-Bin"); bin != "" {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(bin, "="))
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(b, st); err != nil {
			t.Fatal(err)
		}
	}
	return messages, apierrors.FromStatus(status.FromProto(st).Err())
}

// framed is a message as gRPC sends it.
func framed(flag byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// eachMethod calls f with every method of the API, whether it writes, and whether
// the first field of its requests is text.
func eachMethod(f func(method string, writes, textFirst bool)) {
	for _, file := range []protoreflect.FileDescriptor{
		headwaterv1.File_headwater_v1_kv_proto, headwaterv1.File_headwater_v1_counter_proto,
		headwaterv1.File_headwater_v1_log_proto, headwaterv1.File_headwater_v1_namespace_proto,
		headwaterv1.File_headwater_v1_admin_proto,
	} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				level := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
				first := m.Input().Fields().ByNumber(1)
				f("/"+string(s.FullName())+"/"+string(m.Name()), level != descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
					first != nil && first.Kind() == protoreflect.StringKind)
			}
		}
	}
}

// TestEveryErrorOfGRPCHasItsCode: also those that are found before a method is
// called, of every method.
func TestEveryErrorOfGRPCHasItsCode(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	w := newWire(t, s)
	zeros := gzipped(t, make([]byte, 9<<20))
	cut := gzipped(t, bytes.Repeat([]byte("headwater"), 1000))
	cases := []struct {
		name     string
		body     []byte
		encoding string
		code     codes.Code
		reason   string
	}{
		{"garbage", framed(0, []byte{0xff, 0xff, 0xff}), "", codes.InvalidArgument, apierrors.MalformedRequest},
		{"text that is not UTF-8", framed(0, []byte{0x0a, 1, 0xff}), "", codes.InvalidArgument, ""},
		{"no message", nil, "", codes.InvalidArgument, ""}, // UploadChunk has a reason of its own
		{"half a header", []byte{0, 0}, "", codes.InvalidArgument, apierrors.MalformedRequest},
		{"half a message", framed(0, make([]byte, 9))[:9], "", codes.InvalidArgument, apierrors.MalformedRequest},
		{"an unknown flag", framed(7, nil), "", codes.InvalidArgument, apierrors.MalformedRequest},
		{"compressed as nothing", framed(1, nil), "", codes.InvalidArgument, apierrors.MalformedRequest},
		{"no gzip", framed(1, []byte("no gzip")), "gzip", codes.InvalidArgument, apierrors.MalformedRequest},
		{"half of gzip", framed(1, cut[:20]), "gzip", codes.InvalidArgument, apierrors.MalformedRequest},
		{"garbage in gzip", framed(1, gzipped(t, []byte{0xff})), "gzip", codes.InvalidArgument,
			apierrors.MalformedRequest},
		{"too large", framed(0, make([]byte, 9<<20)), "", codes.ResourceExhausted, apierrors.RequestTooLarge},
		{"far too large", framed(0, make([]byte, 70<<20)), "", codes.ResourceExhausted, apierrors.RequestTooLarge},
		{"larger than an int", []byte{0, 0xff, 0xff, 0xff, 0xff}, "", codes.ResourceExhausted,
			apierrors.RequestTooLarge},
		{"too large as gzip", framed(1, zeros), "gzip", codes.ResourceExhausted, apierrors.RequestTooLarge},
	}
	eachMethod(func(method string, writes, textFirst bool) {
		for _, c := range cases {
			if len(c.body) > 16<<20 && !strings.HasSuffix(method, "/PutItems") {
				continue // once
			}
			if c.name == "text that is not UTF-8" && !textFirst {
				continue
			}
			_, err := w.call(t, method, c.body, "Grpc-Encoding", c.encoding)
			if err == nil {
				t.Errorf("%s, %s: no error", method, c.name)
				continue
			}
			want := apierrors.OutcomeNone
			if writes {
				want = apierrors.NotApplied
			}
			if err.Code != c.code || err.Outcome != want || err.Metadata[apierrors.MetaRequestID] == "" ||
				c.reason != "" && err.Reason != c.reason || err.Reason == "" {
				t.Errorf("%s, %s: %v, metadata %v", method, c.name, err, err.Metadata)
			}
		}
	})
	one := framed(0, nil)
	for method, body := range map[string][]byte{
		"/headwater.v1.KeyValueService/PutItem": one, "/headwater.v1.KeyValue/PutItems": one, "/a/b": one,
		"/headwater.v1.KeyValueService/": one, "/nothing": one,
	} {
		if _, err := w.call(t, method, body); err == nil || err.Code != codes.Unimplemented ||
			err.Reason != apierrors.NotOffered || err.Metadata[apierrors.MetaRequestID] == "" {
			t.Errorf("%s: %v", method, err)
		}
	}
	_, err := w.call(t, "/headwater.v1.CounterService/AddCount", append(framed(0, nil), framed(0, nil)...))
	if err == nil || err.Reason != apierrors.MalformedRequest || err.Outcome != apierrors.NotApplied {
		t.Errorf("two messages of one: %v", err)
	}
	for _, method := range []string{"/grpc.health.v1.Health/Check",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} {
		if _, err := w.call(t, method, framed(0, []byte{0xff})); err == nil ||
			err.Reason != apierrors.MalformedRequest {
			t.Errorf("%s: %v", method, err)
		}
	}
	// A method that there is not is no label: callers make them up.
	if r := get(t, "http://"+inside(s).AdminAddr()+"/metrics"); strings.Contains(r.body, `method="/a/b"`) {
		t.Error("what a caller called is a label of the metrics")
	}
}

// TestGzipOverGRPC: requests may be compressed, and the answer is then too.
func TestGzipOverGRPC(t *testing.T) {
	t.Parallel()
	w := newWire(t, start(t, t.TempDir()))
	put, err := proto.Marshal(&headwaterv1.PutItemsRequest{
		Namespace: "demo-kv", Id: "packed",
		Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 1<<20)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const puts = "/headwater.v1.KeyValueService/PutItems"
	if _, err := w.call(t, puts, framed(1, gzipped(t, put)), "Grpc-Encoding", "gzip"); err != nil {
		t.Fatal(err)
	}
	get, err := proto.Marshal(&headwaterv1.GetItemsRequest{Namespace: "demo-kv", Id: "packed"})
	if err != nil {
		t.Fatal(err)
	}
	// What comes with an encoding may be plain all the same.
	messages, failed := w.call(t, "/headwater.v1.KeyValueService/GetItems", framed(0, get), "Grpc-Encoding", "gzip")
	if failed != nil || len(messages) != 1 || messages[0][0] != 1 || len(messages[0]) > 64<<10 {
		t.Fatalf("%d messages, error %v", len(messages), failed)
	}
	r, err := gzip.NewReader(bytes.NewReader(messages[0][5:]))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	res := &headwaterv1.GetItemsResponse{}
	if err := proto.Unmarshal(plain, res); err != nil || len(res.GetItems()) != 1 ||
		len(res.GetItems()[0].GetValue()) != 1<<20 {
		t.Errorf("%v, %d items", err, len(res.GetItems()))
	}
}
