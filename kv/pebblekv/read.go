package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// found is a cell and the newest tombstone over its key, as of one moment.
type found struct {
	raw     []byte // nil when there is no cell; valid until close
	tomb    [wal.VersionSize]byte
	closers [3]io.Closer
	view    *pebble.Iterator // set when it was needed
}

func (f *found) close() error {
	var err error
	for _, c := range f.closers {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// visible returns the cell if a reader at now sees it.
func (f *found) visible(now int64) (c cell, ok bool, err error) {
	if f.raw == nil {
		return c, false, nil
	}
	if c, err = parseCell(f.raw); err != nil {
		return c, false, err
	}
	return c, c.visible(now) && bytes.Compare(f.raw[:wal.VersionSize], f.tomb[:]) > 0, nil
}

// point reads one key. Two point gets are several times cheaper than an
// iterator, and are used where they show one moment of the store: when no commit
// that carries deletes ran between them. A record without a mark needs one.
func (s *Store) point(part *partition, id, key []byte) (f found, err error) {
	before := part.removals.Load()
	if before&1 != 0 {
		return s.pointView(part.id, id, key)
	}
	var buf [256]byte
	marked := part.marks.may(id)
	itemKey := appendItemKey(buf[:0], part.id, id, key)
	raw, c, err := s.DB.Get(itemKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return f, err
	default:
		if len(raw) < wal.VersionSize {
			return f, errors.Join(kv.ErrBadCell, c.Close())
		}
		f.raw, f.closers[0] = raw, c
	}
	var sum summary
	if marked {
		itemKey = itemKey[:headerLen+len(id)+1]
		itemKey[len(itemKey)-1] = kindSummary
		if sum, err = s.summary(itemKey); err != nil {
			return found{}, errors.Join(err, f.close())
		}
	}
	f.tomb = sum.record
	ranges := sum.hasRanges() && (f.raw == nil || bytes.Compare(f.raw[:wal.VersionSize], sum.ranges[:]) <= 0)
	if ranges || part.removals.Load() != before {
		if err := f.close(); err != nil {
			return found{}, err
		}
		return s.pointView(part.id, id, key)
	}
	return f, nil
}

// summary reads what tombstones a record has, none being all zero.
func (s *Store) summary(key []byte) (sum summary, err error) {
	v, c, err := s.DB.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return sum, nil
	}
	if err != nil {
		return sum, err
	}
	sum, err = parseSummary(v)
	return sum, errors.Join(err, c.Close())
}

// pointView reads one key through an iterator.
func (s *Store) pointView(p wal.Partition, id, key []byte) (f found, err error) {
	view, err := s.recordView(p, id)
	if err != nil {
		return f, err
	}
	f.view, f.closers[2] = view, view
	cov, err := openCover(view, p, id)
	if err != nil {
		return found{}, errors.Join(err, f.close())
	}
	f.tomb, err = cov.at(key)
	if err = errors.Join(err, cov.close()); err != nil {
		return found{}, errors.Join(err, f.close())
	}
	itemKey := appendItemKey(nil, p, id, key)
	if view.SeekPrefixGE(itemKey) && bytes.Equal(view.Key(), itemKey) {
		if f.raw, err = view.ValueAndErr(); err == nil && len(f.raw) < wal.VersionSize {
			err = kv.ErrBadCell
		}
	}
	if err = errors.Join(err, view.Error()); err != nil {
		return found{}, errors.Join(err, f.close())
	}
	return f, nil
}

// recordView opens an iterator over everything of a record.
func (s *Store) recordView(p wal.Partition, id []byte) (*pebble.Iterator, error) {
	return s.DB.NewIter(&pebble.IterOptions{
		LowerBound: recordKey(p, id, kindSummary, 0),
		UpperBound: recordKey(p, id, kindEnd, 0),
	})
}

// Item implements kv.Store.
func (s *Store) Item(ctx context.Context, p wal.Partition, id, key []byte, now int64) (it kv.StoredItem, newest wal.Version, ok bool, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return it, newest, false, err
	}
	defer s.Leave()
	part := s.parts[p]
	it, newest, ok, err = s.item(part, id, key, now)
	if err != nil {
		return kv.StoredItem{}, wal.Version{}, false, s.DB.ReadError("read item", p, err)
	}
	return it, newest, ok, nil
}

func (s *Store) item(part *partition, id, key []byte, now int64) (it kv.StoredItem, newest wal.Version, ok bool, err error) {
	if len(id) > maxIDLen {
		return it, newest, false, nil
	}
	f, err := s.point(part, id, key)
	if err != nil {
		return it, newest, false, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if newest, err = version(f.tomb); err != nil {
		return it, newest, false, err
	}
	c, ok, err := f.visible(now)
	if err != nil {
		return it, newest, false, err
	}
	if f.raw != nil && bytes.Compare(f.raw[:wal.VersionSize], f.tomb[:]) > 0 {
		newest = c.version
	}
	if ok {
		it = c.Copy(key, c.version, false)
	}
	return it, newest, ok, nil
}

// Get implements kv.Store.
func (s *Store) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	part := s.parts[q.Partition]
	if len(q.ID) > maxIDLen {
		return nil, fmt.Errorf("read record: id of %d bytes, at most %d", len(q.ID), maxIDLen)
	}
	w := newWalk(ctx, q.Partition, q.Limits())
	var page *kv.Page
	var err error
	switch {
	case q.HasKeys && q.AfterIndex == len(q.Keys)-1:
		page, err = s.getKey(w, part, q)
	case q.HasKeys:
		page, err = s.getKeys(w, q)
	default:
		page, err = s.getRange(w, part, q)
	}
	if err != nil {
		return nil, s.DB.ReadError("read record", q.Partition, err)
	}
	return page, nil
}

// getKey reads the last key that is asked for.
func (s *Store) getKey(w *walk, part *partition, q *kv.Query) (page *kv.Page, err error) {
	key := q.Keys[q.AfterIndex]
	f, err := s.point(part, q.ID, key)
	if err != nil {
		return nil, err
	}
	c, ok, err := f.visible(q.Now)
	if ok && f.view == nil && w.Inlines(&c.Cell) {
		// The chunks must be of the same moment as the cell that names them.
		if err = f.close(); err != nil {
			return nil, err
		}
		if f, err = s.pointView(part.id, q.ID, key); err != nil {
			return nil, err
		}
		c, ok, err = f.visible(q.Now)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err != nil {
		return nil, err
	}
	page = &kv.Page{NextIndex: len(q.Keys), LastKey: bytes.Clone(key)}
	if ok {
		w.view = f.view
		if err := w.Take(key, c.version, &c.Cell, &page.Items); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// getKeys reads keys in the order they are asked for.
func (s *Store) getKeys(w *walk, q *kv.Query) (page *kv.Page, err error) {
	page = &kv.Page{NextIndex: max(q.AfterIndex, 0)}
	if page.NextIndex >= len(q.Keys) {
		return page, nil
	}
	if w.view, err = s.recordView(q.Partition, q.ID); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.view.Close()) }()
	cov, err := openCover(w.view, q.Partition, q.ID)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cov.close()) }()
	var itemKey []byte
	for i := page.NextIndex; i < len(q.Keys); i++ {
		stop, err := w.Tick()
		if err != nil {
			return nil, err
		}
		if stop {
			page.More, page.Partial = true, w.Partial
			return page, nil
		}
		key := q.Keys[i]
		itemKey = appendItemKey(itemKey[:0], q.Partition, q.ID, key)
		if w.view.SeekPrefixGE(itemKey) && bytes.Equal(w.view.Key(), itemKey) {
			c, ok, err := w.cell(&cov, key)
			if err != nil {
				return nil, err
			}
			if ok && !w.Fits(key, &c.Cell) {
				page.More = true
				return page, nil
			}
			if ok {
				if err := w.Take(key, c.version, &c.Cell, &page.Items); errors.Is(err, kv.ErrFull) {
					page.More = true
					return page, nil
				} else if err != nil {
					return nil, err
				}
			}
		} else if err := w.view.Error(); err != nil {
			return nil, err
		}
		page.NextIndex, page.LastKey = i+1, append(page.LastKey[:0], key...)
	}
	return page, nil
}

// getRange reads a stretch of the record.
func (s *Store) getRange(w *walk, part *partition, q *kv.Query) (page *kv.Page, err error) {
	r := q.Rest()
	page = &kv.Page{}
	if r.Empty() {
		return page, nil
	}
	deletes := part.gone.before(q.ID)
	if w.view, err = s.recordView(q.Partition, q.ID); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.view.Close()) }()
	if len(deletes) == 0 {
		page.More, err = w.record(q.ID, &r, q.Descending, &page.Items)
	} else if parts := part.gone.left(deletes, &r); len(parts) > 0 {
		page.More, err = w.stretches(q.ID, parts, q.Descending, &page.Items)
	}
	page.LastKey, page.Partial = w.lastKey, w.Partial
	return page, err
}
