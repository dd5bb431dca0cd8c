package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// GetItems over gRPC makes no messages of the items: a page of small ones would
// be ten thousand, each copied out of the store, then into a message, then into
// the answer. itemsFrame encodes an item while the store lends it. JSON takes
// KeyValue.GetItems and the generated code, which are the reference for the bytes.

// What a frame is put together from: a first piece for a single item or so, then
// pieces from a pool.
const (
	firstPiece = 512
	pieceBytes = 128 << 10
)

// pieces is a mem.BufferPool of buffers of pieceBytes. Unlike gRPC's it does not
// clear them: only what was written is sent.
type pieces struct{ pool sync.Pool }

var piecePool = &pieces{pool: sync.Pool{New: func() any { b := make([]byte, 0, pieceBytes); return &b }}}

// Get returns an empty buffer with room for length bytes.
func (p *pieces) Get(length int) *[]byte {
	if length > pieceBytes {
		b := make([]byte, 0, length)
		return &b
	}
	return p.pool.Get().(*[]byte)
}

func (p *pieces) Put(b *[]byte) {
	if cap(*b) == pieceBytes {
		*b = (*b)[:0]
		p.pool.Put(b)
	}
}

// errItemUTF8 is of an item that no put of ours can have written.
var errItemUTF8 = errors.New("the compression or content type of an item is not UTF-8")

// itemsFrame is a GetItemsResponse that is encoded already. Used by one goroutine.
type itemsFrame struct {
	form  itemForm
	room  itemRoom
	done  mem.BufferSlice
	piece *[]byte // being filled; nil at first
}

// space returns the piece that n more bytes are to be appended to.
func (f *itemsFrame) space(n int) *[]byte {
	if f.piece != nil && cap(*f.piece)-len(*f.piece) >= n {
		return f.piece
	}
	if f.piece == nil && n <= firstPiece {
		b := make([]byte, 0, firstPiece)
		f.piece = &b
		return f.piece
	}
	f.seal()
	f.piece = piecePool.Get(n)
	return f.piece
}

func (f *itemsFrame) seal() {
	if f.piece != nil {
		f.done = append(f.done, mem.NewBuffer(f.piece, piecePool))
		f.piece = nil
	}
}

// buffers gives the frame up.
func (f *itemsFrame) buffers() mem.BufferSlice {
	f.seal()
	b := f.done
	f.done = nil
	return b
}

func (f *itemsFrame) free() { f.buffers().Free() }

// The fields of the messages that a frame has.
const (
	responseItems, responseNext, responsePartial, responseAsOf = 1, 2, 3, 4

	asOfPosition, asOfTime = 1, 2

	itemKey, itemValue, itemVersion, itemWrittenAt, itemExpiresAt, itemSize, itemChunked, itemCompression, itemContentType = 1, 2, 3, 4, 5, 6, 7, 8, 9
)

// Every field number is below 16: a tag is one byte.
func tag(field int, t protowire.Type) byte { return byte(field)<<3 | byte(t) }

// versionLen is the length of Version.String.
var versionLen = base64.RawURLEncoding.EncodedLen(wal.VersionSize)

// sizeBytes is the length of a field of n bytes, none when n is 0.
func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func sizeVarint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func appendBytes[T []byte | string](b []byte, field int, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = append(b, tag(field, protowire.BytesType))
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendVarint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(append(b, tag(field, protowire.VarintType)), v)
}

// stamp is a time as a Timestamp has it.
type stamp struct{ seconds, nanos uint64 }

func stampOf(micros int64) stamp {
	at := time.UnixMicro(micros)
	return stamp{uint64(at.Unix()), uint64(at.Nanosecond())}
}

func (s stamp) size() int { return sizeVarint(s.seconds) + sizeVarint(s.nanos) }

// append appends the message also when it is empty: it is there.
func (s stamp) append(b []byte, field int) []byte {
	b = append(b, tag(field, protowire.BytesType), byte(s.size())) // at most 22
	return appendVarint(appendVarint(b, timeSeconds, s.seconds), timeNanos, s.nanos)
}

// add appends an item, as kv.Query.Each.
func (f *itemsFrame) add(it *kv.StoredItem) error {
	if f.form.undoes(it) {
		return f.addMessage(it) // its value is not what is stored
	}
	if !utf8.ValidString(it.Compression) || !utf8.ValidString(it.ContentType) {
		return errItemUTF8
	}
	value := it.Value
	chunked := it.Size > kv.MaxPageValue
	if chunked {
		value = nil
	}
	written, expires := stampOf(it.Version.Time), stamp{}
	n := sizeBytes(len(it.Key)) + sizeBytes(len(value)) + sizeBytes(versionLen) + 2 + written.size() +
		sizeVarint(uint64(it.Size)) + sizeBytes(len(it.Compression)) + sizeBytes(len(it.ContentType))
	if it.Version.Expiry != 0 {
		expires = stampOf(it.Version.Expiry)
		n += 2 + expires.size()
	}
	if chunked {
		n += 2
	}
	if !f.room.take(len(it.Key), len(value), sizeBytes(n)) {
		return kv.ErrFull
	}
	piece := f.space(sizeBytes(n))
	b := append(*piece, tag(responseItems, protowire.BytesType))
	b = protowire.AppendVarint(b, uint64(n))
	b = appendBytes(b, itemKey, it.Key)
	b = appendBytes(b, itemValue, value)
	b = append(b, tag(itemVersion, protowire.BytesType), byte(versionLen))
	v := it.Version.Bytes()
	b = base64.RawURLEncoding.AppendEncode(b, v[:])
	b = written.append(b, itemWrittenAt)
	if it.Version.Expiry != 0 {
		b = expires.append(b, itemExpiresAt)
	}
	b = appendVarint(b, itemSize, uint64(it.Size))
	if chunked {
		b = appendVarint(b, itemChunked, 1)
	}
	b = appendBytes(b, itemCompression, it.Compression)
	*piece = appendBytes(b, itemContentType, it.ContentType)
	return nil
}

// addMessage appends an item that has to be made first.
func (f *itemsFrame) addMessage(it *kv.StoredItem) error {
	m := &headwaterv1.Item{WrittenAt: &timestamppb.Timestamp{}}
	f.form.fill(m, it)
	n := proto.Size(m)
	if !f.room.take(len(m.GetKey()), len(m.GetValue()), sizeBytes(n)) {
		return kv.ErrFull
	}
	piece := f.space(sizeBytes(n))
	b := append(*piece, tag(responseItems, protowire.BytesType))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(protowire.AppendVarint(b, uint64(n)), m)
	*piece = b
	return err
}

// end appends what stands behind the items. It is called once.
func (f *itemsFrame) end(next string, partial bool, asOf *wal.AsOf) {
	at := stampOf(asOf.Time)
	n := sizeBytes(len(asOf.Position)) + 2 + at.size()
	piece := f.space(sizeBytes(len(next)) + 2 + sizeBytes(n))
	b := appendBytes(*piece, responseNext, next)
	if partial {
		b = appendVarint(b, responsePartial, 1)
	}
	b = append(b, tag(responseAsOf, protowire.BytesType))
	b = protowire.AppendVarint(b, uint64(n))
	b = appendBytes(b, asOfPosition, asOf.Position)
	*piece = at.append(b, asOfTime)
}

// getFrame is GetItems with an encoded answer.
func (s *KeyValue) getFrame(ctx context.Context, req *headwaterv1.GetItemsRequest) (*itemsFrame, error) {
	r, err := s.itemsRead(ctx, req)
	if err != nil {
		return nil, err
	}
	f := &itemsFrame{form: r.form, room: itemRoom{bytes: r.q.MaxBytes}}
	r.q.Each = f.add
	page, seen, err := r.ns.KV.Get(ctx, r.q, r.point)
	if err != nil {
		f.free()
		return nil, fromDomain(err)
	}
	r.seen.add(seen)
	asOf := r.ns.Stream.AsOf(r.seen...)
	f.end(s.nextPage(r, page), page.Partial, &asOf)
	return f, nil
}

// registerKeyValue registers the service so that GetItems answers with a frame.
// The server must have a frameCodec.
func registerKeyValue(r grpc.ServiceRegistrar, srv headwaterv1.KeyValueServiceServer) {
	s, ok := srv.(*KeyValue)
	if !ok {
		headwaterv1.RegisterKeyValueServiceServer(r, srv)
		return
	}
	registerWith(r, headwaterv1.KeyValueService_ServiceDesc, "GetItems", getItemsHandler, s)
}

// getItemsHandler is what the generated code has for GetItems, with a frame in
// place of the answer.
func getItemsHandler(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the parameters' order is gRPC's
	s, ok := srv.(*KeyValue)
	if !ok {
		return nil, errors.New("GetItems is registered for another service")
	}
	in := &headwaterv1.GetItemsRequest{}
	if err := decode(in); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, req any) (any, error) {
		r, ok := req.(*headwaterv1.GetItemsRequest)
		if !ok {
			return nil, errors.New("an interceptor has replaced the request of GetItems")
		}
		f, err := s.getFrame(ctx, r)
		if err != nil {
			return nil, err // not f: a nil pointer would be an answer
		}
		return f, nil
	}
	if around == nil {
		return call(ctx, in)
	}
	return around(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: headwaterv1.KeyValueService_GetItems_FullMethodName}, call)
}
