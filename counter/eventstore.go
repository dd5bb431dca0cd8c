package counter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// EventStore keeps the events of a namespace elsewhere than in the rows of its Store. Example: a
// store of role EVENTS has its counters on this machine, and their events in ClickHouse. It is
// written by the applier of each partition; everything else may be called at any time by anyone.
// What another server has may fail with consumers.ErrStoreAway, which passes.
type EventStore interface {
	// SaveEvents returns when the events are durable. Those that are there already, as after a
	// crash between it and the commit of the store, change nothing.
	SaveEvents(ctx context.Context, p wal.Partition, b *EventBlock) error

	// SumEvents merges the events of a life whose records lie above after, up to and including
	// upTo, in the order of their decision. Events counts those from the last clear on, where there
	// is one.
	SumEvents(ctx context.Context, p wal.Partition, id uint64, after, upTo wal.Offset) (Base, error)

	// BucketEvents calls f with what the adds and settlements of a life come to, by spans of
	// r.Size counted from 1970, in no order.
	BucketEvents(ctx context.Context, p wal.Partition, r *BucketRequest, f func(start int64, b Bucket)) error

	// FoldEvents merges the oldest events of each life, of whole records above r.After.
	FoldEvents(ctx context.Context, p wal.Partition, r *FoldRequest) (Folded, error)

	// DropEvents frees the events of records up to and including o, now or later: they are in bases,
	// and are not asked for again.
	DropEvents(ctx context.Context, p wal.Partition, o wal.Offset) error
}

// BucketRequest says which events of a life are summed, and by which spans.
type BucketRequest struct {
	ID          uint64
	After, UpTo wal.Offset // of records: After < o <= UpTo
	From, To    int64      // event time, microseconds since 1970: From <= t < To
	Size        int64      // of a span, microseconds
}

// FoldRequest says which events go into bases.
type FoldRequest struct {
	After, UpTo wal.Offset // of records: After < o <= UpTo
	Before      int64      // log time, microseconds since 1970: records that were logged before it
	Limit       int        // events, about
}

// Folded is what a fold comes to.
type Folded struct {
	// UpTo is the last record of it, wal.NoOffset where there was none to fold.
	UpTo  wal.Offset
	Bases map[uint64]Base
	More  bool // there may be more
}

// EventBlock is the events of one partition that a flush saves.
type EventBlock struct {
	rows  rowLog
	names map[uint64]string // of the lives
}

// Add appends the events of a record, whose counters have names. Records come in their order.
func (b *EventBlock) Add(row *EventRow, names []string, events []Event) {
	if b.names == nil {
		b.names = make(map[uint64]string)
	}
	start := len(b.rows.buf)
	b.rows.buf = appendEventHead(b.rows.buf, row)
	for i := range events {
		b.rows.buf = appendEvent(b.rows.buf, row, &events[i])
		b.names[events[i].ID] = names[i]
	}
	b.rows.rows = append(b.rows.rows, span{offset: row.Offset, start: start, end: len(b.rows.buf)})
}

// Empty reports whether there are none.
func (b *EventBlock) Empty() bool { return len(b.rows.rows) == 0 }

// Each calls f with each event in the order of decision: the counter's name, the record, and
// which of its events it is. wal.ErrCorrupt.
func (b *EventBlock) Each(f func(name string, row *EventRow, index int, e *Event) error) error {
	for _, s := range b.rows.rows {
		rd, err := NewEventReader(s.offset, b.rows.buf[s.start:s.end])
		if err != nil {
			return err
		}
		var e Event
		for i := 0; ; i++ {
			ok, err := rd.Next(&e)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			name, known := b.names[e.ID]
			if !known {
				return fmt.Errorf("%w: event %d of record %d is of life %d, which nobody has", wal.ErrCorrupt, i, s.offset, e.ID)
			}
			if err := f(name, &rd.Row, i, &e); err != nil {
				return err
			}
		}
	}
	return nil
}

// MoveEvents moves the events of a partition from the rows of a store, whose snapshot is snap, to
// another place, so many at once. The store is not used meanwhile. Lives that are over have no name.
func MoveEvents(ctx context.Context, p wal.Partition, snap Snapshot, from Store, to EventStore, atOnce int) error {
	st := snap.State()
	for next := st.Folded + 1; ; {
		b := &EventBlock{names: make(map[uint64]string)}
		events, last := 0, wal.NoOffset
		var bad error
		err := snap.EventsFrom(next, func(o wal.Offset, row []byte) bool {
			start := len(b.rows.buf)
			b.rows.buf = append(b.rows.buf, row...)
			b.rows.rows = append(b.rows.rows, span{offset: o, start: start, end: len(b.rows.buf)})
			rd, err := NewEventReader(o, row)
			var e Event
			for ok := err == nil; ok; {
				if ok, err = rd.Next(&e); ok {
					b.names[e.ID] = ""
					events++
				}
			}
			bad, last = err, o
			return bad == nil && events < atOnce
		})
		if err = errors.Join(err, bad); err != nil {
			return err
		}
		if b.Empty() {
			break
		}
		err = snap.List(nil, nil, func(name []byte, r *Row) bool {
			if _, wanted := b.names[r.ID]; wanted {
				b.names[r.ID] = string(name)
			}
			return true
		})
		if err != nil {
			return err
		}
		if err := to.SaveEvents(ctx, p, b); err != nil {
			return err
		}
		next = last + 1
	}
	b := from.Begin(p)
	defer b.Abort()
	b.DropEvents(st.Applied)
	return b.Commit(ctx, st)
}

// Fold says which events a sweep folds.
type Fold struct {
	// Retention: events of records that were logged longer ago are folded; 0: none by age.
	Retention time.Duration
	// UpTo: no record above it is, as of a store of role EVENTS that has not come further.
	// math.MaxInt64 where there is no bound.
	UpTo wal.Offset
	// AtOnce folds what lies up to UpTo whatever its age: another store has it.
	AtOnce bool
}

// request is the fold of a partition above after, at a log time; nil: nothing is due.
func (f *Fold) request(after wal.Offset, logTime int64, limit int) *FoldRequest {
	r := &FoldRequest{After: after, UpTo: f.UpTo, Before: math.MaxInt64, Limit: limit}
	switch {
	case f.UpTo <= after:
		return nil
	case f.AtOnce:
	case f.Retention == 0:
		return nil
	default:
		r.Before = logTime - f.Retention.Microseconds()
	}
	return r
}

// foldRows is EventStore.FoldEvents over the rows of a snapshot.
func foldRows(snap Snapshot, r *FoldRequest) (Folded, error) {
	f := Folded{UpTo: wal.NoOffset, Bases: make(map[uint64]Base)}
	rows, bytes := 0, 0
	var bad error
	err := snap.EventsFrom(r.After+1, func(o wal.Offset, row []byte) bool {
		rd, rerr := NewEventReader(o, row)
		if rerr != nil {
			bad = rerr
			return false
		}
		if rd.Row.LogTime >= r.Before || o > r.UpTo {
			return false
		}
		if bad = foldRow(rd, f.Bases); bad != nil {
			return false
		}
		f.UpTo = o
		rows, bytes = rows+1, bytes+len(row)
		f.More = rows >= r.Limit || bytes >= 1<<20
		return !f.More
	})
	return f, errors.Join(err, bad)
}

// foldRow adds the events of a row to the bases.
func foldRow(rd *EventReader, bases map[uint64]Base) error {
	var e Event
	for {
		ok, err := rd.Next(&e)
		if err != nil || !ok {
			return err
		}
		b := bases[e.ID]
		b.Merge(Base{Cleared: e.Kind == EventClear, Sum: e.Delta, Events: 1})
		bases[e.ID] = b
	}
}
