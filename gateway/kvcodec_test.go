package gateway

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// answer is what a GetItems is answered with, before it is encoded.
type answer struct {
	items   []kv.StoredItem
	form    itemForm
	next    string
	partial bool
	asOf    wal.AsOf
}

// frame encodes a as gRPC gets it.
func (a *answer) frame(t interface{ Fatal(...any) }) []byte {
	f := &itemsFrame{form: a.form}
	for i := range a.items {
		it := a.items[i]
		it.Key, it.Value = bytes.Clone(it.Key), bytes.Clone(it.Value)
		if err := f.add(&it); err != nil {
			t.Fatal(err)
		}
		clear(it.Key) // lent for the time of the call
		clear(it.Value)
	}
	f.end(a.next, a.partial, &a.asOf)
	bufs, err := newFrameCodec().Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	defer bufs.Free()
	return bufs.Materialize()
}

// message is the reference.
func (a *answer) message() *headwaterv1.GetItemsResponse {
	var items []*headwaterv1.Item
	for i := range a.items {
		items = append(items, itemMessage(&a.items[i], &a.form))
	}
	return &headwaterv1.GetItemsResponse{
		Items: items, NextPageToken: a.next, Partial: a.partial, AsOf: asOfMessage(a.asOf),
	}
}

// checkFrame compares the frame's bytes with what the generated code makes.
func checkFrame(t interface{ Fatal(...any) }, a *answer) {
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(a.message())
	if err != nil {
		t.Fatal(err)
	}
	if got := a.frame(t); !bytes.Equal(got, want) {
		m := &headwaterv1.GetItemsResponse{}
		err := proto.Unmarshal(got, m)
		t.Fatal("frame and message differ\nframe  ", len(got), m, err, "\nmessage", len(want), a.message())
	}
}

// drawMicros are times of every encoded length, and whole seconds.
func drawMicros(t *rapid.T, name string) int64 {
	v := rapid.Int64Range(0, 1<<rapid.IntRange(0, 56).Draw(t, name+" bits")).Draw(t, name)
	if rapid.Bool().Draw(t, name+" whole") {
		v -= v % 1e6
	}
	return v
}

func drawItem(t *rapid.T) kv.StoredItem {
	text := rapid.SampledFrom([]string{"", "text/html", strings.Repeat("x", 200), "é"})
	it := kv.StoredItem{
		Key: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "key"), ContentType: text.Draw(t, "content type"),
		Compression: rapid.SampledFrom([]string{"", "", "zstd", "s2"}).Draw(t, "compression"),
		Version:     wal.Version{Time: drawMicros(t, "time"), Nonce: wal.Nonce(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))},
	}
	n := rapid.SampledFrom([]int{0, 1, 127, 128, 400, 600, 20_000, pieceBytes - 1, pieceBytes, pieceBytes + 1, MaxPageBytes}).Draw(t, "length")
	it.Value = bytes.Repeat([]byte{byte(n), 1, 2}, n/3+1)[:n]
	if it.Compression == "s2" && rapid.Bool().Draw(t, "compressed") {
		var b bytes.Buffer
		w := s2.NewWriter(&b)
		if _, err := w.Write(it.Value); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		it.Value = b.Bytes()
	}
	it.Size = int64(len(it.Value))
	if rapid.Bool().Draw(t, "expires") {
		it.Version.Class, it.Version.Expiry = wal.Expiring, drawMicros(t, "expiry")
	}
	if rapid.IntRange(0, 9).Draw(t, "chunked") == 0 {
		it.Size, it.Value = MaxPageBytes+rapid.Int64Range(0, 1<<40).Draw(t, "size"), nil
	}
	return it
}

func TestFrameIsTheMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &answer{
			items: rapid.SliceOfN(rapid.Custom(drawItem), 0, 20).Draw(t, "items"),
			form:  itemForm{omitValues: rapid.Bool().Draw(t, "omitted"), omitAbove: rapid.SampledFrom([]int64{0, 0, 1, 10, 100}).Draw(t, "omitted above")},
			next:  rapid.SampledFrom([]string{"", "next", strings.Repeat("n", 1000)}).Draw(t, "next"), partial: rapid.Bool().Draw(t, "partial"),
			asOf: wal.AsOf{Position: rapid.SampledFrom([]string{"", "position", strings.Repeat("p", 5000)}).Draw(t, "position"), Time: drawMicros(t, "as of")},
		}
		if rapid.Bool().Draw(t, "accepts") {
			a.form.accept = map[string]bool{rapid.SampledFrom([]string{"zstd", "s2"}).Draw(t, "accept"): true}
		}
		for i := range a.items {
			if a.form.omits(a.items[i].Size) { // as the store has it then
				a.items[i].Value = nil
			}
		}
		checkFrame(t, a)
	})
}

// FuzzFrame compares one item, and several pieces of it.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "text/html", int64(1), int64(0), int64(5), uint16(1), "")
	f.Add([]byte{}, []byte{}, "", int64(0), int64(1), int64(5<<20), uint16(3), "next")
	f.Add(bytes.Repeat([]byte{1}, 1024), make([]byte, 700), "", int64(1e15), int64(2e15), int64(700), uint16(400), "next")
	f.Fuzz(func(t *testing.T, key, value []byte, contentType string, at, expiry, size int64, n uint16, next string) {
		if at < 0 || expiry < 0 || size < 0 {
			return // no cell has them
		}
		it := kv.StoredItem{Key: key, Value: value, ContentType: contentType, Size: size, Version: wal.Version{Time: at, Expiry: expiry}}
		a := &answer{next: strings.ToValidUTF8(next, ""), asOf: wal.AsOf{Time: at}}
		for range n%512 + 1 {
			a.items = append(a.items, it)
		}
		if _, err := proto.Marshal(a.message()); err != nil {
			if err := (&itemsFrame{}).add(&it); !errors.Is(err, errItemUTF8) {
				t.Fatalf("an item that cannot be encoded: %v", err)
			}
			return
		}
		checkFrame(t, a)
	})
}

// TestFramePiecesAreUsedAgain holds that a piece that went back to the pool is not
// sent with what it held before.
func TestFramePiecesAreUsedAgain(t *testing.T) {
	for i := range 50 {
		a := &answer{asOf: wal.AsOf{Time: int64(i)}}
		for j := range 2000 {
			a.items = append(a.items, kv.StoredItem{Key: []byte{byte(j)}, Value: bytes.Repeat([]byte{byte(i)}, 100+i), Size: int64(100 + i)})
		}
		checkFrame(t, a)
	}
}

// TestFramesOnTheWire sends frames of many callers at a time through gRPC, some of
// which go away in the middle: a piece that went back to the pool before it was
// sent would show in another's answer.
func TestFramesOnTheWire(t *testing.T) {
	frame := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the parameters' order is gRPC's
		in := &headwaterv1.GetItemsRequest{}
		if err := decode(in); err != nil {
			return nil, err
		}
		seed := in.GetId()[0]
		f := &itemsFrame{}
		value := bytes.Repeat([]byte{seed}, 1000+int(seed))
		for i := range 1 + 10*int(seed) {
			if err := f.add(&kv.StoredItem{Key: []byte{seed, byte(i)}, Value: value, Size: int64(len(value))}); err != nil {
				return nil, err
			}
		}
		clear(value) // it was lent
		f.end(strings.Repeat(in.GetId(), 300), false, &wal.AsOf{})
		return f, nil
	}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(newFrameCodec()), grpc.WriteBufferSize(64<<10))
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: headwaterv1.KeyValueService_ServiceDesc.ServiceName, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "GetItems", Handler: frame}},
	}, struct{}{})
	ln := bufconn.Listen(64 << 10)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///frames", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for caller := range 16 {
		wg.Go(func() {
			for n := range 10 {
				seed := byte('!' + (caller*7+n)%90)
				ctx, cancel := context.WithCancel(t.Context())
				if n%4 == 3 {
					time.AfterFunc(time.Duration(n*caller)*10*time.Microsecond, cancel)
				}
				out, err := headwaterv1.NewKeyValueServiceClient(conn).GetItems(ctx, &headwaterv1.GetItemsRequest{Id: string(seed)})
				left := ctx.Err() != nil
				cancel()
				if err != nil {
					if !left {
						t.Error(err)
					}
					continue
				}
				want := bytes.Repeat([]byte{seed}, 1000+int(seed))
				if len(out.GetItems()) != 1+10*int(seed) || out.GetNextPageToken() != strings.Repeat(string(seed), 300) {
					t.Errorf("the answer to %d has %d items and the token %.10q", seed, len(out.GetItems()), out.GetNextPageToken())
					return
				}
				for i, it := range out.GetItems() {
					if !bytes.Equal(it.GetKey(), []byte{seed, byte(i)}) || !bytes.Equal(it.GetValue(), want) {
						t.Errorf("item %d of the answer to %d is another's: %x", i, seed, it.GetKey())
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	srv.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
