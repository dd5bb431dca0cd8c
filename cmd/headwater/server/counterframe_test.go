package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestAddCountsOverGRPCIsAddCountsOverJSON: one is scanned and one decoded, and
// they are the same request, to the token.
func TestAddCountsOverGRPCIsAddCountsOverJSON(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// raw sends bytes as they are.
	raw := func(data []byte) (*headwaterv1.AddCountsResponse, error) {
		in := &emptypb.Empty{}
		in.ProtoReflect().SetUnknown(data)
		out := &headwaterv1.AddCountsResponse{}
		return out, conn.Invoke(ctx, headwaterv1.CounterService_AddCounts_FullMethodName, in, out)
	}
	body := `"adds":[{"counter":"a","delta":"-9223372036854775808"},{"counter":"ü","delta":5,"eventTime":"2026-01-01T00:00:00.5Z","ttl":"3600.25s"},{"counter":"ü","delta":1,"token":{"key":"own"}}],"token":{"key":"same"}`
	is(t, "JSON", onCounter(t, s, "AddCounts", body), "result.duplicate", "NO")
	text := func(s string) []byte { return protowire.AppendBytes(nil, []byte(s)) }
	field := func(n protowire.Number, b []byte) []byte {
		return append(protowire.AppendTag(nil, n, protowire.BytesType), b...)
	}
	varint := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	message := func(n protowire.Number, parts ...[]byte) []byte {
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		return field(n, protowire.AppendBytes(nil, b))
	}
	// The same call as bytes that only a hand would write: the namespace last and
	// twice, times in two pieces, unknown fields.
	at := uint64(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	same := message(2, varint(2, protowire.EncodeZigZag(-1<<63)), varint(77, 1), field(1, text("x")), field(1, text("a")))
	same = append(same, message(2, field(1, text("ü")), varint(2, protowire.EncodeZigZag(5)), message(3, varint(1, at)), message(3, varint(2, 500_000_000)), message(4, varint(2, 250_000_000), varint(1, 3600)))...)
	same = append(same, message(2, message(5, field(3, text("own"))), field(1, text("ü")), varint(2, protowire.EncodeZigZag(1)))...)
	same = append(same, message(3, field(3, text("same")))...)
	same = append(same, field(1, text("nope"))...)
	same = append(same, field(1, text("demo-counter"))...)
	res, err := raw(same)
	if err != nil || res.GetResult().GetDuplicate() != headwaterv1.WriteResult_YES || res.GetResult().GetToken().GetKey() != "same" {
		t.Fatalf("the same call over gRPC: %v, %v", res, err)
	}
	is(t, "counts", onCounter(t, s, "GetCounts", `"counters":["a","ü"],"accuracy":"ACCURATE"`), "counts.a.value", "-9223372036854775808", "counts.ü.value", "6")

	client := headwaterv1.NewCounterServiceClient(conn)
	for what, c := range map[string]struct {
		call   func() error
		reason string
	}{
		"broken": {func() error { _, err := raw([]byte{0x12, 0x05}); return err }, apierrors.MalformedRequest},
		"not UTF-8": {func() error {
			_, err := raw(append(field(1, text("demo-counter")), message(2, field(1, text("\xff")))...))
			return err
		}, apierrors.MalformedRequest},
		"no adds":    {func() error { _, err := raw(field(1, text("demo-counter"))); return err }, apierrors.TooManyItems},
		"nothing":    {func() error { _, err := raw(nil); return err }, apierrors.BadNamespaceName},
		"empty name": {func() error { _, err := raw(append(field(1, text("demo-counter")), message(2)...)); return err }, apierrors.BadCounter},
		"long name": {func() error {
			_, err := client.AddCounts(ctx, &headwaterv1.AddCountsRequest{Namespace: "demo-counter", Adds: []*headwaterv1.CounterAdd{{Counter: "a"}, {Counter: strings.Repeat("x", 1025)}}})
			return err
		}, apierrors.BadCounter},
		"too many": {func() error {
			adds := make([]*headwaterv1.CounterAdd, 10_001)
			for i := range adds {
				adds[i] = &headwaterv1.CounterAdd{Counter: "a"}
			}
			_, err := client.AddCounts(ctx, &headwaterv1.AddCountsRequest{Namespace: "demo-counter", Adds: adds})
			return err
		}, apierrors.TooManyItems},
		"wrong abstraction": {func() error {
			_, err := client.AddCounts(ctx, &headwaterv1.AddCountsRequest{Namespace: "demo-kv", Adds: []*headwaterv1.CounterAdd{{Counter: "a"}}})
			return err
		}, apierrors.WrongAbstraction},
	} {
		e := apierrors.FromStatus(c.call())
		if e == nil || e.Reason != c.reason || e.Outcome != apierrors.NotApplied {
			t.Errorf("%s: %v, want %s", what, e, c.reason)
		}
	}
	// Many at a time, each with memory of its own.
	names := make([]*headwaterv1.CounterAdd, 1000)
	for i := range names {
		names[i] = &headwaterv1.CounterAdd{Counter: strings.Repeat("n", i+1), Delta: int64(i)}
	}
	req := &headwaterv1.AddCountsRequest{Namespace: "demo-counter", Adds: names}
	errs := make(chan error)
	for range 16 {
		go func() {
			_, err := client.AddCounts(ctx, proto.CloneOf(req))
			errs <- err
		}()
	}
	for range 16 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, i := range []int{0, 1, 500, 999} {
		r, err := client.GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: "demo-counter", Counter: names[i].GetCounter(), Accuracy: headwaterv1.Count_ACCURATE})
		if err != nil || r.GetCount().GetValue() != int64(16*i) {
			t.Errorf("counter %d: %v, %v", i, r, err)
		}
	}
}
