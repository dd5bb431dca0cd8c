package cassandrakv

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
)

// fromCache answers a query from the cache, as of the last commit. ok is false where something that it needs
// is not there: then nothing was handed out.
func (s *Store) fromCache(ctx context.Context, q *kv.Query, r *kv.Range) (page *kv.Page, ok bool, err error) {
	w := s.newPager(ctx, q.Partition, q.Limits())
	var rows []cachedRow
	if q.HasKeys {
		rows, ok, err = s.cachedKeys(q)
	} else {
		rows, ok, err = s.cachedRange(q, r)
	}
	if err != nil {
		return nil, false, s.DB.ReadError("read the cache", q.Partition, err)
	}
	if !ok {
		return nil, false, nil
	}
	page = &kv.Page{}
	if q.HasKeys {
		page.NextIndex = max(q.AfterIndex, 0)
	}
	for i := range rows {
		c := &rows[i]
		var more bool
		if c.absent {
			more, err = w.Tick()
		} else {
			more, err = w.take(&c.row, &page.Items)
		}
		if page.Partial = w.Partial; err != nil {
			return nil, false, err
		}
		if more {
			page.More = true
			break
		}
		if q.HasKeys {
			page.LastKey = append(page.LastKey[:0], q.Keys[page.NextIndex]...)
			page.NextIndex++
		}
	}
	if q.HasKeys {
		page.More = page.More || page.NextIndex < len(q.Keys)
	} else {
		page.LastKey = w.lastKey
	}
	return page, true, nil
}

// cachedKeys are what is known of the keys of q, as many as a page may have, as of one moment.
func (s *Store) cachedKeys(q *kv.Query) (rows []cachedRow, ok bool, err error) {
	at, size := max(q.AfterIndex, 0), 0
	if at == len(q.Keys)-1 { // most reads are of one key, and a Get is cheaper than a snapshot
		c, err := itemOf(s.DB.DB, q.Partition, q.ID, q.Keys[at])
		if err != nil || c.known {
			return []cachedRow{c}, c.known, err
		}
		if h, there, err := headerOf(s.DB.DB, q.Partition, q.ID); err != nil || !there || !h.whole {
			return nil, false, err
		}
	}
	snap := s.DB.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	h, there, err := headerOf(snap, q.Partition, q.ID)
	if err != nil || !there {
		return nil, false, err
	}
	for ; at < len(q.Keys) && size <= q.MaxBytes; at++ {
		c, err := itemOf(snap, q.Partition, q.ID, q.Keys[at])
		switch {
		case err != nil:
			return nil, false, err
		case !c.known && !h.whole:
			return nil, false, nil
		case !c.known:
			c = cachedRow{known: true, absent: true}
		}
		rows = append(rows, c)
		size += len(c.cell)
	}
	return rows, true, nil
}

// cachedRange are the items of a record in r, in the order of q, where all of the record is cached.
func (s *Store) cachedRange(q *kv.Query, r *kv.Range) (rows []cachedRow, ok bool, err error) {
	if h, there, err := headerOf(s.DB.DB, q.Partition, q.ID); err != nil || !there || !h.whole {
		return nil, false, err
	}
	prefix := recordCacheKey(q.Partition, q.ID, cacheItem, 0)
	view, err := s.DB.NewIter(&pebble.IterOptions{LowerBound: recordCacheKey(q.Partition, q.ID, cacheHeader, 0), UpperBound: recordCacheKey(q.Partition, q.ID, cacheEnd, 0)})
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	if !view.First() || len(view.Key()) != len(prefix) || view.Key()[len(prefix)-1] != cacheHeader {
		return nil, false, view.Error()
	}
	h, err := decodeHeader(view.Value())
	if err != nil || !h.whole {
		return nil, false, err
	}
	for more := view.SeekGE(itemCacheKey(q.Partition, q.ID, r.Start)); more; more = view.Next() {
		key := bytes.Clone(view.Key()[len(prefix):])
		if !r.Open && bytes.Compare(key, r.End) >= 0 {
			break
		}
		c, err := decodeItem(key, bytes.Clone(view.Value()))
		if err != nil {
			return nil, false, err
		}
		if !c.absent {
			rows = append(rows, c)
		}
	}
	if q.Descending {
		slices.Reverse(rows)
	}
	return rows, true, view.Error()
}
