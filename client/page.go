package client

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Range is a span of keys, in the order of their bytes.
type Range struct {
	// Start is the first key of the range; empty: from the first key there is.
	Start string
	// End ends the range and is not in it; empty: to the last key there is.
	End string
	// StartExclusive leaves Start out, EndInclusive takes End in.
	StartExclusive, EndInclusive bool
}

// message is the range as a predicate; descending nil is the namespace's order.
func (r *Range) message(descending *bool) *headwaterv1.Predicate {
	m := &headwaterv1.Predicate_MatchRange{StartExclusive: r.StartExclusive, EndInclusive: r.EndInclusive, Descending: descending}
	if r.Start != "" || r.StartExclusive {
		m.Start = []byte(r.Start)
	}
	if r.End != "" || r.EndInclusive {
		m.End = []byte(r.End)
	}
	return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchRange_{MatchRange: m}}
}

func keysMessage(keys []string) *headwaterv1.Predicate {
	b := make([][]byte, len(keys))
	for i, k := range keys {
		b[i] = []byte(k)
	}
	return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: b}}}
}

// ReadOptions say which items of a record are read and how. The zero value reads
// all of them, in the order of the namespace.
type ReadOptions struct {
	// Keys reads these, at most 1,000; those that are absent are left out.
	Keys []string
	// Range reads a span of keys. Not together with Keys.
	Range *Range
	// Ascending reads the least key first, Descending the greatest; neither: as the
	// namespace says. Not together with Keys.
	Ascending, Descending bool
	// Limit bounds the number of items; 0: no limit.
	Limit int
	// PageBytes is the size of a page, 1,024 to 4,194,304; 0: 1 MiB.
	PageBytes int
	// OmitValues reads keys, versions and sizes only.
	OmitValues bool
	// OmitValuesAbove leaves out the values that have more bytes, as stored; nil: none.
	OmitValuesAbove *int
	Consistency     Consistency
	// After are positions to wait for, beside those of this client's own writes.
	After []string
	// AsOf, when not nil, is set with each page to what all pages so far have seen.
	AsOf *AsOf
}

// Omits reports whether a value of so many bytes is left out.
func (o *ReadOptions) Omits(size int64) bool {
	return o.OmitValues || o.OmitValuesAbove != nil && size > int64(*o.OmitValuesAbove)
}

func (o *ReadOptions) predicate() (*headwaterv1.Predicate, error) {
	switch {
	case o.Limit < 0 || o.PageBytes < 0 || o.OmitValuesAbove != nil && *o.OmitValuesAbove < 0:
		return nil, invalid(apierrors.BadPageSize, "Limit, PageBytes or OmitValuesAbove is negative")
	case o.Ascending && o.Descending:
		return nil, invalid(apierrors.BadPredicate, "Ascending and Descending are both set; use one")
	case o.Keys != nil && (o.Range != nil || o.Ascending || o.Descending):
		return nil, invalid(apierrors.BadPredicate, "Keys do not go together with Range, Ascending or Descending")
	case o.Keys != nil:
		return keysMessage(o.Keys), nil
	}
	var descending *bool
	if o.Ascending || o.Descending {
		descending = &o.Descending
	}
	if o.Range != nil {
		return o.Range.message(descending), nil
	}
	if descending != nil {
		return (&Range{}).message(descending), nil
	}
	return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}, nil
}

func (o *ReadOptions) selection() *headwaterv1.Selection {
	if o.PageBytes == 0 && o.Limit == 0 && !o.OmitValues && o.OmitValuesAbove == nil {
		return nil
	}
	s := &headwaterv1.Selection{OmitValues: o.OmitValues}
	if o.PageBytes != 0 {
		n := int64(o.PageBytes)
		s.PageSizeBytes = &n
	}
	if o.OmitValuesAbove != nil {
		n := int64(*o.OmitValuesAbove)
		s.OmitValuesAbove = &n
	}
	if o.Limit != 0 {
		n := int32(min(o.Limit, maxItemLimit))
		s.ItemLimit = &n
	}
	return s
}

// maxItemLimit is the largest limit that a server takes in one request; the
// iterators count beyond it.
const maxItemLimit = 100_000

// Page is one page of a record.
type Page struct {
	// Items; of an item over 4,032 KiB only what is known about it, with Chunked set.
	Items []Item
	// Next reads the page that follows; empty on the last one. It stays good for
	// other clients and over restarts of the server.
	Next string
	// Partial: the page ended early so as not to miss the deadline.
	Partial bool
	// AsOf is what this page and those before it have seen.
	AsOf AsOf
}

// Page reads one page of a record, for callers that hand pages on. Next of the
// page before says where it starts, "" at the beginning; the other options must
// be the same. Limit bounds this page.
func (k *KV) Page(ctx context.Context, id string, o ReadOptions, next string) (Page, error) {
	predicate, err := o.predicate()
	if err != nil {
		return Page{}, err
	}
	req := &headwaterv1.GetItemsRequest{
		Namespace: k.namespace, Id: id, Predicate: predicate, Selection: o.selection(), PageToken: next, AcceptCompression: acceptCompression,
	}
	var res *headwaterv1.GetItemsResponse
	err = k.c.read(ctx, k.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) (err error) {
		req.After, req.Consistency = f.after, f.consistency
		res, err = k.c.kv.GetItems(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Page{}, err
	}
	p := Page{Next: res.GetNextPageToken(), Partial: res.GetPartial(), AsOf: asOf(res.GetAsOf()), Items: make([]Item, len(res.GetItems()))}
	p.AsOf.note(o.AsOf)
	for i, m := range res.GetItems() {
		if p.Items[i], err = k.c.item(m); err != nil {
			return Page{}, err
		}
	}
	return p, nil
}

// Items reads a record page by page, as the loop asks for it. A failure ends it,
// as its last pair. Large values are fetched when their turn comes.
func (k *KV) Items(ctx context.Context, id string, o ReadOptions) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		left, next := o.Limit, ""
		for {
			o.Limit = left
			page, err := k.Page(ctx, id, o, next)
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, it := range page.Items {
				it, err := k.whole(ctx, id, it, &o)
				if gone(err) { // deleted since the page was read
					continue
				}
				if !yield(it, err) || err != nil {
					return
				}
			}
			if left > 0 {
				if left -= len(page.Items); left <= 0 {
					return
				}
			}
			if next = page.Next; next == "" {
				return
			}
		}
	}
}

// GetAll reads all that o selects into memory.
func (k *KV) GetAll(ctx context.Context, id string, o ReadOptions) ([]Item, error) {
	var all []Item
	for it, err := range k.Items(ctx, id, o) {
		if err != nil {
			return nil, err
		}
		all = append(all, it)
	}
	return all, nil
}
