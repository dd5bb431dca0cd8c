package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// payloadVersion is the first byte of a payload; see the package comment.
const payloadVersion = 1

const (
	callHasToken = 1 << 0

	mutationEarly        = 1 << 0
	mutationHasCondition = 1 << 1

	itemHasExpiry = 1 << 0
	itemHasMeta   = 1 << 1
	rangeOpen     = 1 << 0
)

// AppendPayload appends the encoding of p to dst.
func AppendPayload(dst []byte, p *Payload) []byte {
	dst = append(dst, payloadVersion)
	dst = binary.AppendUvarint(dst, uint64(len(p.Calls)))
	for i := range p.Calls {
		dst = appendCall(dst, &p.Calls[i])
	}
	return dst
}

func appendCall(dst []byte, c *Call) []byte {
	if c.Token.IsZero() {
		dst = append(dst, 0)
	} else {
		dst = append(dst, callHasToken)
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.Token.GenerationTime))
		dst = append(dst, c.Token.Nonce[:]...)
		dst = append(dst, c.Hash[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Mutations)))
	for i := range c.Mutations {
		dst = appendMutation(dst, &c.Mutations[i])
	}
	return dst
}

func appendMutation(dst []byte, m *Mutation) []byte {
	var flags byte
	if m.Early {
		flags |= mutationEarly
	}
	if m.Condition.Kind != Always {
		flags |= mutationHasCondition
	}
	dst = append(dst, byte(m.Op), flags)
	dst = appendBlob(dst, m.ID)
	if m.Condition.Kind != Always {
		dst = append(dst, byte(m.Condition.Kind))
		dst = wal.AppendVersion(dst, m.Condition.Version)
	}
	switch m.Op {
	case OpPut:
		dst = appendItems(dst, m.Items, true)
	case OpDeleteKeys:
		dst = binary.AppendUvarint(dst, uint64(len(m.Keys)))
		for _, k := range m.Keys {
			dst = appendBlob(dst, k)
		}
	case OpDeleteRange:
		var f byte
		if m.Range.Open {
			f = rangeOpen
		}
		dst = append(dst, f)
		dst = appendBlob(dst, m.Range.Start)
		dst = appendBlob(dst, m.Range.End)
	case OpDeleteRecord:
	case OpBeginUpload:
		dst = append(dst, m.Upload.ID[:]...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Upload.Expiry))
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Items[0].TTL))
		dst = appendItems(dst, m.Items, false)
	case OpChunk:
		dst = append(dst, m.Upload.ID[:]...)
		dst = binary.AppendUvarint(dst, uint64(m.Upload.Index))
		dst = appendBlob(dst, m.Upload.Data)
	case OpCommitUpload:
		dst = append(dst, m.Upload.ID[:]...)
		dst = binary.AppendUvarint(dst, uint64(m.Upload.Chunks))
		dst = binary.AppendUvarint(dst, uint64(m.Upload.Size))
		dst = append(dst, m.Upload.SHA256[:]...)
		dst = appendItems(dst, m.Items, false)
	case OpAbortUpload:
		dst = append(dst, m.Upload.ID[:]...)
	}
	return dst
}

func appendItems(dst []byte, items []Item, values bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(items)))
	for i := range items {
		it := &items[i]
		var flags byte
		if it.Expiry != 0 {
			flags |= itemHasExpiry
		}
		if it.Compression != "" || it.ContentType != "" {
			flags |= itemHasMeta
		}
		dst = append(dst, flags)
		dst = appendBlob(dst, it.Key)
		if it.Expiry != 0 {
			dst = binary.BigEndian.AppendUint64(dst, uint64(it.Expiry))
		}
		if flags&itemHasMeta != 0 {
			dst = appendBlob(dst, []byte(it.Compression))
			dst = appendBlob(dst, []byte(it.ContentType))
		}
		if values {
			dst = appendBlob(dst, it.Value)
		}
	}
	return dst
}

func appendBlob(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// DecodePayload reads a payload into p, reusing its slices. What it decodes
// points into b. The error is wal.ErrMalformed or wal.ErrUnknownVersion.
func DecodePayload(b []byte, p *Payload) error {
	d := decoder{b: b}
	v := d.byte()
	if d.failed {
		return fmt.Errorf("%w kv payload: empty", wal.ErrMalformed)
	}
	if v != payloadVersion {
		return fmt.Errorf("%w of a kv payload: 0x%02x", wal.ErrUnknownVersion, v)
	}
	n := d.count(2) // a call takes at least two bytes
	p.Calls = resize(p.Calls, n)
	for i := 0; i < n && !d.failed; i++ {
		d.call(&p.Calls[i])
	}
	if d.failed || len(d.b) != 0 {
		return fmt.Errorf("%w kv payload", wal.ErrMalformed)
	}
	return nil
}

// resize returns a slice of length n that keeps the elements of s, so that the
// slices inside them are used again.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}

// decoder reads from b and remembers that it could not; after that it returns
// zeros.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.b) {
		d.failed = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || d.failed {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// number reads a uvarint that must fit an int.
func (d *decoder) number() int {
	v := d.uvarint()
	if v > 1<<40 {
		d.failed = true
		return 0
	}
	return int(v)
}

// count reads the number of elements that follow, each of at least size bytes:
// a false count cannot make us allocate more than the input's own length.
func (d *decoder) count(size int) int {
	v := d.uvarint()
	if d.failed || v > uint64(len(d.b)/size) {
		d.failed = true
		return 0
	}
	return int(v)
}

func (d *decoder) blob() []byte { return d.take(d.number()) }

func (d *decoder) time() int64 {
	v := d.take(8)
	if v == nil {
		return 0
	}
	t := int64(binary.BigEndian.Uint64(v))
	if t < 0 {
		d.failed = true
	}
	return t
}

func (d *decoder) call(c *Call) {
	flags := d.byte()
	c.Token, c.Hash = wal.Token{}, wal.Hash{}
	switch flags {
	case 0:
	case callHasToken:
		c.Token.GenerationTime = d.time()
		copy(c.Token.Nonce[:], d.take(wal.NonceSize))
		copy(c.Hash[:], d.take(len(c.Hash)))
	default:
		d.failed = true
		return
	}
	n := d.count(3)
	c.Mutations = resize(c.Mutations, n)
	for i := 0; i < n && !d.failed; i++ {
		d.mutation(&c.Mutations[i])
	}
}

func (d *decoder) mutation(m *Mutation) {
	items, keys := m.Items[:0], m.Keys[:0]
	*m = Mutation{Items: items, Keys: keys}
	m.Op = Op(d.byte())
	flags := d.byte()
	if flags&^(mutationEarly|mutationHasCondition) != 0 {
		d.failed = true
		return
	}
	m.Early = flags&mutationEarly != 0
	m.ID = d.blob()
	if flags&mutationHasCondition != 0 {
		m.Condition.Kind = ConditionKind(d.byte())
		v, err := wal.DecodeVersion(d.take(wal.VersionSize))
		if err != nil || m.Condition.Kind == Always || m.Condition.Kind > IfVersion {
			d.failed = true
			return
		}
		m.Condition.Version = v
	}
	switch m.Op {
	case OpPut:
		d.items(m, true)
	case OpDeleteKeys:
		n := d.count(1)
		for i := 0; i < n && !d.failed; i++ {
			m.Keys = append(m.Keys, d.blob())
		}
	case OpDeleteRange:
		f := d.byte()
		if f&^rangeOpen != 0 {
			d.failed = true
			return
		}
		m.Range = Range{Open: f&rangeOpen != 0, Start: d.blob(), End: d.blob()}
	case OpDeleteRecord:
	case OpBeginUpload:
		d.uploadID(m)
		m.Upload.Expiry = d.time()
		ttl := d.time()
		d.items(m, false)
		if d.failed = d.failed || len(m.Items) != 1; !d.failed {
			m.Items[0].TTL = ttl
		}
	case OpChunk:
		d.uploadID(m)
		m.Upload.Index = d.number()
		m.Upload.Data = d.blob()
	case OpCommitUpload:
		d.uploadID(m)
		m.Upload.Chunks = d.number()
		m.Upload.Size = int64(d.number())
		copy(m.Upload.SHA256[:], d.take(len(m.Upload.SHA256)))
		d.items(m, false)
		d.failed = d.failed || len(m.Items) != 1
	case OpAbortUpload:
		d.uploadID(m)
	default:
		d.failed = true
	}
}

func (d *decoder) uploadID(m *Mutation) { copy(m.Upload.ID[:], d.take(len(m.Upload.ID))) }

func (d *decoder) items(m *Mutation, values bool) {
	n := d.count(2)
	for i := 0; i < n && !d.failed; i++ {
		var it Item
		flags := d.byte()
		if flags&^(itemHasExpiry|itemHasMeta) != 0 {
			d.failed = true
			return
		}
		it.Key = d.blob()
		if flags&itemHasExpiry != 0 {
			it.Expiry = d.time()
		}
		if flags&itemHasMeta != 0 {
			it.Compression = string(d.blob())
			it.ContentType = string(d.blob())
		}
		if values {
			it.Value = d.blob()
		}
		m.Items = append(m.Items, it)
	}
}
