package server

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// plainClient is a client of gRPC as it comes: it takes answers of 4 MiB.
func plainClient(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// pages reads a record page by page, by GetItems and by ScanItems, and returns its
// items.
func pages(t *testing.T, kv headwaterv1.KeyValueServiceClient, id string, size int64) map[string][]*headwaterv1.Item {
	t.Helper()
	all := map[string][]*headwaterv1.Item{}
	for _, way := range []string{"get", "keys", "scan"} {
		token, seen := "", map[string]bool{}
		for n := 0; ; n++ {
			var items []*headwaterv1.Item
			switch way {
			case "get", "keys":
				req := &headwaterv1.GetItemsRequest{
					Namespace: "demo-kv", Id: id, PageToken: token,
					Selection: &headwaterv1.Selection{PageSizeBytes: &size},
				}
				if way == "keys" {
					keys := &headwaterv1.Predicate_MatchKeys{}
					for _, it := range all["get"][:min(len(all["get"]), 1000)] {
						keys.Keys = append(keys.Keys, it.GetKey())
					}
					req.Predicate = &headwaterv1.Predicate{
						Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: keys},
					}
				}
				res, err := kv.GetItems(t.Context(), req)
				if err != nil {
					t.Fatalf("%s, page %d: %v", way, n, err)
				}
				items, token = res.GetItems(), res.GetNextPageToken()
			default:
				res, err := kv.ScanItems(t.Context(), &headwaterv1.ScanItemsRequest{
					Namespace: "demo-kv", PageToken: token, PageSizeBytes: &size,
				})
				if err != nil {
					t.Fatalf("%s, page %d: %v", way, n, err)
				}
				for _, r := range res.GetRecords() {
					if r.GetId() == id {
						items = append(items, r.GetItems()...)
					}
				}
				token = res.GetNextPageToken()
			}
			for _, it := range items {
				if seen[string(it.GetKey())] {
					t.Fatalf("%s, page %d: key %q again", way, n, it.GetKey())
				}
				seen[string(it.GetKey())] = true
			}
			all[way] = append(all[way], items...)
			if token == "" {
				break
			}
		}
	}
	return all
}

// TestAPlainClientReadsEveryPage: whatever the items are, an answer has at most
// the 4 MiB that clients of gRPC take.
func TestAPlainClientReadsEveryPage(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	kv := headwaterv1.NewKeyValueServiceClient(plainClient(t, s))
	put := func(id string, items []*headwaterv1.PutItem) {
		t.Helper()
		for len(items) > 0 {
			n, size := 0, 0
			for n < min(len(items), 1000) && size < 6<<20 {
				size += len(items[n].GetValue()) + 512
				n++
			}
			_, err := kv.PutItems(t.Context(), &headwaterv1.PutItemsRequest{Namespace: "demo-kv", Id: id,
				Items: items[:n]})
			if err != nil {
				t.Fatal(err)
			}
			items = items[n:]
		}
	}
	check := func(id string, size int64, want []*headwaterv1.PutItem, value func(*headwaterv1.PutItem) []byte) {
		t.Helper()
		for way, items := range pages(t, kv, id, size) {
			want := want
			if way == "keys" {
				want = want[:min(len(want), 1000)] // as many as a call takes
			}
			if len(items) != len(want) {
				t.Fatalf("%s, %s: %d items, want %d", id, way, len(items), len(want))
			}
			for i, it := range items {
				if !bytes.Equal(it.GetKey(), want[i].GetKey()) || !bytes.Equal(it.GetValue(), value(want[i])) ||
					it.GetChunked() {
					t.Fatalf("%s, %s: item %d is %.80v", id, way, i, it)
				}
			}
		}
	}
	asPut := func(it *headwaterv1.PutItem) []byte { return it.GetValue() }

	// What surrounds an item is several times as long as the item.
	var small []*headwaterv1.PutItem
	for i := range 20_000 {
		small = append(small, &headwaterv1.PutItem{
			Key: fmt.Appendf(nil, "%05d", i), ContentType: strings.Repeat("t", 256), Ttl: durationpb.New(1e12),
		})
	}
	put("small", small)
	check("small", 4<<20, small, asPut)

	// Values that are a page each, to the byte.
	var large []*headwaterv1.PutItem
	for i := range 6 {
		value := make([]byte, 1<<20)
		if _, err := rand.Read(value); err != nil {
			t.Fatal(err)
		}
		large = append(large, &headwaterv1.PutItem{Key: fmt.Appendf(nil, "%05d", i), Value: value})
	}
	put("large", large)
	check("large", 4<<20, large, asPut)

	// Some kilobytes each, and a megabyte when they are unpacked.
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("headwater"), 1<<17)
	packed := enc.EncodeAll(plain, nil)
	var bombs []*headwaterv1.PutItem
	for i := range 20 {
		bombs = append(bombs, &headwaterv1.PutItem{Key: fmt.Appendf(nil, "%05d", i), Value: packed,
			Compression: "zstd"})
	}
	put("bombs", bombs)
	unpacked := func(*headwaterv1.PutItem) []byte { return plain }
	check("bombs", 4<<20, bombs, unpacked)
	check("bombs", 1<<10, bombs, unpacked)
}

// TestAValueThatFillsAPageIsReadByItself: up to 4,032 KiB come with their item,
// and what is larger is streamed.
func TestAValueThatFillsAPageIsReadByItself(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	kv := headwaterv1.NewKeyValueServiceClient(plainClient(t, s))
	for _, n := range []int{4 << 20, 4032<<10 + 1, 4032 << 10} {
		value := make([]byte, n)
		if _, err := rand.Read(value); err != nil {
			t.Fatal(err)
		}
		if r := upload(t, s, "photo", "", value, ""); r.status != 200 {
			t.Fatal(r)
		}
		size := int64(4 << 20)
		res, err := kv.GetItems(t.Context(), &headwaterv1.GetItemsRequest{
			Namespace: "demo-kv", Id: "big", Selection: &headwaterv1.Selection{PageSizeBytes: &size},
		})
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		it := res.GetItems()[0]
		if chunked := n > 4032<<10; it.GetChunked() != chunked || it.GetSize() != int64(n) || !chunked &&
			!bytes.Equal(it.GetValue(), value) {
			t.Errorf("%d bytes: chunked %v, size %d, %d bytes", n, it.GetChunked(), it.GetSize(), len(it.GetValue()))
		}
		if r := send(t, s, "GET", "/v1/kv/demo-kv/big/photo", ""); r.status != 200 || len(r.body) < n-64 {
			t.Errorf("%d bytes: %d, %d bytes", n, r.status, len(r.body))
		}
	}
}

// TestAPlainClientReadsCounts: of as many names as a call takes, or it is told.
func TestAPlainClientReadsCounts(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	c := headwaterv1.NewCounterServiceClient(plainClient(t, s))
	name := func(i, n int) string { return fmt.Sprintf("%05d%s", i, strings.Repeat("n", n-5)) }
	for _, length := range []int{209, 1024} {
		var names []string
		for i := 0; i < 10_000 && (i+1)*length <= 2<<20; i++ {
			names = append(names, name(i, length))
		}
		var adds []*headwaterv1.CounterAdd
		for _, n := range names {
			adds = append(adds, &headwaterv1.CounterAdd{Counter: n, Delta: -1 << 62})
		}
		for i := 0; i < len(adds); i += 4000 {
			_, err := c.AddCounts(t.Context(), &headwaterv1.AddCountsRequest{
				Namespace: "demo-counter", Adds: adds[i:min(len(adds), i+4000)],
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		res, err := c.GetCounts(t.Context(), &headwaterv1.GetCountsRequest{
			Namespace: "demo-counter", Counters: names, Accuracy: headwaterv1.Count_ACCURATE,
		})
		if err != nil || len(res.GetCounts()) != len(names) || res.GetCounts()[names[0]].GetValue() != -1<<62 {
			t.Errorf("%d names of %d bytes: %d counts, %v", len(names), length, len(res.GetCounts()), err)
		}
	}
	var long []string
	for i := range 2049 {
		long = append(long, name(i, 1024))
	}
	_, err := c.GetCounts(t.Context(), &headwaterv1.GetCountsRequest{Namespace: "demo-counter", Counters: long})
	if e := apierrors.FromStatus(err); err == nil || e.Reason != apierrors.TooManyItems ||
		e.Code != codes.InvalidArgument {
		t.Errorf("more names than an answer has room for: %v", err)
	}
	listed, token := 0, ""
	for {
		res, err := c.ListCounts(t.Context(), &headwaterv1.ListCountsRequest{
			Namespace: "demo-counter", PageSize: proto.Int32(10_000), PageToken: token,
			Accuracy: headwaterv1.Count_ACCURATE,
		})
		if err != nil {
			t.Fatalf("after %d counters: %v", listed, err)
		}
		listed += len(res.GetCounts())
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	if listed != 10_000+2048 {
		t.Errorf("%d counters are listed", listed)
	}
}

// TestAPlainClientReadsDeadLetters: they come with the records that they are of.
func TestAPlainClientReadsDeadLetters(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	conn := plainClient(t, s)
	for i := range 7 {
		poisonWith(t, s, "demo-kv", fmt.Sprintf("sick %d", i), make([]byte, 1<<20))
	}
	l := headwaterv1.NewLogServiceClient(conn)
	letters := func(sel *headwaterv1.DeadLetterSelection) (all []*headwaterv1.DeadLetter) {
		for token := ""; ; {
			res, err := l.ListDeadLetters(t.Context(), &headwaterv1.ListDeadLettersRequest{
				Namespace: "demo-kv", Selection: sel, PageToken: token,
			})
			if err != nil {
				t.Fatalf("after %d letters: %v", len(all), err)
			}
			all = append(all, res.GetDeadLetters()...)
			if token = res.GetNextPageToken(); token == "" {
				return all
			}
		}
	}
	sel := &headwaterv1.DeadLetterSelection{}
	for _, d := range letters(nil) {
		sel.Ids = append(sel.Ids, d.GetId())
	}
	named := letters(sel)
	if len(named) != 7 || len(sel.Ids) != 7 {
		t.Errorf("%d dead letters, %d of them by their ids", len(sel.Ids), len(named))
	}
	for _, d := range named {
		if len(d.GetPayload()) < 1<<20 {
			t.Errorf("a dead letter comes with %d bytes of its record", len(d.GetPayload()))
		}
	}
}

// TestABatchIsAnsweredOrRefused: the answer to a batch has a version for each
// item, and room for so many.
func TestABatchIsAnsweredOrRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	kv := headwaterv1.NewKeyValueServiceClient(plainClient(t, s))
	batch := func(requests, items int) *headwaterv1.BatchPutItemsRequest {
		req := &headwaterv1.BatchPutItemsRequest{}
		for i := range requests {
			r := &headwaterv1.PutItemsRequest{Namespace: "demo-kv", Id: fmt.Sprint(i)}
			for j := range items {
				r.Items = append(r.Items, &headwaterv1.PutItem{Key: []byte(fmt.Sprint(j))})
			}
			req.Requests = append(req.Requests, r)
		}
		return req
	}
	res, err := kv.BatchPutItems(t.Context(), batch(1000, 50))
	if err != nil || len(res.GetResponses()) != 1000 || len(res.GetResponses()[999].GetResponse().GetVersions()) != 50 {
		t.Errorf("%d answers, %v", len(res.GetResponses()), err)
	}
	_, err = kv.BatchPutItems(t.Context(), batch(500, 1000))
	if e := apierrors.FromStatus(err); err == nil || e.Reason != apierrors.TooManyItems ||
		e.Outcome != apierrors.NotApplied {
		t.Errorf("more items than an answer has room for: %v", status.Convert(err))
	}
}
