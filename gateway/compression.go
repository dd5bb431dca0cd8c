package gateway

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
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

// expand undoes a compression in memory, up to one byte more than a page takes. ok is
// false when the value is not what its compression says: then it is handed out
// as it is stored, with its compression named.
func expand(compression string, value []byte) (out []byte, ok bool) {
	r, done, err := expander(compression, bytes.NewReader(value))
	if err != nil {
		return nil, false
	}
	defer done()
	out, err = io.ReadAll(io.LimitReader(r, kv.MaxPageValue+1))
	return out, err == nil
}

// itemForm is how items are answered.
type itemForm struct {
	accept map[string]bool // compressions that the caller undoes itself
	// Which values are left out: all, or those above so many bytes; 0: none.
	omitValues bool
	omitAbove  int64
}

// omits reports whether a value of so many bytes is left out.
func (f *itemForm) omits(size int64) bool {
	return f.omitValues || f.omitAbove != 0 && size > f.omitAbove
}

// undoes reports whether the value of an item is answered without the compression
// that it is stored with.
func (f *itemForm) undoes(it *kv.StoredItem) bool {
	return it.Compression != "" && !f.accept[it.Compression] && !f.omits(it.Size)
}

// itemsList is the items of a page as messages. Used by one goroutine.
type itemsList struct {
	form  itemForm
	room  itemRoom
	items []*headwaterv1.Item
}

// add appends an item, as kv.Query.Each.
func (l *itemsList) add(it *kv.StoredItem) error {
	kept := *it
	kept.Key, kept.Value = bytes.Clone(it.Key), bytes.Clone(it.Value)
	m := itemMessage(&kept, &l.form)
	if !l.room.take(len(m.GetKey()), len(m.GetValue()), sizeBytes(proto.Size(m))) {
		return kv.ErrFull
	}
	l.items = append(l.items, m)
	return nil
}

func itemMessage(it *kv.StoredItem, form *itemForm) *headwaterv1.Item {
	m := &headwaterv1.Item{WrittenAt: &timestamppb.Timestamp{}}
	form.fill(m, it)
	return m
}

// fill makes the message of an item that the store has read as q says, of whose
// values some may be left out already.
func (f *itemForm) fill(m *headwaterv1.Item, it *kv.StoredItem) {
	m.Key, m.Value, m.Version = it.Key, it.Value, it.Version.String()
	m.Size, m.Compression, m.ContentType = it.Size, it.Compression, it.ContentType
	at := time.UnixMicro(it.Version.Time)
	m.WrittenAt.Seconds, m.WrittenAt.Nanos = at.Unix(), int32(at.Nanosecond())
	if it.Version.Expiry != 0 {
		m.ExpiresAt = timeMessage(it.Version.Expiry)
	}
	if it.Size > kv.MaxPageValue {
		m.Chunked, m.Value = true, nil
		return
	}
	if f.undoes(it) {
		switch v, ok := expand(it.Compression, it.Value); {
		case ok && f.omits(int64(len(v))):
			m.Value = nil
		case ok && len(v) > kv.MaxPageValue: // is streamed, as any value of that size
			m.Value, m.Chunked = nil, true
		case ok:
			m.Value, m.Compression, m.Size = v, "", int64(len(v))
		}
	}
}
