package kvremote

import (
	"context"
	"errors"
	"fmt"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// Owner is kv.Owner over a remote.Client.
type Owner struct {
	remote.Owner[kv.TokenEntry]
}

var _ kv.Owner = (*Owner)(nil)

// New returns the owner of a namespace's partitions.
func New(c *remote.Client) *Owner {
	return &Owner{remote.Owner[kv.TokenEntry]{Client: c, Entry: entryFrom}}
}

// Get implements kv.Owner.
func (o *Owner) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	resp, err := o.Ask(ctx, q.Partition, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_KvGet{KvGet: getTo(q)}})
	if err != nil {
		return nil, err
	}
	m := resp.GetKvPage()
	page := &kv.Page{More: m.GetMore(), LastKey: m.GetLastKey(), NextIndex: int(m.GetNextIndex()), Partial: m.GetPartial()}
	items, err := itemsFrom(m.GetItems())
	if err != nil {
		return nil, err
	}
	if q.Each == nil {
		page.Items = items
		return page, nil
	}
	return give(q, page, items)
}

// give hands the items of a page to q.Each, and cuts the page where that is full.
func give(q *kv.Query, page *kv.Page, items []kv.StoredItem) (*kv.Page, error) {
	for i := range items {
		err := q.Each(&items[i])
		if errors.Is(err, kv.ErrFull) {
			page.More, page.Partial = true, false
			page.LastKey, page.NextIndex = q.After, q.AfterIndex
			if i > 0 {
				page.LastKey = items[i-1].Key
				page.NextIndex = indexAfter(q, items[i-1].Key)
			}
			return page, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return page, nil
}

// indexAfter is the index behind a key of a query of keys; no key stands there twice.
func indexAfter(q *kv.Query, key []byte) int {
	for i := q.AfterIndex; i < len(q.Keys); i++ {
		if string(q.Keys[i]) == string(key) {
			return i + 1
		}
	}
	return q.AfterIndex
}

// Scan implements kv.Owner.
func (o *Owner) Scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	resp, err := o.Ask(ctx, q.Partition, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_KvScan{KvScan: scanTo(q)}})
	if err != nil {
		return nil, err
	}
	m := resp.GetKvScanPage()
	page := &kv.ScanPage{More: m.GetMore(), LastID: m.GetLastId(), LastKey: m.GetLastKey(), Partial: m.GetPartial()}
	page.Records = make([]kv.ScannedRecord, len(m.GetRecords()))
	for i, r := range m.GetRecords() {
		page.Records[i].ID = r.GetId()
		if page.Records[i].Items, err = itemsFrom(r.GetItems()); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// Upload implements kv.Owner.
func (o *Owner) Upload(ctx context.Context, p wal.Partition, id kv.UploadID) (u kv.StoredUpload, ok bool, err error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_KvUpload{KvUpload: &clusterv1.KVUpload{Id: id[:]}}})
	if err != nil || resp.GetKvUpload() == nil {
		return u, false, err
	}
	u, err = uploadFrom(resp.GetKvUpload())
	return u, err == nil, err
}

// ReadChunk implements kv.Owner.
func (o *Owner) ReadChunk(ctx context.Context, p wal.Partition, id kv.UploadID, index int) ([]byte, error) {
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_KvChunk{KvChunk: &clusterv1.KVChunk{Id: id[:], Index: int64(index)}}})
	return resp.GetKvChunk(), err
}

// Token is what l knows of a token, as it is sent; nil: nothing.
func Token(ctx context.Context, l *kv.Local, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	e, ok, err := l.Token(ctx, p, id)
	if err != nil || !ok {
		return nil, err
	}
	return entryTo(&e), nil
}

// Answer answers what an Owner asks, from l.
func Answer(ctx context.Context, l *kv.Local, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	p, resp := wal.Partition(req.GetPartition()), &clusterv1.AskResponse{}
	switch q := req.GetQuestion().(type) {
	case *clusterv1.AskRequest_KvGet:
		page, err := l.Get(ctx, getFrom(p, q.KvGet))
		if err != nil {
			return nil, err
		}
		resp.Answer = &clusterv1.AskResponse_KvPage{KvPage: &clusterv1.KVPage{
			Items: itemsTo(page.Items), More: page.More, LastKey: page.LastKey, NextIndex: int64(page.NextIndex), Partial: page.Partial,
		}}
		return resp, nil
	case *clusterv1.AskRequest_KvScan:
		page, err := l.Scan(ctx, scanFrom(p, q.KvScan))
		if err != nil {
			return nil, err
		}
		m := &clusterv1.KVScanPage{More: page.More, LastId: page.LastID, LastKey: page.LastKey, Partial: page.Partial}
		for i := range page.Records {
			m.Records = append(m.Records, &clusterv1.KVRecord{Id: page.Records[i].ID, Items: itemsTo(page.Records[i].Items)})
		}
		resp.Answer = &clusterv1.AskResponse_KvScanPage{KvScanPage: m}
		return resp, nil
	case *clusterv1.AskRequest_KvUpload:
		id, err := remote.TokenIDFrom(q.KvUpload.GetId())
		if err != nil {
			return nil, err
		}
		u, ok, err := l.Upload(ctx, p, id)
		if err == nil && ok {
			resp.Answer = &clusterv1.AskResponse_KvUpload{KvUpload: uploadTo(&u)}
		}
		return resp, err
	case *clusterv1.AskRequest_KvChunk:
		id, err := remote.TokenIDFrom(q.KvChunk.GetId())
		if err != nil {
			return nil, err
		}
		b, err := l.ReadChunk(ctx, p, id, int(q.KvChunk.GetIndex()))
		resp.Answer = &clusterv1.AskResponse_KvChunk{KvChunk: b}
		return resp, err
	}
	return nil, fmt.Errorf("%w question: %T is none of key-value records", wal.ErrMalformed, req.GetQuestion())
}
