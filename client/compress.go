package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
)

// The compressions of values: zstd frames, and the S2 stream format.
const (
	Zstd = "zstd"
	S2   = "s2"
	// Uncompressed in PutItem.Compression overrides Config.Compression.
	Uncompressed = "none"
)

// acceptCompression tells the server that values may come as they are stored.
var acceptCompression = []string{Zstd, S2}

// The window of a zstd frame: readers refuse to be asked for more memory than
// maxWindow, so frames are made with less.
const (
	maxWindow  = 8 << 20
	zstdWindow = 4 << 20
)

var (
	zstdWriters = sync.Pool{New: func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
		if err != nil {
			panic(err) // the options are constants
		}
		return w
	}}
	zstdReaders = sync.Pool{New: func() any {
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(MaxValueBytes))
		if err != nil {
			panic(err)
		}
		return r
	}}
	s2Writers = sync.Pool{New: func() any { return s2.NewWriter(nil, s2.WriterConcurrency(1)) }}
)

// compress returns the value to send and the name of its compression, which is
// empty where compressing gains nothing.
func compress(how string, value []byte) ([]byte, string, error) {
	var out []byte
	switch how {
	case Zstd:
		w := zstdWriters.Get().(*zstd.Encoder)
		out = w.EncodeAll(value, make([]byte, 0, len(value)/2+64))
		zstdWriters.Put(w)
	case S2:
		w := s2Writers.Get().(*s2.Writer)
		var b bytes.Buffer
		b.Grow(len(value)/2 + 64)
		w.Reset(&b)
		_, err := w.Write(value)
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, "", fmt.Errorf("compress value: %w", err)
		}
		w.Reset(nil)
		s2Writers.Put(w)
		out = b.Bytes()
	default:
		return value, "", nil
	}
	if len(out) >= len(value) {
		return value, "", nil
	}
	return out, how, nil
}

// decompress undoes a compression. A value that is not what its compression
// says, or that would be larger than MaxValueBytes, is ErrCorrupt.
func decompress(how string, value []byte) ([]byte, error) {
	var r io.Reader
	switch how {
	case "":
		return value, nil
	case Zstd:
		d := zstdReaders.Get().(*zstd.Decoder)
		defer zstdReaders.Put(d)
		out, err := d.DecodeAll(value, nil)
		if err != nil || len(out) > MaxValueBytes {
			return nil, corrupt("the value cannot be decompressed as zstd within the limit of a value", err)
		}
		return out, nil
	case S2:
		r = s2.NewReader(bytes.NewReader(value))
	default:
		return nil, corrupt(fmt.Sprintf("the value has the compression %.32q, which this client does not know; use a newer one", how), nil)
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxValueBytes+1))
	if err == nil && len(out) > MaxValueBytes {
		err = errors.New("too large")
	}
	if err != nil {
		return nil, corrupt("the value cannot be decompressed as s2 within the limit of a value", err)
	}
	return out, nil
}

func corrupt(message string, cause error) *Error {
	return &Error{Code: codes.DataLoss, Reason: apierrors.Corrupt, Message: message, cause: cause}
}
