package httpjson

import (
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/headwater-db/headwater/api/apierrors"
)

// The encodings that the body of a request may have.
const (
	encodingGzip = "gzip"
	encodingZstd = "zstd"
)

// maxWindow bounds the memory that a zstd frame can ask for.
const maxWindow = 8 << 20

var zstdReaders = sync.Pool{New: func() any {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		panic(err) // the options are constants
	}
	return r
}}

// encoding is how the body is packed; empty: not at all.
func (x *exchange) encoding() (string, error) {
	said := strings.Join(x.r.Header.Values("Content-Encoding"), ", ")
	switch name := strings.ToLower(said); name {
	case "", "identity":
		return "", nil
	case encodingGzip, encodingZstd:
		return name, nil
	}
	x.w.Header().Set("Accept-Encoding", encodingGzip+", "+encodingZstd)
	return "", apierrors.New(apierrors.UnsupportedCompression,
		"Content-Encoding is %s; use gzip or zstd, or send the body as it is", clip(said))
}

// unpack returns the body without its encoding, up to limit bytes of it. What it
// takes is given back by release.
func (x *exchange) unpack(body io.Reader, encoding string, limit int64) (io.Reader, error) {
	switch encoding {
	case encodingGzip:
		r, err := gzip.NewReader(body)
		if err != nil {
			return nil, x.bodyError(err, limit)
		}
		return &bounded{r, limit}, nil
	case encodingZstd:
		d := zstdReaders.Get().(*zstd.Decoder)
		if err := d.Reset(body); err != nil {
			return nil, x.bodyError(err, limit)
		}
		x.unpacker = d
		return &bounded{d, limit}, nil
	}
	return body, nil
}

// release gives back what unpack took. The body is not read any more.
func (x *exchange) release() {
	if x.unpacker == nil {
		return
	}
	if err := x.unpacker.Reset(nil); err == nil { // else it is used no more
		zstdReaders.Put(x.unpacker)
	}
	x.unpacker = nil
}

// errUnpacked is of a body that is too large when it is unpacked.
var errUnpacked = errors.New("the body is too large when it is unpacked")

// bounded reads left bytes, and fails where there are more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errUnpacked
	}
	return n, err
}

// unpackedTooLarge reports whether err is of what is small only as it was sent.
func unpackedTooLarge(err error) bool {
	return errors.Is(err, errUnpacked) || errors.Is(err, zstd.ErrWindowSizeExceeded) ||
		errors.Is(err, zstd.ErrDecoderSizeExceeded)
}
