package pebblekv

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
)

// Scan implements kv.Store. Records come by the length of their id, then by id.
// On the page an id counts its length beside its items.
func (s *Store) Scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	w := walkOf(ctx, q)
	page, err := scan(s.DB.DB, w, q)
	if err != nil {
		return nil, s.DB.ReadError("scan", q.Partition, err)
	}
	return page, nil
}

func walkOf(ctx context.Context, q *kv.ScanQuery) *walk { return newWalk(ctx, q.Partition, q.Limits()) }

// scan reads a page from the store or from a snapshot of it.
func scan(from pebble.Reader, w *walk, q *kv.ScanQuery) (page *kv.ScanPage, err error) {
	lo, hi := pebblestore.Span(tableRecord, q.Partition)
	if w.view, err = from.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.view.Close()) }()
	page = &kv.ScanPage{}
	begin := kv.Range{Open: true}
	if q.HasAfter {
		if len(q.AfterID) > maxIDLen {
			return page, nil
		}
		begin.Start = append(append(make([]byte, 0, len(q.AfterKey)+1), q.AfterKey...), 0)
		lo = recordKey(q.Partition, q.AfterID, kindSummary, 0)
		page.LastID, page.LastKey = bytes.Clone(q.AfterID), bytes.Clone(q.AfterKey)
	}
	for ok := w.view.SeekGE(lo); ok; {
		id, _, _, err := ledger.SplitRecordKey(w.view.Key())
		if err != nil {
			return nil, errors.Join(kv.ErrBadCell, err)
		}
		id = bytes.Clone(id)
		if q.HasAfter && !bytes.Equal(id, q.AfterID) {
			begin.Start = nil
		}
		done, err := w.scanRecord(q, page, id, &begin)
		if err != nil || !done {
			page.More = !done
			page.Partial = w.Partial
			return page, err
		}
		begin.Start = nil
		ok = w.view.SeekGE(recordKey(q.Partition, id, kindEnd, 0))
	}
	return page, w.view.Error()
}

// scanRecord adds what is visible of a record; done when it came to its end.
func (w *walk) scanRecord(q *kv.ScanQuery, page *kv.ScanPage, id []byte, from *kv.Range) (done bool, err error) {
	if !q.Share.Has(id) {
		stop, err := w.Tick()
		if !stop {
			page.LastID, page.LastKey = id, nil
		}
		return !stop, err
	}
	if w.Items > 0 && w.Bytes+len(id)+kv.ItemOverhead > w.MaxBytes {
		return false, nil
	}
	items, bytesBefore := w.Items, w.Bytes
	w.Bytes += len(id)
	w.lastKey = w.lastKey[:0]
	if n := len(from.Start); n > 0 {
		w.lastKey = append(w.lastKey, from.Start[:n-1]...)
	}
	before := w.Looked
	rec := kv.ScannedRecord{ID: id}
	more, err := w.record(id, from, false, &rec.Items)
	if err != nil {
		return false, err
	}
	if w.Items > items {
		page.Records = append(page.Records, rec)
	} else {
		w.Bytes = bytesBefore
	}
	if !more || w.Looked-before > 1 {
		page.LastID, page.LastKey = id, bytes.Clone(w.lastKey)
	}
	return !more, nil
}
