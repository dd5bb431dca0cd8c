package cassandrakv

import (
	"bytes"
	"context"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// Scan implements kv.Store. Records come by the length of their id, then by id.
// On the page an id counts its length beside its items.
func (s *Store) Scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	return unmoved(false, func() (*kv.ScanPage, error) { return s.scan(ctx, q) })
}

func (s *reader) scan(ctx context.Context, q *kv.ScanQuery) (*kv.ScanPage, error) {
	w := s.newPager(ctx, q.Partition, q.Limits())
	page := &kv.ScanPage{}
	var ids *indexWalk
	var ahead []*aheadRecord
	if q.HasAfter {
		if len(q.AfterID) > maxIDLen {
			return page, nil
		}
		page.LastID, page.LastKey = bytes.Clone(q.AfterID), bytes.Clone(q.AfterKey)
		ids = s.newIndexWalk(q.Partition, bytes.Clone(q.AfterID))
		begin := kv.Range{Open: true, Start: append(append(make([]byte, 0, len(q.AfterKey)+1), q.AfterKey...), 0)}
		if q.Share.Has(q.AfterID) {
			ahead = append(ahead, &aheadRecord{id: bytes.Clone(q.AfterID), within: begin})
		}
	} else {
		ids = s.newIndexWalk(q.Partition, nil)
	}
	for {
		if len(ahead) == 0 {
			var err error
			if ahead, err = w.readAhead(ids, q.Share); err != nil {
				return nil, err
			}
			if len(ahead) == 0 {
				return page, nil
			}
		}
		more, err := w.scanRecord(page, ahead[0])
		if err != nil {
			return nil, err
		}
		if more {
			page.More, page.Partial = true, w.Partial
			return page, nil
		}
		ahead = ahead[1:]
	}
}

// aheadRecord is a record of which the first rows were read already.
type aheadRecord struct {
	id     []byte
	within kv.Range
	read   bool
	rows   []row
	ended  bool // rows are all
}

const (
	// recordsAhead is how many records are read side by side: most are small.
	recordsAhead = 64
	// rowsAhead is how many of their rows.
	rowsAhead = 16
)

// readAhead reads the first rows of the next records of a share.
func (w *pager) readAhead(ids *indexWalk, share kv.Share) (all []*aheadRecord, err error) {
	for range min(recordsAhead, max(w.rows(), 1)) {
		id, err := ids.next(w.ctx)
		if err != nil {
			return nil, err
		}
		for id != nil && !share.Has(id) {
			if id, err = ids.next(w.ctx); err != nil {
				return nil, err
			}
		}
		if id == nil {
			break
		}
		all = append(all, &aheadRecord{id: id, within: kv.Range{Open: true}})
	}
	if len(all) == 0 {
		return nil, nil
	}
	g := newGroup(w.ctx)
	for _, r := range all {
		g.run(func(ctx context.Context) error { return w.s.readFirst(ctx, w.p, r) })
	}
	return all, g.wait()
}

func (s *reader) readFirst(ctx context.Context, p wal.Partition, r *aheadRecord) error {
	r.read = true
	q := statementOf(s, p, r.id)
	q.CQL += " LIMIT ?"
	q.Args = append(q.Args, rowsAhead)
	n := 0
	err := s.rows.Query(ctx, "read a record", q, rowsAhead, func(scan func(dest ...any) error) (bool, error) {
		x, ok, err := scanRow(scan)
		if ok {
			r.rows = append(r.rows, x)
		}
		n++
		return true, err
	})
	r.ended = n < rowsAhead
	return err
}

// scanRecord adds what is visible of a record. more says that the page ended before its end.
func (w *pager) scanRecord(page *kv.ScanPage, r *aheadRecord) (more bool, err error) {
	if w.Items > 0 && w.Bytes+len(r.id)+kv.ItemOverhead > w.MaxBytes {
		return true, nil
	}
	items, bytesBefore, looked := w.Items, w.Bytes, w.Looked
	w.Bytes += len(r.id)
	w.lastKey = w.lastKey[:0]
	if n := len(r.within.Start); n > 0 {
		w.lastKey = append(w.lastKey, r.within.Start[:n-1]...)
	}
	rec := kv.ScannedRecord{ID: r.id}
	for i := 0; i < len(r.rows) && !more; i++ {
		if more, err = w.take(&r.rows[i], &rec.Items); err != nil {
			return false, err
		}
	}
	if !more && !r.ended {
		rest := r.within
		if n := len(r.rows); n > 0 {
			rest.Start = append(append([]byte{}, r.rows[n-1].key...), 0)
		}
		if more, err = w.stretch(r.id, &rest, false, &rec.Items); err != nil {
			return false, err
		}
	}
	if w.Items > items {
		page.Records = append(page.Records, rec)
	} else {
		w.Bytes = bytesBefore
	}
	if !more || w.Looked-looked > 1 {
		page.LastID, page.LastKey = r.id, bytes.Clone(w.lastKey)
	}
	if !more && w.Looked == looked { // a record with nothing left costs a look, too
		more, err = w.Tick()
	}
	return more, err
}
