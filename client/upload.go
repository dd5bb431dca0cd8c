package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// chunksPerStream is how many chunks are sent before the server has to say that
// it has them; as much is sent again after a failure.
const chunksPerStream = 8

// The sizes of a chunk that a server may ask for.
const (
	minChunk = 64 << 10
	maxChunk = 1 << 20
)

// upload writes one large item: its chunks are staged, and the commit, which
// carries the caller's token, makes them the item's value.
//
// The upload's own token follows from a business key, so that the same call in
// another process goes on with the same upload, whose commit then is the same
// request.
func (k *KV) upload(ctx context.Context, id string, it *headwaterv1.PutItem, o WriteOptions) (WriteResult, error) {
	begin := Token{}
	if o.Token.Key != "" {
		sum := sha256.Sum256([]byte("headwater upload " + o.Token.Key))
		copy(begin.Nonce[:], sum[:])
	} else if o.Token.Nonce != [16]byte{} {
		sum := sha256.Sum256(append([]byte("headwater upload "), o.Token.Nonce[:]...))
		copy(begin.Nonce[:], sum[:])
	}
	begin = k.c.complete(begin)
	breq := &headwaterv1.BeginUploadRequest{
		Namespace: k.namespace, Id: id, Key: it.Key, Size: int64(len(it.Value)), Ttl: it.Ttl, Compression: it.Compression,
		ContentType: it.ContentType, Token: begin.message(),
	}
	var bres *headwaterv1.BeginUploadResponse
	err := k.c.call(ctx, writesOnce, begin, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		bres, err = k.c.kv.BeginUpload(ctx, breq, opts...)
		return err
	})
	if err != nil {
		return WriteResult{}, staging(err, o.Token)
	}
	size := int(bres.GetChunkSize())
	if size < minChunk || size > maxChunk {
		return WriteResult{}, &Error{Code: codes.Internal, Message: fmt.Sprintf("the server asks for chunks of %d bytes; they have %d to %d", size, minChunk, maxChunk), Outcome: NotApplied, Token: o.Token}
	}
	chunks := (len(it.Value) + size - 1) / size
	for from := 0; from < chunks; from += chunksPerStream {
		err := k.chunks(ctx, bres.GetUploadId(), it.Value, size, from, min(from+chunksPerStream, chunks))
		if e, ok := errors.AsType[*Error](err); ok && e.Reason == apierrors.UploadClosed && o.Token != (Token{}) {
			break // perhaps committed under this token already: the commit's answer says
		}
		if err != nil {
			k.abort(ctx, bres.GetUploadId(), o.Token)
			return WriteResult{}, staging(err, o.Token)
		}
	}
	return k.commit(ctx, bres.GetUploadId(), it.Value, chunks, o)
}

// staging makes the error of a step before the commit that of the whole write,
// which has not happened.
func staging(err error, token Token) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	if token.IsZero() {
		e.Outcome = NotApplied
	} // else an earlier call with the token may have committed: keep what the step says
	e.Token = token
	return e
}

// chunks stages the chunks from..to-1, in one stream for each attempt. A chunk
// that is sent again does no harm.
func (k *KV) chunks(ctx context.Context, upload string, value []byte, size, from, to int) error {
	return k.c.call(ctx, writesOnce, Token{}, func(ctx context.Context, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := k.c.kv.UploadChunk(ctx, opts...)
		if err != nil {
			return err
		}
		for i := from; i < to; i++ {
			data := value[i*size : min((i+1)*size, len(value))]
			sum := crc32.Checksum(data, castagnoli)
			err := stream.Send(&headwaterv1.UploadChunkRequest{Namespace: k.namespace, UploadId: upload, Index: int32(i), Data: data, Crc32C: &sum})
			if errors.Is(err, io.EOF) {
				break // the server has ended the stream; CloseAndRecv says why
			}
			if err != nil {
				return err
			}
		}
		res, err := stream.CloseAndRecv()
		if err != nil {
			return err
		}
		if int(res.GetChunksReceived()) != to-from {
			return corrupt(fmt.Sprintf("the server has %d of %d chunks", res.GetChunksReceived(), to-from), nil)
		}
		return nil
	})
}

func (k *KV) commit(ctx context.Context, upload string, value []byte, chunks int, o WriteOptions) (WriteResult, error) {
	sum := sha256.Sum256(value)
	// A token of our own is made now: its time is when the value is seen.
	token := k.c.complete(o.Token)
	req := &headwaterv1.CommitUploadRequest{
		Namespace: k.namespace, UploadId: upload, Chunks: int32(chunks), Size: int64(len(value)), Sha256: sum[:],
		Token: token.message(), Condition: o.condition(),
	}
	var res *headwaterv1.CommitUploadResponse
	err := k.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = k.c.kv.CommitUpload(ctx, req, opts...)
		return err
	})
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Outcome == NotApplied {
			k.abort(ctx, upload, o.Token)
		}
		return WriteResult{}, err
	}
	k.c.clock.observeVersion(res.GetVersion())
	return k.c.result(k.namespace, res.GetResult(), token, []string{res.GetVersion()}), nil
}

// abort frees what a failed upload has staged, when there is time left. It is a
// courtesy: what is not committed expires.
func (k *KV) abort(ctx context.Context, upload string, token Token) {
	if ctx.Err() != nil || !token.IsZero() { // with a token of the caller's it can be gone on with
		return
	}
	req := &headwaterv1.AbortUploadRequest{Namespace: k.namespace, UploadId: upload, Token: k.c.NewToken().message()}
	// One attempt, and its failure changes nothing: the caller gets the error that
	// made the upload fail.
	actx, cancel := context.WithTimeout(ctx, k.c.cfg.AttemptTimeout)
	defer cancel()
	_, _ = k.c.kv.AbortUpload(actx, req)
}
