package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func gone(err error) bool { return err != nil && errors.Is(err, ErrNotFound) }

// whole returns it with its value: one that a page left out for its size is
// fetched.
func (k *KV) whole(ctx context.Context, id string, it Item, o *ReadOptions) (Item, error) {
	if !it.Chunked || it.Value != nil || o.Omits(it.Size) {
		return it, nil
	}
	var value []byte
	var head *headwaterv1.Item
	req := &headwaterv1.GetItemRequest{Namespace: k.namespace, Id: id, Key: []byte(it.Key), AcceptCompression: acceptCompression}
	err := k.c.read(ctx, k.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithCancel(ctx) // ends the stream also when it is not read to its end
		defer cancel()
		req.After, req.Consistency = f.after, f.consistency
		stream, err := k.c.kv.GetItem(ctx, req, opts...)
		if err != nil {
			return err
		}
		head, value, err = receive(stream)
		return err
	})
	if err != nil {
		return Item{}, err
	}
	head.Value = nil
	out, err := k.c.item(head)
	if err != nil {
		return Item{}, err
	}
	out.Value, err = decompress(out.Compression, value)
	return out, err
}

// receive reads a value to its end and checks that it is all there.
func receive(stream grpc.ServerStreamingClient[headwaterv1.GetItemResponse]) (*headwaterv1.Item, []byte, error) {
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, noEOF(err)
	}
	head := first.GetHeader().GetItem()
	if head == nil {
		return nil, nil, corrupt("the server sent a value without a header", nil)
	}
	size := head.GetSize()
	if size < 0 || size > MaxValueBytes {
		return nil, nil, corrupt(fmt.Sprintf("the server sent a value of %d bytes, over the limit of a value", size), nil)
	}
	value := make([]byte, 0, size)
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if len(value)+len(part.GetData()) > int(size) {
			return nil, nil, corrupt(fmt.Sprintf("the server sent more than the %d bytes of a value", size), nil)
		}
		value = append(value, part.GetData()...)
	}
	if len(value) != int(size) {
		return nil, nil, corrupt(fmt.Sprintf("the server sent %d of the %d bytes of a value", len(value), size), nil)
	}
	// A value that was put has none, and a server before this field sends none.
	if want := first.GetHeader().GetSha256(); len(want) > 0 {
		if got := sha256.Sum256(value); !bytes.Equal(got[:], want) {
			return nil, nil, corrupt(fmt.Sprintf("the %d bytes that the server sent are not those that were uploaded: their SHA-256 differs", size), nil)
		}
	}
	return head, value, nil
}

// noEOF is the error of a stream that ended before its first message.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return corrupt("the server ended its answer before the first message", nil)
	}
	return err
}
