package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const (
	// deadlineEvery is how many keys are looked at between two looks at the
	// clock; so many are looked at even when the deadline is past.
	deadlineEvery = 64
	// maxLooked bounds the work of a page over keys that nobody sees.
	maxLooked = 1 << 18
)

// walk collects a page from an iterator, within its limits.
type walk struct {
	ctx         context.Context
	p           wal.Partition
	view        *pebble.Iterator
	now         int64
	maxBytes    int
	maxItems    int
	omitValues  bool
	omitAbove   int64 // bytes; 0: none
	inlineLimit int64
	deadline    time.Time
	each        func(*kv.StoredItem) error // nil: items are copied out
	lent        kv.StoredItem              // what each is given

	looked  int
	items   int
	bytes   int
	slow    bool // an upload was read: look at the clock
	partial bool
	lastKey []byte
}

// maxItemsAtOnce bounds how many items memory is taken for in one go.
const maxItemsAtOnce = 1 << 15

// tick counts a key that is about to be looked at. stop says to end the page
// before it.
func (w *walk) tick() (stop bool, err error) {
	w.looked++
	if w.looked > maxLooked {
		return true, nil
	}
	if w.looked%deadlineEvery != 0 && !w.slow {
		return false, nil
	}
	w.slow = false
	if w.ctx.Err() != nil {
		return false, context.Cause(w.ctx)
	}
	w.partial = !w.deadline.IsZero() && !time.Now().Before(w.deadline)
	return w.partial, nil
}

// cell reads the cell that view is at; ok when a reader sees it.
func (w *walk) cell(cov *cover, key []byte) (c cell, ok bool, err error) {
	raw, err := w.view.ValueAndErr()
	if err != nil {
		return c, false, err
	}
	if c, err = parseCell(raw); err != nil || !c.visible(w.now) {
		return c, false, err
	}
	hidden, err := cov.hides(key, raw)
	return c, !hidden, err
}

// omits reports whether the cell's value is left out.
func (w *walk) omits(c *cell) bool {
	return w.omitValues || w.omitAbove != 0 && c.size() > w.omitAbove
}

func (w *walk) inlines(c *cell) bool {
	return c.upload != nil && !w.omits(c) && c.size() <= w.inlineLimit
}

func (w *walk) cost(keyLen int, c *cell) int {
	n := keyLen + kv.ItemOverhead
	switch {
	case w.omits(c):
	case c.upload == nil:
		n += len(c.value)
	case w.inlines(c):
		n += int(c.size())
	}
	return n
}

// fits reports whether the item may still go on the page.
func (w *walk) fits(keyLen int, c *cell) bool {
	if w.maxItems > 0 && w.items >= w.maxItems {
		return false
	}
	return w.items == 0 || w.bytes+w.cost(keyLen, c) <= w.maxBytes
}

// take counts the item and hands it out: to each, or as a copy on items.
func (w *walk) take(key []byte, c *cell, items *[]kv.StoredItem) error {
	w.items++
	w.bytes += w.cost(len(key), c)
	it := &w.lent
	if w.each != nil {
		c.lend(it, key, w.omits(c))
	} else {
		if n := len(*items); n == cap(*items) && n >= 16 {
			// Towards as many as the page will hold if they go on as they began, in
			// steps: most pages end before they are full, and growing by doubling was the
			// dearest part of one that does not.
			*items = slices.Grow(*items, min(n*(w.maxBytes/w.bytes), 8*n, maxItemsAtOnce))
		}
		*items = append(*items, c.item(key, w.omits(c)))
		it = &(*items)[len(*items)-1]
	}
	if w.inlines(c) {
		w.slow = true
		if err := assemble(w.view, w.p, it); err != nil {
			return err
		}
	}
	if w.each != nil {
		return w.each(it)
	}
	return nil
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
		stop, err := w.tick()
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
			if !w.fits(len(key), &c) {
				return true, nil
			}
			if err := w.take(key, &c, items); errors.Is(err, kv.ErrFull) {
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
