package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// The sizes of a chunk. A chunk is one record of the log.
const (
	MinChunk = 64 << 10
	MaxChunk = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BeginUpload stages a large value. Its chunks are sent to UploadChunk and it is
// seen, whole, from CommitUpload on. It is given up kv.UploadLease after it
// began.
func (s *KeyValue) BeginUpload(ctx context.Context, req *headwaterv1.BeginUploadRequest) (*headwaterv1.BeginUploadResponse, error) {
	fail := func(err error) (*headwaterv1.BeginUploadResponse, error) {
		return nil, forWrite(err, false, req.GetToken())
	}
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return fail(err)
	}
	if err := checkID(req.GetId()); err != nil {
		return fail(err)
	}
	if err := checkKey(req.GetKey()); err != nil {
		return fail(err)
	}
	if most := ns.Config().Limits.MaxValue; req.GetSize() < 0 || req.GetSize() > most {
		return fail(apierrors.New(apierrors.ValueTooLarge, "size is %d; the namespace takes values of up to %d bytes", req.GetSize(), most))
	}
	ttl, err := parseTTL(req.GetTtl())
	if err == nil {
		err = checkMeta(req.GetCompression(), req.GetContentType())
	}
	if err != nil {
		return fail(err)
	}
	tok, err := parseToken(req.GetToken())
	if err == nil {
		err = ns.admitWrite(1, len(req.GetId())+len(req.GetKey()))
	}
	if err != nil {
		return fail(err)
	}
	r := &kv.Request{Token: tok, Mutations: []kv.Mutation{{
		Op: kv.OpBeginUpload, ID: []byte(req.GetId()),
		Items: []kv.Item{{Key: req.GetKey(), TTL: ttl, Compression: req.GetCompression(), ContentType: req.GetContentType()}},
	}}}
	res := ns.KV.Write(ctx, []*kv.Request{r})[0]
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	u, err := ns.KV.FindUpload(ctx, res.ID)
	if err != nil {
		return nil, forWrite(err, true, tokenMessage(res.Token, req.GetToken()))
	}
	return &headwaterv1.BeginUploadResponse{
		UploadId: res.ID.String(), ChunkSize: int64(ns.Config().KV.ChunkThreshold), ExpiresAt: timeMessage(u.Expiry),
		Result: writeResult(ns, &res, req.GetToken()),
	}, nil
}

func parseUploadID(s string) (kv.UploadID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(kv.UploadID{}) {
		return kv.UploadID{}, apierrors.New(apierrors.BadUpload, "upload_id is not one that BeginUpload gave")
	}
	return kv.UploadID(b), nil
}

// staged finds an upload that takes chunks.
func staged(ctx context.Context, ns *Namespace, id string) (kv.UploadID, kv.StoredUpload, error) {
	upload, err := parseUploadID(id)
	if err != nil {
		return upload, kv.StoredUpload{}, err
	}
	u, err := ns.KV.FindUpload(ctx, upload)
	if errors.Is(err, kv.ErrUploadUnknown) {
		err = apierrors.Wrap(apierrors.UploadNotFound, err, "there is no such upload; begin it again")
	}
	return upload, u, err
}

// UploadChunk takes chunks of one upload, in any order, each durable before the
// next is read. A chunk may be sent again; the same index with other bytes
// replaces it until the commit, whose checksum decides.
func (s *KeyValue) UploadChunk(stream headwaterv1.KeyValueService_UploadChunkServer) error {
	ctx := stream.Context()
	out := &headwaterv1.UploadChunkResponse{}
	var ns *Namespace
	var upload kv.UploadID
	var u kv.StoredUpload
	var name, id string
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if ns == nil {
				return forWrite(apierrors.New(apierrors.BadUpload, "the stream has no chunk"), false, nil)
			}
			return stream.SendAndClose(out)
		}
		if err != nil {
			return err
		}
		if ns == nil {
			name, id = req.GetNamespace(), req.GetUploadId()
			if ns, err = s.dir.kv(ctx, name); err != nil {
				return forWrite(err, false, nil)
			}
			if upload, u, err = staged(ctx, ns, id); err != nil {
				return forWrite(err, false, nil)
			}
			if u.Committed {
				return forWrite(kv.ErrUploadUnknown, false, nil)
			}
		} else if req.GetNamespace() != name && req.GetNamespace() != "" || req.GetUploadId() != id && req.GetUploadId() != "" {
			return forWrite(apierrors.New(apierrors.BadUpload, "a stream carries the chunks of one upload"), false, nil)
		}
		if err := checkChunk(ns, req); err != nil {
			return forWrite(err, false, nil)
		}
		if err := ns.admitWrite(1, len(req.GetData())); err != nil {
			return forWrite(err, false, nil)
		}
		if _, err := ns.KV.Chunk(ctx, u.Record, upload, int(req.GetIndex()), req.GetData()); err != nil {
			return forWrite(err, errors.Is(err, wal.ErrUnknown), nil)
		}
		out.ChunksReceived++
		out.BytesReceived += int64(len(req.GetData()))
	}
}

func checkChunk(ns *Namespace, req *headwaterv1.UploadChunkRequest) error {
	most := int(kv.MaxValueBytes / MinChunk)
	if req.GetIndex() < 0 || int(req.GetIndex()) >= most {
		return apierrors.New(apierrors.BadUpload, "chunk index is %d; it must be 0 to %d", req.GetIndex(), most-1)
	}
	if len(req.GetData()) == 0 || len(req.GetData()) > MaxChunk {
		return apierrors.New(apierrors.BadUpload, "a chunk has %d bytes; it must have 1 to %d", len(req.GetData()), MaxChunk)
	}
	if int64(req.GetIndex())*MinChunk > ns.Config().Limits.MaxValue {
		return apierrors.New(apierrors.ValueTooLarge, "chunk %d lies beyond the namespace's largest value", req.GetIndex())
	}
	if req.Crc32C != nil && crc32.Checksum(req.GetData(), castagnoli) != req.GetCrc32C() {
		return apierrors.New(apierrors.BadUpload, "chunk %d does not have the checksum it was sent with; send it again", req.GetIndex())
	}
	return nil
}

// CommitUpload makes an upload the value of its item, if it is whole: all chunks
// there, size and SHA-256 as stated. It answers after it is applied.
func (s *KeyValue) CommitUpload(ctx context.Context, req *headwaterv1.CommitUploadRequest) (*headwaterv1.CommitUploadResponse, error) {
	fail := func(err error) (*headwaterv1.CommitUploadResponse, error) {
		return nil, forWrite(err, false, req.GetToken())
	}
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return fail(err)
	}
	upload, u, err := staged(ctx, ns, req.GetUploadId())
	if err != nil {
		return fail(err)
	}
	if req.GetChunks() < 1 || int64(req.GetChunks()) > kv.MaxValueBytes/MinChunk {
		return fail(apierrors.New(apierrors.BadUpload, "chunks is %d; it must be 1 to %d", req.GetChunks(), kv.MaxValueBytes/MinChunk))
	}
	if most := ns.Config().Limits.MaxValue; req.GetSize() < 1 || req.GetSize() > most {
		return fail(apierrors.New(apierrors.ValueTooLarge, "size is %d; it must be 1 to %d", req.GetSize(), most))
	}
	if len(req.GetSha256()) != 32 {
		return fail(apierrors.New(apierrors.BadUpload, "sha256 has %d bytes; it must have 32", len(req.GetSha256())))
	}
	cond, err := parseCondition(req.GetCondition(), 1)
	if err != nil {
		return fail(err)
	}
	tok, err := parseToken(req.GetToken())
	if err == nil {
		err = ns.admitWrite(1, 0)
	}
	if err != nil {
		return fail(err)
	}
	r := &kv.Request{Token: tok, Mutations: []kv.Mutation{{
		Op: kv.OpCommitUpload, ID: u.Record, Condition: cond,
		Items:  []kv.Item{{Key: u.Key, TTL: u.TTL, Compression: u.Compression, ContentType: u.ContentType}},
		Upload: kv.Upload{ID: upload, Chunks: int(req.GetChunks()), Size: req.GetSize(), SHA256: [32]byte(req.GetSha256())},
	}}}
	res := ns.KV.Write(ctx, []*kv.Request{r})[0]
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	return &headwaterv1.CommitUploadResponse{Result: writeResult(ns, &res, req.GetToken()), Version: res.Versions[0].String()}, nil
}

// AbortUpload gives an upload up. One that is committed stays.
func (s *KeyValue) AbortUpload(ctx context.Context, req *headwaterv1.AbortUploadRequest) (*headwaterv1.AbortUploadResponse, error) {
	fail := func(err error, unknown bool) (*headwaterv1.AbortUploadResponse, error) {
		return nil, forWrite(err, unknown, req.GetToken())
	}
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return fail(err, false)
	}
	tok, err := parseToken(req.GetToken())
	if err != nil {
		return fail(err, false)
	}
	if tok.Nonce == (wal.Nonce{}) {
		tok.Nonce = wal.NewNonce()
	}
	upload, u, err := staged(ctx, ns, req.GetUploadId())
	if err != nil {
		return fail(err, false)
	}
	if u.Committed {
		return fail(kv.ErrUploadUnknown, false)
	}
	if err := ns.admitWrite(1, 0); err != nil {
		return fail(err, false)
	}
	o, err := ns.KV.AbortUpload(ctx, u.Record, upload)
	if err != nil {
		return fail(err, errors.Is(err, wal.ErrUnknown))
	}
	p := ns.Stream.PartitionOf(u.Record)
	return &headwaterv1.AbortUploadResponse{Result: &headwaterv1.WriteResult{
		Token: tokenMessage(tok, req.GetToken()), Position: ns.Stream.Position(p, o), Durability: ns.durability(), Duplicate: headwaterv1.WriteResult_NO,
	}}, nil
}

// streamPiece is how much of a value one message of GetItem carries, at most.
const streamPiece = 256 << 10

// GetItem streams one item of any size: what it is, then its value in pieces.
func (s *KeyValue) GetItem(req *headwaterv1.GetItemRequest, stream headwaterv1.KeyValueService_GetItemServer) error {
	ctx := stream.Context()
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return err
	}
	if err := checkID(req.GetId()); err != nil {
		return err
	}
	if err := checkKey(req.GetKey()); err != nil {
		return err
	}
	point, err := readPoint(ns, req.GetConsistency(), req.GetAfter())
	if err != nil {
		return err
	}
	accept, err := accepted(req.GetAcceptCompression())
	if err != nil {
		return err
	}
	id := []byte(req.GetId())
	it, seen, err := ns.KV.Item(ctx, id, req.GetKey(), point)
	if err != nil {
		return fromDomain(err)
	}
	var src io.Reader = &chunkReader{ctx: ctx, db: ns.KV, id: id, it: &it}
	head := it
	undo := it.Compression != "" && !accept[it.Compression]
	if undo {
		r, done, err := expander(it.Compression, src)
		if err != nil {
			return apierrors.Wrap(apierrors.Corrupt, err, "the value is not %s as it was recorded; ask with accept_compression", it.Compression)
		}
		defer done()
		src = io.LimitReader(r, kv.MaxValueBytes+1)
		head.Compression = ""
	}
	m := itemMessage(&head, &itemForm{accept: accept, omitValues: true})
	m.Value, m.Chunked = nil, it.Chunks > 0
	header := &headwaterv1.GetItemResponse_Header{Item: m, AsOf: asOfMessage(ns.Stream.AsOf(seen))}
	if it.Chunks > 0 && !undo {
		header.Sha256 = it.SHA256[:]
	}
	if err := stream.Send(&headwaterv1.GetItemResponse{Part: &headwaterv1.GetItemResponse_Header_{Header: header}}); err != nil {
		return err
	}
	return sendPieces(stream, src, undo)
}

func sendPieces(stream headwaterv1.KeyValueService_GetItemServer, src io.Reader, undo bool) error {
	sent := int64(0)
	for {
		buf := make([]byte, streamPiece) // gRPC may keep what it is given
		n, err := io.ReadFull(src, buf)
		if sent += int64(n); undo && sent > kv.MaxValueBytes {
			return apierrors.New(apierrors.ValueTooLarge, "the value is over %d bytes when it is decompressed; ask with accept_compression", int64(kv.MaxValueBytes))
		}
		if n > 0 {
			if err := stream.Send(&headwaterv1.GetItemResponse{Part: &headwaterv1.GetItemResponse_Data{Data: buf[:n]}}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n < len(buf) && !undo:
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
			continue // the next read tells a short value from a damaged one
		case err != nil:
			return fromDomain(err)
		}
	}
}

// chunkReader reads the value of an item, inline or uploaded.
type chunkReader struct {
	ctx  context.Context
	db   *kv.DB
	id   []byte
	it   *kv.StoredItem
	next int
	left []byte
	done bool
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		switch {
		case r.it.Value != nil && !r.done:
			r.left, r.done = r.it.Value, true
		case r.it.Value != nil || r.next >= r.it.Chunks:
			return 0, io.EOF
		default:
			data, err := r.db.ReadChunk(r.ctx, r.id, r.it, r.next)
			if err != nil {
				return 0, err
			}
			r.left = data
			r.next++
		}
		if len(r.left) == 0 && r.done {
			return 0, io.EOF
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
