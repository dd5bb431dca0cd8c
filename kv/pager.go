package kv

import (
	"context"
	"slices"
	"time"

	"github.com/headwater-db/headwater/wal"
)

const (
	// deadlineEvery is how many keys are looked at between two looks at the
	// clock; so many are looked at even when the deadline is past.
	deadlineEvery = 64
	// maxLooked bounds the work of a page over keys that nobody sees.
	maxLooked = 1 << 18
	// maxItemsAtOnce bounds how many items memory is taken for in one go.
	maxItemsAtOnce = 1 << 15
)

// PageLimits are what bounds a page, see Query and ScanQuery, which have the same.
type PageLimits struct {
	Now         int64
	MaxBytes    int
	MaxItems    int // 0: none
	OmitValues  bool
	OmitAbove   int64 // bytes; 0: none
	InlineLimit int64
	Deadline    time.Time
	Each        func(*StoredItem) error // nil: items are copied out
}

// Limits are those of the page that q asks for.
func (q *Query) Limits() PageLimits {
	return PageLimits{
		Now: q.Now, MaxBytes: q.MaxBytes, MaxItems: q.ItemLimit, OmitValues: q.OmitValues, OmitAbove: q.OmitAbove, InlineLimit: q.InlineLimit,
		Deadline: q.Deadline, Each: q.Each,
	}
}

// Limits are those of the page that q asks for.
func (q *ScanQuery) Limits() PageLimits {
	return PageLimits{Now: q.Now, MaxBytes: q.MaxBytes, OmitValues: q.OmitValues, InlineLimit: q.InlineLimit, Deadline: q.Deadline}
}

// Pager collects a page within its limits, for a store that has found the items. A store asks Tick
// before it looks at a key, Fits before it takes an item that is visible, and then takes it.
type Pager struct {
	PageLimits
	// Assemble puts the value of an upload together, for an item whose value is on the page.
	Assemble func(it *StoredItem) error

	Looked  int  // keys
	Items   int  // taken
	Bytes   int  // of these
	Partial bool // ended by the deadline

	ctx  context.Context
	lent StoredItem // what Each is given
	slow bool       // an upload was read: look at the clock
}

// NewPager begins a page.
func NewPager(ctx context.Context, l PageLimits) Pager { return Pager{PageLimits: l, ctx: ctx} }

// Tick counts a key that is about to be looked at. stop says to end the page
// before it.
func (w *Pager) Tick() (stop bool, err error) {
	w.Looked++
	if w.Looked > maxLooked {
		return true, nil
	}
	if w.Looked%deadlineEvery != 0 && !w.slow {
		return false, nil
	}
	w.slow = false
	if w.ctx.Err() != nil {
		return false, context.Cause(w.ctx)
	}
	w.Partial = !w.Deadline.IsZero() && !time.Now().Before(w.Deadline)
	return w.Partial, nil
}

// omits reports whether the cell's value is left out.
func (w *Pager) omits(c *Cell) bool {
	return w.OmitValues || w.OmitAbove != 0 && c.Size() > w.OmitAbove
}

// Inlines reports whether the value of an upload is put together for the page.
func (w *Pager) Inlines(c *Cell) bool {
	return c.IsUpload() && !w.omits(c) && c.Size() <= w.InlineLimit
}

func (w *Pager) cost(key []byte, c *Cell) int {
	n := len(key) + ItemOverhead
	switch {
	case w.omits(c):
	case !c.IsUpload():
		n += len(c.Value)
	case w.Inlines(c):
		n += int(c.Size())
	}
	return n
}

// Fits reports whether the item may still go on the page.
func (w *Pager) Fits(key []byte, c *Cell) bool {
	if w.MaxItems > 0 && w.Items >= w.MaxItems {
		return false
	}
	return w.Items == 0 || w.Bytes+w.cost(key, c) <= w.MaxBytes
}

// Take counts the item and hands it out: to Each, or as a copy on items.
func (w *Pager) Take(key []byte, v wal.Version, c *Cell, items *[]StoredItem) error {
	w.Items++
	w.Bytes += w.cost(key, c)
	it := &w.lent
	if w.Each != nil {
		c.Lend(it, key, v, w.omits(c))
	} else {
		if n := len(*items); n == cap(*items) && n >= 16 {
			// Towards as many as the page will hold if they go on as they began, in
			// steps: most pages end before they are full, and growing by doubling was the
			// dearest part of one that does not.
			*items = slices.Grow(*items, min(n*(w.MaxBytes/w.Bytes), 8*n, maxItemsAtOnce))
		}
		*items = append(*items, c.Copy(key, v, w.omits(c)))
		it = &(*items)[len(*items)-1]
	}
	if w.Inlines(c) {
		w.slow = true
		if err := w.Assemble(it); err != nil {
			return err
		}
	}
	if w.Each != nil {
		return w.Each(it)
	}
	return nil
}
