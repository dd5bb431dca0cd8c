package gateway

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
)

// The compressions that a value may be recorded with: zstd frames, and the S2
// stream format.
const (
	compressionZstd = "zstd"
	compressionS2   = "s2"
)

// maxWindow bounds the memory that a zstd frame can ask for.
const maxWindow = 8 << 20

// accepted checks the compressions that a caller can undo itself.
func accepted(names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	m := make(map[string]bool, len(names))
	for _, n := range names {
		if n != compressionZstd && n != compressionS2 {
			return nil, apierrors.New(apierrors.UnsupportedCompression, "accept_compression %.32q is not supported; use zstd or s2", n)
		}
		m[n] = true
	}
	return m, nil
}

var zstdReaders = sync.Pool{New: func() any {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		panic(err) // the options are constants
	}
	return r
}}

// expander undoes a compression while it is read. Close gives it back.
func expander(compression string, src io.Reader) (r io.Reader, done func(), err error) {
	if compression == compressionS2 {
		return s2.NewReader(src), func() {}, nil
	}
	d := zstdReaders.Get().(*zstd.Decoder)
	if err := d.Reset(src); err != nil {
		return nil, nil, err
	}
	return d, func() {
		if err := d.Reset(nil); err == nil {
			zstdReaders.Put(d)
		}
	}, nil
}

// expand undoes a compression in memory, up to one byte more than a page. ok is
// false when the value is not what its compression says: then it is handed out
// as it is stored, with its compression named.
func expand(compression string, value []byte) (out []byte, ok bool) {
	r, done, err := expander(compression, bytes.NewReader(value))
	if err != nil {
		return nil, false
	}
	defer done()
	out, err = io.ReadAll(io.LimitReader(r, MaxPageBytes+1))
	return out, err == nil
}

// itemMessages are the items of a page as callers get them. They share their
// memory: one allocation each for thousands of items cost more than reading them.
func itemMessages(items []kv.StoredItem, accept map[string]bool, omitted bool) []*headwaterv1.Item {
	out := make([]*headwaterv1.Item, len(items))
	messages := make([]headwaterv1.Item, len(items))
	times := make([]timestamppb.Timestamp, len(items))
	for i := range items {
		out[i] = &messages[i]
		out[i].WrittenAt = &times[i]
		fillItem(out[i], &items[i], accept, omitted)
	}
	return out
}

func itemMessage(it *kv.StoredItem, accept map[string]bool, omitted bool) *headwaterv1.Item {
	m := &headwaterv1.Item{WrittenAt: &timestamppb.Timestamp{}}
	fillItem(m, it, accept, omitted)
	return m
}

func fillItem(m *headwaterv1.Item, it *kv.StoredItem, accept map[string]bool, omitted bool) {
	m.Key, m.Value, m.Version = it.Key, it.Value, it.Version.String()
	m.Size, m.Compression, m.ContentType = it.Size, it.Compression, it.ContentType
	at := time.UnixMicro(it.Version.Time)
	m.WrittenAt.Seconds, m.WrittenAt.Nanos = at.Unix(), int32(at.Nanosecond())
	if it.Version.Expiry != 0 {
		m.ExpiresAt = timeMessage(it.Version.Expiry)
	}
	if it.Size > MaxPageBytes {
		m.Chunked, m.Value = true, nil
		return
	}
	if it.Compression != "" && !accept[it.Compression] && !omitted {
		switch v, ok := expand(it.Compression, it.Value); {
		case ok && len(v) > MaxPageBytes: // is streamed, as any value of that size
			m.Value, m.Chunked = nil, true
		case ok:
			m.Value, m.Compression, m.Size = v, "", int64(len(v))
		}
	}
}
