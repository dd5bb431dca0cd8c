package client

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// ScanOptions say how a namespace is walked.
type ScanOptions struct {
	// Shard walks one of Of parts that together are the whole namespace, so that
	// several can walk it at once. Of 0: everything.
	Shard, Of int
	// PageBytes is the size of a page, 1,024 to 4,194,304; 0: 1 MiB.
	PageBytes int
	// OmitValues reads ids, keys, versions and sizes only.
	OmitValues  bool
	Consistency Consistency
	// After are positions to wait for, beside those of this client's own writes.
	After []string
	// AsOf, when not nil, is set with each page to what all pages so far have seen.
	// When the walk is done, whoever goes on from there with Log.Tail has everything:
	// what the walk did not see comes then. Shards have one each.
	AsOf *AsOf
}

// Record is an id and items of it.
type Record struct {
	ID    string
	Items []Item
	// Continued: the record before this one has the same id, and this is more of
	// it. A record that does not fit a page comes in pieces.
	Continued bool
	// Parked: mutations of this record wait behind one that cannot be applied, so
	// that what is shown is older than what was acknowledged.
	Parked bool
}

// Scan walks a namespace record by record, in no useful order, page by page as
// the loop asks for it. What is written meanwhile may or may not be seen. A
// failure ends it, as its last pair. Large values are fetched when their turn
// comes.
func (k *KV) Scan(ctx context.Context, o ScanOptions) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		req := &headwaterv1.ScanItemsRequest{Namespace: k.namespace, OmitValues: o.OmitValues, AcceptCompression: acceptCompression}
		if o.PageBytes != 0 {
			n := int64(o.PageBytes)
			req.PageSizeBytes = &n
		}
		if o.Of != 0 || o.Shard != 0 {
			req.Shard = &headwaterv1.Shard{Index: int32(o.Shard), Of: int32(o.Of)}
		}
		last := ""
		for {
			var res *headwaterv1.ScanItemsResponse
			err := k.c.read(ctx, k.namespace, o.Consistency, o.After, func(ctx context.Context, f *freshness, opts ...grpc.CallOption) (err error) {
				req.After, req.Consistency = f.after, f.consistency
				res, err = k.c.kv.ScanItems(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(Record{}, err)
				return
			}
			asOf(res.GetAsOf()).note(o.AsOf)
			for _, m := range res.GetRecords() {
				r, err := k.record(ctx, m, &o)
				r.Continued = m.GetId() == last
				if !yield(r, err) || err != nil {
					return
				}
				last = m.GetId()
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

func (k *KV) record(ctx context.Context, m *headwaterv1.Record, o *ScanOptions) (Record, error) {
	r := Record{ID: m.GetId(), Parked: m.GetParked(), Items: make([]Item, 0, len(m.GetItems()))}
	for _, im := range m.GetItems() {
		it, err := k.c.item(im)
		if err == nil {
			it, err = k.whole(ctx, r.ID, it, &ReadOptions{OmitValues: o.OmitValues, Consistency: o.Consistency, After: o.After})
		}
		if gone(err) { // deleted since the page was read
			continue
		}
		if err != nil {
			return r, err
		}
		r.Items = append(r.Items, it)
	}
	return r, nil
}
