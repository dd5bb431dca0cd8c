package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// walk collects a page from an iterator, within its limits.
type walk struct {
	kv.Pager
	p       wal.Partition
	view    *pebble.Iterator
	lastKey []byte
}

func newWalk(ctx context.Context, p wal.Partition, limits kv.PageLimits) *walk {
	w := &walk{Pager: kv.NewPager(ctx, limits), p: p}
	w.Assemble = func(it *kv.StoredItem) error { return assemble(w.view, w.p, it) }
	return w
}

// cell reads the cell that view is at; ok when a reader sees it.
func (w *walk) cell(cov *cover, key []byte) (c cell, ok bool, err error) {
	raw, err := w.view.ValueAndErr()
	if err != nil {
		return c, false, err
	}
	if c, err = parseCell(raw); err != nil || !c.visible(w.Now) {
		return c, false, err
	}
	hidden, err := cov.hides(key, raw)
	return c, !hidden, err
}

// record walks the items of a record in r and takes those that are visible.
// more says that it ended before the end.
func (w *walk) record(id []byte, r *kv.Range, descending bool, items *[]kv.StoredItem) (more bool, err error) {
	cov, err := openCover(w.view, w.p, id)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, cov.close()) }()
	return w.stretch(&cov, r, descending, items)
}

// stretches is record over parts of it, which are in order. The view does not go
// where none of them is.
func (w *walk) stretches(id []byte, parts []kv.Range, descending bool, items *[]kv.StoredItem) (more bool, err error) {
	cov, err := openCover(w.view, w.p, id)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, cov.close()) }()
	if descending {
		slices.Reverse(parts)
	}
	for i := range parts {
		r := &parts[i]
		hi := recordKey(w.p, id, kindEnd, 0)
		if !r.Open {
			hi = appendItemKey(nil, w.p, id, r.End)
		}
		w.view.SetBounds(appendItemKey(nil, w.p, id, r.Start), hi)
		if more, err = w.stretch(&cov, r, descending, items); more || err != nil {
			return more, err
		}
	}
	return false, nil
}

// stretch walks the items of cov's record in r.
func (w *walk) stretch(cov *cover, r *kv.Range, descending bool, items *[]kv.StoredItem) (more bool, err error) {
	id := cov.id
	prefix := recordKey(w.p, id, kindItem, len(r.Start))
	var ok bool
	switch {
	case !descending:
		ok = w.view.SeekGE(append(prefix, r.Start...))
	case r.Open:
		ok = w.view.SeekLT(recordKey(w.p, id, kindEnd, 0))
	default:
		ok = w.view.SeekLT(append(recordKey(w.p, id, kindItem, len(r.End)), r.End...))
	}
	for ok {
		k := w.view.Key()
		if !bytes.HasPrefix(k, prefix) {
			break
		}
		key := k[len(prefix):]
		if descending && bytes.Compare(key, r.Start) < 0 || !descending && !r.Open && bytes.Compare(key, r.End) >= 0 {
			break
		}
		stop, err := w.Tick()
		if err != nil {
			return false, err
		}
		if stop {
			return true, nil
		}
		c, visible, err := w.cell(cov, key)
		if err != nil {
			return false, err
		}
		if visible {
			if !w.Fits(key, &c.Cell) {
				return true, nil
			}
			if err := w.Take(key, c.version, &c.Cell, items); errors.Is(err, kv.ErrFull) {
				return true, nil
			} else if err != nil {
				return false, err
			}
		}
		w.lastKey = append(w.lastKey[:0], key...)
		if descending {
			ok = w.view.Prev()
		} else {
			ok = w.view.Next()
		}
	}
	return false, w.view.Error()
}
