package timeseries

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Compare finds where two snapshots of a partition, as of one position, are not what a
// reader at now would see alike: events and their items. open says which slices are read.
// looked is told how many events were compared since the last call.
func Compare(ctx context.Context, p wal.Partition, a, b Snapshot, open OpenSlices, r *consumers.Report, looked func(n int64)) error {
	x, y := newWalk(ctx, a, open), newWalk(ctx, b, open)
	defer x.stop()
	defer y.stop()
	x.step()
	y.step()
	for n := int64(1); x.ok || y.ok; n++ {
		switch c := x.compare(y); {
		case c < 0:
			r.Differ(p, x.name(), "the PRIMARY has it, the other store has not")
			x.step()
		case c > 0:
			r.Differ(p, y.name(), "the other store has it, the PRIMARY has not")
			y.step()
		default:
			if !bytes.Equal(x.items, y.items) {
				r.Differ(p, x.name(), "it has other items")
			}
			x.step()
			y.step()
		}
		r.Items++
		if n%4096 == 0 {
			looked(4096)
		}
	}
	return errors.Join(x.err, y.err)
}

// walk is a snapshot event by event.
type walk struct {
	slice int64 // start of that of event
	next  func() (*Event, bool)
	stop  func()
	err   error
	ok    bool
	event *Event
	items []byte
}

func newWalk(ctx context.Context, v Snapshot, open OpenSlices) *walk {
	w := &walk{}
	w.next, w.stop = iter.Pull(func(yield func(*Event) bool) {
		w.err = v.Scan(ctx, open, func(in Slice, e *Event) error {
			if w.slice = in.Start; !yield(e) {
				return errStopped
			}
			return nil
		})
	})
	return w
}

var errStopped = errors.New("the walk was given up")

func (w *walk) step() {
	if w.event, w.ok = w.next(); w.ok {
		w.items = AppendItems(w.items[:0], w.event.Items)
	}
}

// compare orders the events at hand of two walks as Scan does. One that is at its end is
// behind all.
func (w *walk) compare(o *walk) int {
	switch {
	case !w.ok:
		return 1
	case !o.ok:
		return -1
	}
	return cmp.Or(cmp.Compare(w.slice, o.slice), cmp.Compare(len(w.event.Series), len(o.event.Series)), bytes.Compare(w.event.Series, o.event.Series),
		-cmp.Compare(w.event.Time, o.event.Time), bytes.Compare(w.event.ID, o.event.ID))
}

func (w *walk) name() string {
	return fmt.Sprintf("%q at %d, id %q", w.event.Series, w.event.Time, w.event.ID)
}
