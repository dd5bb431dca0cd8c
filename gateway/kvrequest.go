package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// The limits of a request, as the API states them.
const (
	MaxItems       = 1000
	MaxInlineValue = 1 << 20
	MinPageBytes   = 1 << 10
	MaxPageBytes   = kv.MaxPageBytes
	DefaultPage    = 1 << 20
	MaxTTL         = 10 * 365 * 24 * time.Hour
	MaxContentType = 256
	MaxItemLimit   = 100_000
)

func checkID(id string) error {
	if len(id) == 0 || len(id) > kv.MaxIDBytes {
		return apierrors.New(apierrors.BadID, "id has %d bytes; it must have 1 to %d", len(id), kv.MaxIDBytes)
	}
	if !utf8.ValidString(id) {
		return apierrors.New(apierrors.BadUTF8, "id is not valid UTF-8")
	}
	return nil
}

func checkKey(key []byte) error {
	if len(key) > kv.MaxKeyBytes {
		return apierrors.New(apierrors.BadKey, "a key has %d bytes; it may have %d", len(key), kv.MaxKeyBytes)
	}
	return nil
}

func putRequest(ns *Namespace, req *headwaterv1.PutItemsRequest) (*kv.Request, int, error) {
	tok, err := parseToken(req.GetToken())
	if err != nil {
		return nil, 0, err
	}
	m, size, err := putMutation(ns, req)
	if err != nil {
		return nil, 0, err
	}
	return &kv.Request{Token: tok, Mutations: []kv.Mutation{m}}, size, nil
}

func putMutation(ns *Namespace, req *headwaterv1.PutItemsRequest) (kv.Mutation, int, error) {
	m := kv.Mutation{Op: kv.OpPut, ID: []byte(req.GetId())}
	if err := checkID(req.GetId()); err != nil {
		return m, 0, err
	}
	items := req.GetItems()
	if len(items) == 0 || len(items) > MaxItems {
		return m, 0, apierrors.New(apierrors.TooManyItems, "the call has %d items; it takes 1 to %d", len(items), MaxItems)
	}
	size := 0
	inline := min(int64(MaxInlineValue), ns.Config().Limits.MaxValue)
	m.Items = make([]kv.Item, len(items))
	for i, it := range items {
		if err := checkKey(it.GetKey()); err != nil {
			return m, 0, err
		}
		if int64(len(it.GetValue())) > inline {
			return m, 0, apierrors.New(apierrors.ValueTooLarge, "a value has %d bytes; a put takes %d, larger ones go through BeginUpload", len(it.GetValue()), inline)
		}
		ttl, err := parseTTL(it.GetTtl())
		if err != nil {
			return m, 0, err
		}
		if err := checkMeta(it.GetCompression(), it.GetContentType()); err != nil {
			return m, 0, err
		}
		m.Items[i] = kv.Item{Key: it.GetKey(), Value: it.GetValue(), TTL: ttl, Compression: it.GetCompression(), ContentType: it.GetContentType()}
		size += len(it.GetKey()) + len(it.GetValue())
	}
	var err error
	m.Condition, err = parseCondition(req.GetCondition(), len(items))
	return m, size, err
}

func parseTTL(d *durationpb.Duration) (micros int64, err error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, apierrors.New(apierrors.BadTTL, "ttl is not a duration")
	}
	ttl := d.AsDuration()
	if ttl < time.Millisecond || ttl > MaxTTL {
		return 0, apierrors.New(apierrors.BadTTL, "ttl is %v; it must be 1ms to %v, or be left out for the namespace's default", ttl, MaxTTL)
	}
	return ttl.Microseconds(), nil
}

func checkMeta(compression, contentType string) error {
	switch compression {
	case "", compressionZstd, compressionS2:
	default:
		return apierrors.New(apierrors.UnsupportedCompression, "compression %.32q is not supported; use zstd or s2", compression)
	}
	if len(contentType) > MaxContentType {
		return apierrors.New(apierrors.BadContentType, "content_type has %d bytes; it may have %d", len(contentType), MaxContentType)
	}
	for _, c := range []byte(contentType) {
		if c < 0x20 || c > 0x7e {
			return apierrors.New(apierrors.BadContentType, "content_type has a byte 0x%02x; use visible ASCII", c)
		}
	}
	return nil
}

// parseCondition checks a condition on n items.
func parseCondition(c *headwaterv1.Condition, n int) (kv.Condition, error) {
	switch x := c.GetCondition().(type) {
	case nil:
		return kv.Condition{}, nil
	case *headwaterv1.Condition_IfAbsent:
		if !x.IfAbsent {
			return kv.Condition{}, apierrors.New(apierrors.BadCondition, "condition.if_absent is false; set it to true or leave the condition out")
		}
		return kv.Condition{Kind: kv.IfAbsent}, nil
	case *headwaterv1.Condition_IfVersion:
		v, err := wal.ParseVersion(x.IfVersion)
		if err != nil {
			return kv.Condition{}, apierrors.Wrap(apierrors.BadCondition, err, "condition.if_version is not a version that an answer gave")
		}
		if n != 1 {
			return kv.Condition{}, apierrors.New(apierrors.BadCondition, "condition.if_version is for one item; the call has %d", n)
		}
		return kv.Condition{Kind: kv.IfVersion, Version: v}, nil
	}
	return kv.Condition{}, apierrors.New(apierrors.BadCondition, "the condition is not known")
}

func deleteMutation(req *headwaterv1.DeleteItemsRequest) (kv.Mutation, error) {
	m := kv.Mutation{ID: []byte(req.GetId())}
	if err := checkID(req.GetId()); err != nil {
		return m, err
	}
	n := 0
	switch p := req.GetPredicate().GetPredicate().(type) {
	case nil:
		return m, apierrors.New(apierrors.BadPredicate, "predicate is missing; to delete the whole record, say match_all")
	case *headwaterv1.Predicate_MatchAll_:
		m.Op = kv.OpDeleteRecord
	case *headwaterv1.Predicate_MatchKeys_:
		m.Op, m.Keys = kv.OpDeleteKeys, p.MatchKeys.GetKeys()
		n = len(m.Keys)
		if err := checkKeys(m.Keys); err != nil {
			return m, err
		}
	case *headwaterv1.Predicate_MatchRange_:
		if p.MatchRange.GetDescending() {
			return m, apierrors.New(apierrors.BadPredicate, "a delete has no direction; leave descending out")
		}
		m.Op = kv.OpDeleteRange
		var err error
		if m.Range, err = parseRange(p.MatchRange); err != nil {
			return m, err
		}
	}
	if req.GetCondition().GetCondition() != nil && m.Op != kv.OpDeleteKeys {
		return m, apierrors.New(apierrors.BadCondition, "a conditional delete names its keys; use match_keys")
	}
	var err error
	m.Condition, err = parseCondition(req.GetCondition(), n)
	if err == nil && m.Condition.Kind == kv.IfAbsent {
		err = apierrors.New(apierrors.BadCondition, "a delete of what is absent does nothing; use if_version")
	}
	return m, err
}

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > MaxItems {
		return apierrors.New(apierrors.TooManyItems, "match_keys has %d keys; it takes 1 to %d", len(keys), MaxItems)
	}
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	return nil
}

// parseRange turns the bounds of a request into a range that includes its start
// and excludes its end: the key after k is k and a zero byte.
func parseRange(p *headwaterv1.Predicate_MatchRange) (kv.Range, error) {
	r := kv.Range{Start: p.Start, End: p.End, Open: p.End == nil}
	if err := checkKey(p.Start); err != nil {
		return r, err
	}
	if err := checkKey(p.End); err != nil {
		return r, err
	}
	if !r.Open && bytes.Compare(p.Start, p.End) > 0 {
		return r, apierrors.New(apierrors.BadPredicate, "match_range starts after its end")
	}
	if p.StartExclusive {
		if p.Start == nil {
			return r, apierrors.New(apierrors.BadPredicate, "match_range.start_exclusive without a start")
		}
		r.Start = append(slices.Clone(p.Start), 0)
	}
	if p.EndInclusive {
		if r.Open {
			return r, apierrors.New(apierrors.BadPredicate, "match_range.end_inclusive without an end")
		}
		r.End = append(slices.Clone(p.End), 0)
	}
	if !r.Open && bytes.Compare(r.Start, r.End) > 0 { // both bounds are the same key, which is not in it
		r.End = r.Start
	}
	return r, nil
}

// query checks a read. seen is what the pages before this one have seen.
func (s *KeyValue) query(ns *Namespace, req *headwaterv1.GetItemsRequest) (q *kv.Query, seen pagesSeen, err error) {
	if err := checkID(req.GetId()); err != nil {
		return nil, nil, err
	}
	sel := req.GetSelection()
	q = &kv.Query{ID: []byte(req.GetId()), OmitValues: sel.GetOmitValues(), Descending: ns.Config().KV.Descending}
	if q.MaxBytes, err = pageBytes(sel.GetPageSizeBytes(), sel != nil && sel.PageSizeBytes != nil); err != nil {
		return nil, nil, err
	}
	if sel != nil && sel.ItemLimit != nil {
		if q.ItemLimit = int(sel.GetItemLimit()); q.ItemLimit < 1 || q.ItemLimit > MaxItemLimit {
			return nil, nil, apierrors.New(apierrors.BadPageSize, "item_limit is %d; it must be 1 to %d", q.ItemLimit, MaxItemLimit)
		}
	}
	if sel != nil && sel.OmitValuesAbove != nil {
		if q.OmitAbove = sel.GetOmitValuesAbove(); q.OmitAbove < 0 {
			return nil, nil, apierrors.New(apierrors.BadSelection, "selection.omit_values_above is %d; it must be 0 or more", q.OmitAbove)
		}
		q.OmitValues = q.OmitValues || q.OmitAbove == 0
	}
	switch p := req.GetPredicate().GetPredicate().(type) {
	case nil, *headwaterv1.Predicate_MatchAll_:
	case *headwaterv1.Predicate_MatchKeys_:
		q.HasKeys, q.Keys = true, p.MatchKeys.GetKeys()
		if err := checkKeys(q.Keys); err != nil {
			return nil, nil, err
		}
	case *headwaterv1.Predicate_MatchRange_:
		q.HasRange = true
		if q.Range, err = parseRange(p.MatchRange); err != nil {
			return nil, nil, err
		}
		if d := p.MatchRange.Descending; d != nil {
			q.Descending = *d
		}
	}
	if t := req.GetPageToken(); t != "" {
		c, err := s.pages.open(t, binding(ns, req, q))
		if err != nil {
			return nil, nil, err
		}
		seen = c.seen
		if q.HasKeys {
			q.AfterIndex = int(c.index)
		} else {
			q.HasAfter, q.After = true, c.key
		}
	}
	return q, seen, nil
}

// binding is what the page tokens of a read are bound to: the request without its
// page size, limit and freshness, which may change on the way.
func binding(ns *Namespace, req *headwaterv1.GetItemsRequest, q *kv.Query) []byte {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	inc := ns.Stream.Info().Incarnation
	part([]byte("GetItems"))
	part(inc[:])
	part(q.ID)
	switch req.GetPredicate().GetPredicate().(type) {
	case nil, *headwaterv1.Predicate_MatchAll_:
		part([]byte("all"))
	case *headwaterv1.Predicate_MatchKeys_:
		part([]byte("keys"))
		for _, k := range q.Keys {
			part(k)
		}
	case *headwaterv1.Predicate_MatchRange_:
		part([]byte("range"))
		part(q.Range.Start)
		part(q.Range.End)
		if q.Range.Open {
			part([]byte("open"))
		}
	}
	if q.Descending {
		part([]byte("descending"))
	}
	return h.Sum(nil)
}

// pageBytes checks a page size; set tells a zero from none.
func pageBytes(n int64, set bool) (int, error) {
	if !set {
		return DefaultPage, nil
	}
	if n < MinPageBytes || n > MaxPageBytes {
		return 0, apierrors.New(apierrors.BadPageSize, "page_size_bytes is %d; it must be %d to %d", n, MinPageBytes, MaxPageBytes)
	}
	return int(n), nil
}
